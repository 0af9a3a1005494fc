"""Exported models from strangers: refused before any runtime has opened them."""

import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest
from families import fresh, inputs_for

from kit import techniques
from kit.core.errors import CheckpointRefused, NotInstalled, NotSupported
from kit.techniques import get

onnx_here = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="not installed: onnx, onnxscript or onnxruntime",
)


def written(name: str, path: Path) -> Path:
    model = fresh("MLP")
    try:
        return techniques.write(get(name)(model, inputs_for(model, 8)), path)
    except (NotInstalled, NotSupported) as error:
        pytest.skip(str(error))


def signed(path: Path, data: bytes) -> Path:
    """A stranger's file, with a digest that is right."""
    path.write_bytes(data)
    told = f"{sha256(data).hexdigest()}  {path.name}\n# for cpu\n"
    path.with_name(path.name + ".sha256").write_text(told)
    return path


def refusal(path: Path, runtime: str | None = None) -> CheckpointRefused:
    with pytest.raises(CheckpointRefused) as refused:
        techniques.read(path, runtime)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    return refused.value


# --- Files that are programs ---------------------------------------------------------------------


def test_a_package_is_not_opened_unless_it_is_trusted(tmp_path):
    """A real package, in which the machine code leaves a mark as soon as it is loaded."""
    path, mark = written("packaged", tmp_path / "model.pt2"), tmp_path / "ran"
    code = (
        f"#include <cstdio>\n__attribute__((constructor)) static void go() "
        f'{{ std::fclose(std::fopen("{mark}", "w")); }}\n'
    )
    (tmp_path / "bad.cpp").write_text(code)
    compiler = shutil.which("g++") or shutil.which("clang++")
    bad = tmp_path / "bad.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(bad), str(tmp_path / "bad.cpp")]
    subprocess.run(command, check=True)
    replaced = tmp_path / "replaced.pt2"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(replaced, "w") as evil:
        for each in good.infolist():
            content = bad.read_bytes() if each.filename.endswith(".so") else good.read(each)
            evil.writestr(each.filename, content)
    path = signed(tmp_path / "evil.pt2", replaced.read_bytes())
    told = refusal(path)
    assert told.check == "trusted" and "machine code" in str(told) and "trusted=True" in str(told)
    assert not mark.exists()
    with pytest.raises(CheckpointRefused, match="aoti cannot run it"):
        techniques.read(path, trusted=True)
    assert mark.exists()  # so this was a bomb indeed


def test_a_program_of_executorch_is_not_opened_unless_it_is_trusted(tmp_path):
    told = refusal(signed(tmp_path / "model.pte", b"\x14\0\0\0ET12" + b"\xff" * 100))
    assert told.check == "trusted" and "take over the process" in str(told)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "model.ort", "model.so", "model.pt"])
def test_other_kinds_are_not_opened_at_all(name, tmp_path):
    with pytest.raises(CheckpointRefused) as refused:
        techniques.read(signed(tmp_path / name, b"<net/>"), trusted=True)
    assert refused.value.check == "format"


def test_a_digest_file_of_nonsense_is_a_refusal(tmp_path):
    path = signed(tmp_path / "model.onnx", b"x")
    beside = tmp_path / "model.onnx.sha256"
    beside.write_bytes(b"\xff\xfe\0")
    assert refusal(path).check == "digest"
    beside.write_text(f"{sha256(b'x').hexdigest()}  model.onnx\n# for moon\n")
    assert refusal(path).check == "digest"


# --- ONNX ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return written("onnx", tmp_path_factory.mktemp("onnx") / "small.onnx").read_bytes()


RUNTIMES = ["onnxruntime", "openvino"]


@onnx_here
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("place", ["weights.bin", "/etc/passwd", "../../secret"])
def test_weights_in_other_files_are_refused(runtime, place, small, tmp_path):
    import onnx

    model = onnx.load_from_string(small)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    path = signed(tmp_path / "far.onnx", model.SerializeToString())
    assert refusal(path, runtime).check == "external"


@onnx_here
def test_weights_in_other_files_are_found_at_any_depth(small, tmp_path):
    """In a constant, in a branch, in a function: not where a shallow look would see them."""
    import onnx
    from onnx import helper

    hidden = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    hidden.ClearField("float_data")
    hidden.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["c"], value=hidden)
    branch = helper.make_graph([constant], "then", [], [])
    model = onnx.load_from_string(small)
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch))
    assert refusal(signed(tmp_path / "a.onnx", model.SerializeToString())).check == "external"
    model = onnx.load_from_string(small)
    opset = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("f", "F", [], ["c"], [constant], opset))
    assert refusal(signed(tmp_path / "b.onnx", model.SerializeToString())).check == "external"


@onnx_here
@pytest.mark.parametrize(
    ("kind", "domain"), [("PyOp", "ai.onnx.contrib"), ("EPContext", "com.microsoft")]
)
def test_operations_that_need_other_code_are_refused(kind, domain, small, tmp_path):
    import onnx

    model = onnx.load_from_string(small)
    model.graph.node.append(onnx.helper.make_node(kind, ["x"], ["y"], domain=domain))
    assert refusal(signed(tmp_path / "a.onnx", model.SerializeToString())).check == "operations"


@onnx_here
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_format_under_this_name_is_refused(runtime, tmp_path):
    """OpenVINO looks at the bytes, not at the name: its own format names files to read."""
    for data in (b"<?xml version='1.0'?><net name='x' version='11'/>", b"", b"ORTM" * 20):
        assert refusal(signed(tmp_path / "a.onnx", data), runtime).check == "format"


@onnx_here
def test_a_graph_that_no_runtime_knows_is_a_refusal(small, tmp_path):
    import onnx

    model = onnx.load_from_string(small)
    model.graph.node[0].op_type = "Nonsense"
    assert refusal(signed(tmp_path / "a.onnx", model.SerializeToString())).check == "runtime"


@onnx_here
def test_a_function_of_its_own_hides_no_other_code(small, tmp_path):
    import onnx

    model = onnx.load_from_string(small)
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    versions = [onnx.helper.make_opsetid("", 17)]
    function = onnx.helper.make_function("evil", "Mine", ["a"], ["b"], [node], versions)
    model.functions.append(function)
    model.graph.node.append(onnx.helper.make_node("Other", ["x"], ["y"], domain="evil"))
    assert refusal(signed(tmp_path / "b.onnx", model.SerializeToString())).check == "operations"


INTERRUPTED = """
import faulthandler, gc, os, signal, threading, time
faulthandler.enable()  # as Jupyter's kernels do: signals then have a memory area of their own
import torch, kit
forms = [kit.techniques.openvino(torch.nn.Linear(4, 2), torch.ones(1, 4))]
kit.predict(forms[0], torch.ones(1, 4))

def collect():
    forms.clear()
    gc.collect()

thread = threading.Thread(target=collect)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted")
"""


@onnx_here
def test_an_interrupt_after_openvino_was_released_ends_nothing():
    """It ended the process: another thread had released the plugin, and its area for signals."""
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr[-500:]
