"""The Open Inference Protocol: what a request may say, what is refused, and what a reply says."""

import json
import struct
from math import prod

import numpy as np
import pytest
import torch
from torch import nn

import kit
from kit.serving import inference_protocol as protocol
from kit.serving.refusals import RequestRefused
from kit.serving.served_model import DATATYPES, ServedModel, TensorSpec, served

ROWS = 8  # fit into a batch


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return served(kit.models.MLP(), {"input": np.zeros((1, 64), np.float32)}, name="digits")


def echo(**datatypes: str) -> ServedModel:
    """A model that gives back what it gets: one row of three numbers of each datatype."""
    specs = tuple(TensorSpec(name, kind, (-1, 3)) for name, kind in datatypes.items())
    example = {spec.name: np.zeros((1, 3), spec.dtype) for spec in specs}
    return ServedModel("echo", "python", specs, specs, example, dict, nn.Identity())


def request(data, shape=(1, 64), datatype="FP32", name="input", **more) -> dict:
    part = {"name": name, "shape": list(shape), "datatype": datatype, "data": data}
    return {"inputs": [part], **more}


def parsed(model, asked, raw: bytes = b"", length: bytes | None = None):
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    if raw or length:
        length = length or b"%d" % len(body)
    return protocol.parse(model, body + raw, length, ROWS)


def binary(arrays: dict[str, np.ndarray], **more):
    """A request with raw tensors, as Triton's client writes it."""
    names = {dtype: name for name, dtype in DATATYPES.items()}
    parts = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": names[array.dtype],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    return {"inputs": parts, **more}, b"".join(array.tobytes() for array in arrays.values())


# --- What is taken -------------------------------------------------------------------------------


def test_numbers_come_flat_or_nested_or_as_bytes(model):
    rows = np.random.default_rng(0).random((2, 64), np.float32)
    flat = parsed(model, request(rows.ravel().tolist(), rows.shape)).arrays["input"]
    nested = parsed(model, request(rows.tolist(), rows.shape)).arrays["input"]
    raw = parsed(model, *binary({"input": rows})).arrays["input"]
    for found in (flat, nested, raw):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_survives_both_ways(datatype):
    dtype = DATATYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = [limits.min, 1, limits.max]
    else:
        values = [0, 1, 1] if dtype.kind == "b" else [0.5, -2, 8]
    array = np.array([values], dtype)
    same = echo(x=datatype)
    for asked in ((request(array.tolist(), (1, 3), datatype, "x"),), binary({"x": array})):
        found = parsed(same, *asked)
        np.testing.assert_array_equal(found.arrays["x"], array)
        body, _ = protocol.reply(same, found.claim, found.arrays)
        told = json.loads(body)["outputs"][0]
        assert told["datatype"] == datatype
        np.testing.assert_array_equal(np.array(told["data"], dtype), array.ravel())


def test_several_raw_inputs_follow_each_other():
    two = echo(a="INT64", b="FP32")
    arrays = {"b": np.ones((2, 3), np.float32), "a": np.arange(6).reshape(2, 3)}
    found = parsed(two, *binary(arrays))
    np.testing.assert_array_equal(found.arrays["a"], arrays["a"])
    np.testing.assert_array_equal(found.arrays["b"], arrays["b"])


def test_the_timeout_is_in_microseconds(model):
    data = [0.0] * 64
    assert parsed(model, request(data)).claim.timeout_s is None
    asked = request(data, parameters={"timeout": 2_500})
    assert parsed(model, asked).claim.timeout_s == pytest.approx(0.0025)


# --- What comes back -----------------------------------------------------------------------------


def test_the_id_comes_back(model):
    found = parsed(model, request([0.0] * 64, id="request 7"))
    told = json.loads(protocol.reply(model, found.claim, model.predict(found.arrays))[0])
    assert told["id"] == "request 7"
    assert told["model_name"] == "digits"
    assert "model_version" not in told  # a server without versions leaves it out


def test_outputs_are_the_models_own(model):
    found = parsed(model, request([0.25] * 128, (2, 64)))
    told = json.loads(protocol.reply(model, found.claim, model.predict(found.arrays))[0])
    expected = kit.predict(model.module, torch.full((2, 64), 0.25))
    assert told["outputs"][0]["shape"] == [2, 10]
    assert told["outputs"][0]["data"] == expected.flatten().tolist()


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "output", "parameters": {"binary_data": True}}]},
    ],
)
def test_outputs_come_as_bytes_if_the_request_asks(model, more):
    found = parsed(model, request([0.25] * 64, **more))
    outputs = model.predict(found.arrays)
    body, headers = protocol.reply(model, found.claim, outputs)
    length = int(dict(headers)[b"inference-header-content-length"])
    told = json.loads(body[:length])["outputs"][0]
    assert told["parameters"]["binary_data_size"] == len(body) - length == 40
    np.testing.assert_array_equal(np.frombuffer(body[length:], np.float32), outputs["output"][0])


def test_json_cannot_hold_nan(model):
    found = parsed(model, request([0.0] * 64))
    bad = {"output": np.full((1, 10), np.nan, np.float32)}
    with pytest.raises(RequestRefused, match="binary") as refused:
        protocol.reply(model, found.claim, bad)
    assert refused.value.status == 500


# --- What is refused -----------------------------------------------------------------------------

ZEROS = [0.0] * 64
HUGE = 2**31 - 1
REFUSED = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe{}",
    "no object": b"[]",
    "nested deeply": b"[" * 100_000,
    "numbers of many digits": b'{"inputs": ' + b"1" * 10_000 + b"}",
    "no inputs": {},
    "inputs that are no list": {"inputs": {}},
    "inputs that are no objects": {"inputs": [1]},
    "no such input": request(ZEROS, name="other"),
    "a name that is a list": request(ZEROS, name=["input"]),
    "a path as the name": request(ZEROS, name="../../etc/passwd"),
    "an input twice": {"inputs": request(ZEROS)["inputs"] * 2},
    "an empty list of inputs": {"inputs": []},
    "another datatype": request(ZEROS, datatype="FP64"),
    "no datatype": request(ZEROS, datatype=None),
    "another shape": request(ZEROS, (64, 1)),
    "a shape of text": request(ZEROS, "64"),
    "a negative size": request(ZEROS, (-1, 64)),
    "no rows": request([], (0, 64)),
    "a size that is true": request(ZEROS, (True, 64)),
    "a huge claim": request(ZEROS, (HUGE, 64)),
    "too many rows": request(ZEROS * (ROWS + 1), (ROWS + 1, 64)),
    "too few numbers": request(ZEROS[1:]),
    "too many numbers": request([*ZEROS, 0.0]),
    "no data": request(None),
    "data as text": request("0" * 64),
    "a text among numbers": request([*ZEROS[1:], "0"]),
    "null among numbers": request([*ZEROS[1:], None]),
    "lists of different lengths": request([[0.0] * 63, [0.0]], (1, 64)),
    "lists too deep": request([[ZEROS]]),
    "NaN": json.dumps(request(ZEROS)).replace("0.0", "NaN", 1).encode(),
    "1e999": json.dumps(request(ZEROS)).replace("0.0", "1e999", 1).encode(),
    "too large for float32": request([*ZEROS[1:], 1e300]),
    "an id that is a number": request(ZEROS, id=7),
    "a long id": request(ZEROS, id="x" * 1_000),
    "a timeout of 0": request(ZEROS, parameters={"timeout": 0}),
    "a timeout as text": request(ZEROS, parameters={"timeout": "1"}),
    "parameters as a list": request(ZEROS, parameters=[]),
    "no such output": request(ZEROS, outputs=[{"name": "hidden"}]),
    "outputs that are no objects": request(ZEROS, outputs=["output"]),
    "the same output twice": request(ZEROS, outputs=[{"name": "output"}] * 2),
    "classification": request(
        ZEROS, outputs=[{"name": "output", "parameters": {"classification": 3}}]
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_request_is_refused_with_a_sentence(model, what):
    with pytest.raises(RequestRefused) as refused:
        parsed(model, REFUSED[what])
    assert refused.value.status == 400
    assert 10 < len(refused.value.message) < 300


def raw_request(size: object, shape=(1, 64)) -> dict:
    part = {"name": "input", "shape": list(shape), "datatype": "FP32"}
    return {"inputs": [{**part, "parameters": {"binary_data_size": size}}]}


@pytest.mark.parametrize(
    ("asked", "raw", "length"),
    [
        (raw_request(256), b"", b"999999"),  # the JSON is longer than the body
        (raw_request(256), b"\0" * 256, b"-1"),
        (raw_request(256), b"\0" * 256, b"9" * 30),
        (raw_request(256), b"\0" * 255, None),  # a byte is missing
        (raw_request(256), b"\0" * 257, None),  # a byte is left
        (raw_request(257), b"\0" * 257, None),
        (raw_request("256"), b"\0" * 256, None),
        (raw_request(-256), b"\0" * 256, None),
        (raw_request(4 * 64 * HUGE, (HUGE, 64)), b"\0" * 256, None),  # 512 GiB
        (raw_request(256), struct.pack("64f", *[float("nan")] * 64), None),
        (raw_request(256), struct.pack("64f", *[float("-inf")] * 64), None),
    ],
)
def test_wrong_bytes_are_refused(model, asked, raw, length):
    with pytest.raises(RequestRefused) as refused:
        parsed(model, asked, raw, length)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [0, 0, 128]),
        ("UINT8", [0, 0, -1]),
        ("INT64", [0, 0, 2**63]),
        ("INT64", [0, 0, 1.5]),
        ("UINT64", [0, 0, -1]),
        ("BOOL", [0, 1, 1]),
        ("FP16", [0, 0, 70_000]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(datatype, data):
    with pytest.raises(RequestRefused, match="input 'x'"):
        parsed(echo(x=datatype), request(data, (1, 3), datatype, "x"))


def test_a_byte_that_is_no_boolean_is_refused():
    asked, _ = binary({"x": np.zeros((1, 3), np.bool_)})
    with pytest.raises(RequestRefused, match="BOOL"):
        parsed(echo(x="BOOL"), asked, b"\0\1\2")


def test_inputs_need_the_same_number_of_rows():
    arrays = {"a": np.zeros((1, 3), np.float32), "b": np.zeros((2, 3), np.float32)}
    with pytest.raises(RequestRefused, match=r"\[1, 2\] rows"):
        parsed(echo(a="FP32", b="FP32"), *binary(arrays))


def test_a_missing_input_is_named():
    with pytest.raises(RequestRefused, match="b"):
        parsed(echo(a="FP32", b="FP32"), *binary({"a": np.zeros((1, 3), np.float32)}))


# --- Models --------------------------------------------------------------------------------------


def test_what_changes_with_the_inputs_has_any_size():
    text = served(kit.models.GPT(), {"input": np.ones((1, 8), np.int64)})
    assert text.inputs[0].shape == (-1, -1)
    assert text.outputs[0].shape == (-1, -1, 103)
    assert text.generates
    longer = text.predict({"input": np.ones((2, 20), np.int64)})["output"]
    assert longer.shape == (2, 20, 103)


def test_a_model_that_mixes_rows_is_refused():
    class Mean(nn.Module):
        def forward(self, inputs):
            return inputs.mean()

    with pytest.raises(kit.errors.BadValue, match="one row of each output"):
        served(Mean(), {"input": np.zeros((1, 3), np.float32)})


def test_bfloat16_comes_out_as_float32_and_the_same():
    model = kit.models.MLP().to(torch.bfloat16)

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, inputs):
            return self.inner(inputs.to(torch.bfloat16))

    found = served(Cast(), {"input": np.ones((1, 64), np.float32)})
    expected = kit.predict(Cast(), torch.ones(1, 64))
    np.testing.assert_array_equal(found.predict(found.example)["output"], expected.float().numpy())


def test_a_claim_of_a_huge_shape_takes_no_memory(model):
    """The product of the sizes is compared with the bytes that came, before anything is made."""
    import tracemalloc

    assert prod((HUGE, 64)) * 4 > 2**38
    body = json.dumps(raw_request(4 * 64 * HUGE, (HUGE, 64))).encode()
    tracemalloc.start()
    with pytest.raises(RequestRefused):
        protocol.parse(model, body + b"\0" * 256, b"%d" % len(body), ROWS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
