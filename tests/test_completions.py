"""OpenAI's completions: with the real client and curl, whole and streamed, and what goes wrong."""

import asyncio
import json
import random
import shutil
import socket
import subprocess
import threading
import time
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from families import untrained_gpt

pytest.importorskip("starlette", reason="the extra serve is not installed")
openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
import uvicorn  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import Mount  # noqa: E402

import kit  # noqa: E402
from kit.core.errors import BadValue, UnknownName  # noqa: E402
from kit.data import load_python_docs  # noqa: E402
from kit.data.text_file import load_text_file  # noqa: E402
from kit.models import GPT, GPTConfig  # noqa: E402
from kit.serving.admission import Admission  # noqa: E402
from kit.serving.batching import Unobserved  # noqa: E402
from kit.serving.completions import completion_routes  # noqa: E402
from kit.serving.continuous_batching import GenerationEngine  # noqa: E402
from kit.serving.stop_texts import StopTexts  # noqa: E402
from kit.serving.vocabulary import Vocabulary  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyzäöü .,;:!?\n'-_"  # 40


class Moody(GPT):
    """A GPT that takes its time, and fails after some passes if it is told to."""

    pause_s, passes_left = 0.0, None

    def forward(self, tokens, cache=None, last=None):
        time.sleep(self.pause_s)
        if self.passes_left is not None:
            self.passes_left -= 1
            if self.passes_left < 0:
                raise RuntimeError("secret of the inside")
        return super().forward(tokens, cache, last)


class Sheds(Unobserved):
    """Writes down why requests were dropped."""

    def __init__(self):
        self.reasons = []

    def on_shed(self, reason):
        self.reasons.append(reason)


def make_model(kind=GPT):
    config = GPTConfig(vocab_size=len(LETTERS), context=64, d_model=32, n_layers=2, n_heads=2)
    return untrained_gpt(config, kind)


@pytest.fixture(scope="module")
def served():
    """A real server in a thread: the model, and below /moody and /numbers others of its kind."""
    letters, sheds = Vocabulary("characters", LETTERS), Sheds()
    found = SimpleNamespace(model=make_model(), letters=letters, moody=make_model(Moody))
    found.sheds = sheds.reasons
    found.engine = GenerationEngine(found.model, slots=4, prefill_chunk=8)
    found.moody_engine = GenerationEngine(found.moody, slots=1, observe=sheds)
    found.door = Admission(deadline_s=60.0, max_waiting=20, max_batch=4)
    found.moody_door = Admission(deadline_s=60.0)
    mounts = {
        "": (found.engine, letters, "letters", found.door),
        "/moody": (found.moody_engine, letters, "letters", found.moody_door),
        "/numbers": (found.engine, None, "numbers", Admission()),
    }
    routes = [Mount(path, routes=completion_routes(*rest)) for path, rest in mounts.items() if path]
    app = Starlette(routes=[*routes, *completion_routes(*mounts[""])])
    listening = socket.create_server(("127.0.0.1", 0))
    found.port = listening.getsockname()[1]
    found.url = f"http://127.0.0.1:{found.port}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield found
    server.should_exit = True
    thread.join(10)
    found.engine.close()
    found.moody_engine.close()
    listening.close()


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def alone(served, prompt, new, **sampling):
    """What `kit.generate` writes after the prompt."""
    options = {"temperature": 0.0, **sampling}
    tokens = served.letters.encode(prompt)
    written = kit.generate(served.model, tokens, max_new_tokens=new, **options)
    return served.letters.decode(written.tokens[0])


def post(url, body, **headers):
    """Status, headers and JSON of a plain request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, headers)) as reply:
            return reply.status, reply.headers, json.load(reply)
    except HTTPError as error:
        return error.code, error.headers, json.load(error)


def until(condition):
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


# --- The real client -----------------------------------------------------------------------------


def test_the_client_finds_the_model(client):
    assert [model.id for model in client.models.list()] == ["letters"]
    assert client.models.retrieve("letters").owned_by == "kit"
    with pytest.raises(openai.NotFoundError, match="nothing"):
        client.models.retrieve("nothing")


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0}, {"seed": 3}, {"seed": 4, "temperature": 0.7, "top_p": 0.8}]
)
def test_a_whole_answer_is_the_text_written_alone(served, client, sampling):
    answer = client.completions.create(model="letters", prompt="the cat", max_tokens=20, **sampling)
    expected = alone(served, "the cat", 20, **{"temperature": 1.0, **sampling})
    [choice] = answer.choices
    assert (choice.text, choice.finish_reason, choice.index) == (expected, "length", 0)
    assert (answer.object, answer.model) == ("text_completion", "letters")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 20, 27)


def test_a_streamed_answer_is_the_whole_one_in_pieces(client):
    asked = {"model": "letters", "prompt": "the", "max_tokens": 30, "seed": 1}
    whole = client.completions.create(**asked)
    options = {"include_usage": True}
    *chunks, last = client.completions.create(**asked, stream=True, stream_options=options)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert {chunk.choices[0].finish_reason for chunk in chunks[:-1]} == {None}
    assert chunks[-1].choices[0].finish_reason == "length"
    assert last.choices == [] and last.usage == whole.usage
    assert {chunk.usage for chunk in chunks} == {None} and len({c.id for c in chunks}) == 1
    plain = list(client.completions.create(**asked, stream=True))
    assert all(chunk.choices for chunk in plain)  # usage only if it was asked for


def test_many_clients_at_once_get_each_their_own(served):
    async def ask(client, i):
        stream = i % 2 == 1
        prompt, options = LETTERS[i : i + 1 + i % 5], {"max_tokens": 10 + i, "temperature": 0}
        reply = await client.completions.create(
            model="letters", prompt=prompt, stream=stream, **options
        )
        if not stream:
            return reply.choices[0].text
        return "".join([chunk.choices[0].text async for chunk in reply])

    async def ask_all():
        options = {"base_url": f"{served.url}/v1", "api_key": "none", "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(12)))

    expected = [alone(served, LETTERS[i : i + 1 + i % 5], 10 + i) for i in range(12)]
    assert asyncio.run(ask_all()) == expected


def test_stop_cuts_the_text_before_it(served, client):
    text = alone(served, "x", 40)
    stop = text[12:14]
    cut = text[: text.find(stop)]
    asked = {"model": "letters", "prompt": "x", "max_tokens": 40, "temperature": 0}
    asked["stop"] = ["\n\n\n\n", stop]
    whole = client.completions.create(**asked)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (cut, "stop")
    assert whole.usage.completion_tokens == len(cut) + 2
    *chunks, last = client.completions.create(**asked, stream=True)
    assert "".join(c.choices[0].text for c in [*chunks, last]) == cut
    assert last.choices[0].finish_reason == "stop"
    until(lambda: served.engine.running == 0)


def test_echo_tokens_and_one_prompt_in_a_list(served, client):
    asked = {"model": "letters", "max_tokens": 5, "temperature": 0}
    text = alone(served, "abc", 5)
    for prompt in ([0, 1, 2], [[0, 1, 2]], ["abc"]):
        assert client.completions.create(prompt=prompt, **asked).choices[0].text == text
    echoed = client.completions.create(prompt="abc", echo=True, **asked)
    assert echoed.choices[0].text == "abc" + text


def test_without_a_seed_each_text_is_another(client):
    asked = {"model": "letters", "prompt": "a", "max_tokens": 30}
    texts = {client.completions.create(**asked).choices[0].text for _ in range(3)}
    assert len(texts) == 3


def test_without_a_vocabulary_tokens_are_numbers(served):
    asked = {"model": "numbers", "prompt": "0 1", "max_tokens": 4, "temperature": 0}
    status, _, answer = post(f"{served.url}/numbers/v1/completions", asked)
    new = kit.generate(served.model, [0, 1], max_new_tokens=4).tokens[0]
    assert status == 200 and answer["choices"][0]["text"].split() == list(map(str, new))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sees_events(served):
    asked = {"model": "letters", "prompt": "a", "max_tokens": 3, "temperature": 0, "stream": True}
    command = ["curl", "-sSNi", "--max-time", "20", "-d", json.dumps(asked)]
    url = f"{served.url}/v1/completions"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    head, _, body = out.partition("\n\n")
    assert "200 OK" in head and "content-type: text/event-stream" in head.lower()
    *events, done, nothing = body.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(c["choices"][0]["text"] for c in chunks) == alone(served, "a", 3)


# --- What is refused -----------------------------------------------------------------------------

WRONG = {
    "not JSON": (b"{", 400, "not JSON"),
    "nested": (b"[" * 10_000, 400, "not JSON"),
    "NaN": (b'{"temperature": NaN}', 400, "not JSON"),
    "not UTF-8": (b'{"prompt": "\xff"}', 400, "not JSON"),
    "a list": (b"[]", 400, "object"),
    "large": (b" " * 100_000, 413, "bytes"),
    "no model": ({"prompt": "a"}, 400, "model"),
    "other model": ({"model": "gpt-4", "prompt": "a"}, 404, "gpt-4"),
    "no prompt": ({}, 400, "prompt"),
    "empty prompt": ({"prompt": ""}, 400, "empty prompt"),
    "two prompts": ({"prompt": ["a", "b"]}, 400, "one"),
    "unknown letter": ({"prompt": "A"}, 400, "'A'"),
    "unknown token": ({"prompt": [40]}, 400, "40"),
    "odd tokens": ({"prompt": [1, "a"]}, 400, "list of tokens"),
    "object": ({"prompt": {"a": 1}}, 400, "prompt"),
    "too long": ({"prompt": "a" * 60}, 400, "context of 64"),
    "no tokens": ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
    "text": ({"prompt": "a", "max_tokens": "9"}, 400, "max_tokens"),
    "cold": ({"prompt": "a", "temperature": -1}, 400, "temperature"),
    "odd": ({"prompt": "a", "temperature": [1]}, 400, "temperature"),
    "top_p": ({"prompt": "a", "top_p": 0}, 400, "top_p"),
    "top_k": ({"prompt": "a", "top_k": 0.5}, 400, "top_k"),
    "seed": ({"prompt": "a", "seed": 2**70}, 400, "seed"),
    "stops": ({"prompt": "a", "stop": list("abcde")}, 400, "stop"),
    "no stop": ({"prompt": "a", "stop": [""]}, 400, "stop"),
    "stream": ({"prompt": "a", "stream": "yes"}, 400, "stream"),
    "options": ({"prompt": "a", "stream_options": {}, "stream": False, "n": 2}, 400, "n=2"),
    "usage": ({"prompt": "a", "stream_options": {"include_usage": True}}, 400, "stream_options"),
    "penalty": ({"prompt": "a", "frequency_penalty": 0.5}, 400, "frequency_penalty"),
    "logprobs": ({"prompt": "a", "logprobs": 5}, 400, "logprobs"),
    "unknown": ({"prompt": "a", "max_token": 5}, 400, "did you mean 'max_tokens'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_told_what_is_wrong(served, name):
    body, status, says = WRONG[name]
    if isinstance(body, dict) and name != "no model":
        body = {"model": "letters", **body}
    got, _, told = post(f"{served.url}/v1/completions", body)
    assert got == status and says in told["error"]["message"]
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["error"]["type"] == "invalid_request_error"
    assert served.door.inside == 0


def test_the_client_raises_what_it_raises_for_openai(client):
    with pytest.raises(openai.BadRequestError, match="context of 64") as refused:
        client.completions.create(model="letters", prompt="a" * 50, max_tokens=20)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="gpt-4", prompt="a")
    assert missing.value.code == "model_not_found"


def test_a_full_server_refuses_at_the_door(served, client):
    tickets = [served.door.admit() for _ in range(20)]
    with pytest.raises(openai.InternalServerError) as refused:
        client.completions.create(model="letters", prompt="a")
    status, headers, _ = post(f"{served.url}/v1/completions", b"not even JSON")
    for ticket in tickets:
        ticket.release(finished=False)
    assert status == refused.value.status_code == 503
    assert refused.value.code == "server_overloaded" and int(headers["retry-after"]) >= 1
    assert client.completions.create(model="letters", prompt="a", max_tokens=1).choices


def test_a_client_that_waits_too_long_is_told(served):
    """The real client tells how long it waits, in this header."""
    header = {"x-stainless-read-timeout": "1e-9"}
    asked = {"model": "letters", "prompt": "a"}
    status, _, told = post(f"{served.url}/v1/completions", asked, **header)
    assert status == 504 and told["error"]["code"] == "timeout"
    assert (
        post(f"{served.url}/v1/completions", asked, **{"x-stainless-read-timeout": "x"})[0] == 200
    )


def test_an_error_after_the_status_is_an_event(served):
    with openai.OpenAI(base_url=f"{served.url}/moody/v1", api_key="x", max_retries=0) as client:
        served.moody.passes_left = 5
        stream = client.completions.create(model="letters", prompt="a", max_tokens=20, stream=True)
        texts = []
        with pytest.raises(openai.APIError, match="model failed") as told:
            for chunk in stream:
                texts.append(chunk.choices[0].text)
        assert len("".join(texts)) == 5 and "secret" not in str(told.value)
        with pytest.raises(openai.InternalServerError, match="model failed"):
            client.completions.create(model="letters", prompt="a")
        served.moody.passes_left = None
        assert client.completions.create(model="letters", prompt="a", max_tokens=1).choices
    until(lambda: served.moody_door.inside == 0)


# --- Clients that go away ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_has_gone_makes_room(served, stream):
    served.moody.pause_s, dropped = 0.02, len(served.sheds)
    asked = {"model": "letters", "prompt": "a", "max_tokens": 60, "stream": stream}
    body = json.dumps(asked).encode()
    head = "POST /moody/v1/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(head.encode() + body)
            if stream:
                assert b"200 OK" in connection.recv(1000)
            until(lambda: served.moody_engine.running == 1)
        until(lambda: served.moody_engine.running == 0 and served.moody_door.inside == 0)
        assert time.monotonic() - began < 60 * 0.02  # the text was not written to its end
        assert served.sheds[dropped:] == ["gone"]
    finally:
        served.moody.pause_s = 0.0


# --- Texts and tokens ----------------------------------------------------------------------------


def test_a_vocabulary_is_that_of_the_data():
    docs = load_python_docs()
    ours = Vocabulary.of(docs)
    again = Vocabulary.from_dict(json.loads(json.dumps(ours.to_dict())))
    text = "for x in range(3):\n    pass"
    assert ours.encode(text) == again.encode(text) == docs.encode(text).tolist()
    assert again.decode(ours.encode(text)) == text
    with pytest.raises(BadValue, match="does not know"):
        ours.encode("\x00")
    with pytest.raises(UnknownName):
        Vocabulary("words")
    with pytest.raises(BadValue, match="no vocabulary"):
        Vocabulary("numbers").encode("one")


def test_bytes_become_characters_when_they_are_complete():
    data = load_text_file(kit.__file__)
    ours, piece = Vocabulary.of(data), Vocabulary.of(data).decoder()
    tokens = ours.encode("a€ö")
    assert [piece(token) for token in tokens] == ["a", "", "", "€", "", "ö"]
    odd = [0x82, 0xE2, 0xE2, 0x82, 0x41, 0xE2]
    assert ours.decode(odd) == data.decode(odd) and piece(None) == ""


def test_stop_texts_are_found_and_never_handed_out():
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choices("ab", k=rng.randint(0, 12)))
        stops = ["".join(rng.choices("ab", k=rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
        found, taken, rest = StopTexts(stops), [], text
        while rest and not found.over:
            found.add(rest[0])  # a token is a character: the first complete stop counts
            rest = rest[1:]
            taken.append(found.take())
        if not found.over:
            found.end()
            taken.append(found.take())
        ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
        complete = text[: min(ends)] if ends else text
        starts = [at for stop in stops if (at := complete.find(stop)) >= 0]
        assert "".join(taken) == (text[: min(starts)] if starts else text)
        assert found.stopped == bool(ends)
