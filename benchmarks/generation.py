"""`kit.generate` beside `transformers` and OpenVINO GenAI: the same weights, greedy, with a cache.

    python benchmarks/generation.py          # six minutes on a quiet machine; goes on if stopped
    python benchmarks/generation.py table    # the kept figures

The kit needs neither, so make an environment with both first:

    python -m pip install -c constraints.txt -e .[edge,openvino] "transformers>=5" openvino-genai

Two sizes of GPT on one thread. The weights are random, since a score does not change the speed; in
float32 every way must write the same tokens before it is timed. All ways take turns, in random
order: one prompt of 32 tokens, then 16 prompts of 17 to 32 tokens together.

The bound is the least time that the bytes of prefill and of all decode steps need: at the rate of
the last cache if those of a decode step fit there, else at the memory's (`kit.peaks` of the same
minutes). Bytes are the least that must move (`kit.count_generation`).

The linear layers and attention of one text, with nothing around them, take their turn, too: no way
that starts the same kernels in float32 can take less time.

Fewer bits must not cost the answers: the trained model of the workload `language` gives the score
of each form beside float32's, on the same examples.
"""

import json
import random
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec

import torch
from inference_ladder import trained, unseen
from keeping import RESULTS, Parts, keep
from peers_generation import PEERS
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

import kit
from kit import techniques
from kit.core.statistics import Estimate, median
from kit.core.units import digits, words
from kit.devices import last_cache_bytes
from kit.models import GPT, GPTConfig

SIZES = {  # name -> the GPT, and the number of tokens that it writes
    "6 × 256": (GPTConfig(103, context=512, d_model=256, n_layers=6, n_heads=4), 128),
    "12 × 768": (GPTConfig(103, context=512, d_model=768, n_layers=12, n_heads=12), 32),
}
TEXTS, LONGEST = 16, 32  # prompts together; tokens of the longest one, each other has one fewer
ROUNDS = 6  # with fewer, the interval of a ratio is unknown
FORMS = {"float32": None, "bfloat16": "half", "4-bit weights": "int4_weights"}
LEAST = "linear layers and attention alone"
BITS = {"float32": 32, "bfloat16": 16, "4-bit weights": 4 + 2 * 16 / 32}  # scale and zero per 32


# --- The ways to write ---------------------------------------------------------------------------


def by_kit(model, new):
    """A function from prompts to the new tokens of each."""
    return lambda prompts: kit.generate(model, prompts, max_new_tokens=new).tokens


def ways(model, new):
    """name -> function that writes; the peer's are missing if it is not installed."""
    example = torch.zeros(1, LONGEST, dtype=torch.long)
    found = {}
    for name, form in FORMS.items():
        made = techniques.get(form)(model, example) if form else model
        found[f"kit, {name}"] = by_kit(made, new)
    for name, (make, package) in PEERS.items():
        if find_spec(package):
            found |= {f"{name}, {form}": make(model, new, form) for form in ("float32", "bfloat16")}
    return found


def least_work(model, new):
    """A function that computes what every way to write one text needs, in float32."""
    config = model.config
    width, filled = config.d_model // config.n_heads, LONGEST + new // 2  # on average
    past = [torch.rand(2, 1, config.n_heads, filled, width) for _ in model.blocks]
    query = torch.rand(1, config.n_heads, 1, width)
    weights = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    inputs = [(w, torch.rand(LONGEST, w.shape[1]), torch.rand(1, w.shape[1])) for w in weights]

    @torch.inference_mode()
    def work(_):
        for weight, prompt, _ in inputs:
            linear(prompt, weight)
        for _ in range(new - 1):
            for weight, _, token in inputs:
                linear(token, weight)
            for keys, values in past:
                scaled_dot_product_attention(query, keys, values)

    return work


# --- One size ------------------------------------------------------------------------------------


def measured(config, new):
    """Tokens per second of all ways at one size, and what share of the bound they reach."""
    kit.seed(0)
    model = GPT(config).eval().requires_grad_(False)
    many = [torch.randint(config.vocab_size, (LONGEST - i,)).tolist() for i in range(TEXTS)]
    loads, writes = {"one": many[:1], "together": many}, ways(model, new)
    calls = {(way, load): (writes[way], loads[load]) for way in writes for load in loads}
    agree = check_texts({at: write(prompts) for at, (write, prompts) in calls.items()})
    calls[LEAST, "one"] = (least_work(model, new), loads["one"])
    taken, best = {at: [] for at in calls}, [kit.peaks("cpu", again=True)]
    for _ in range(ROUNDS):
        for at in random.sample(list(calls), len(calls)):
            write, prompts = calls[at]
            started = time.perf_counter()
            write(prompts)
            taken[at].append(time.perf_counter() - started)
    best.append(kit.peaks("cpu", again=True))
    rows = {way: row(taken, way, model, new, best) for way in writes}
    least = {way: share_of_least(taken, way) for way in writes if way.endswith("float32")}
    found = {"gpt": repr(model), "new_tokens": new, "same_texts_as_float32": agree}
    return found | {"ways": rows, "least": least}


def share_of_least(taken, way):
    """The share of the linear layers and attention alone in the time of one text, by rounds."""
    pairs = zip(taken[LEAST, "one"], taken[way, "one"], strict=True)
    return median([least / whole for least, whole in pairs], "%")


def check_texts(written):
    """How many of the texts are those of the kit in float32; in float32 it must be all."""
    agree = {}
    for (way, load), texts in written.items():
        alike = sum(a == b for a, b in zip(texts, written["kit, float32", load], strict=True))
        assert alike == len(texts) or "float32" not in way, f"{way}: other texts ({load})"
        agree[f"{way}, {load}"] = alike
    assert written["kit, float32", "together"][0] == written["kit, float32", "one"][0]
    return agree


def row(taken, way, model, new, best):
    """One way: tokens/s of one text and of several, ratios by rounds, shares of the bound."""
    one, together = (seconds for (name, _), seconds in taken.items() if name == way)
    several = [TEXTS * a / b for a, b in zip(one, together, strict=True)]
    told = {
        "one_tokens_per_s": median([new / s for s in one], "tokens/s"),
        "together_tokens_per_s": median([TEXTS * new / s for s in together], "tokens/s"),
        "together_to_one": median(several, "×"),
    }
    for peer in PEERS if way.startswith("kit") else ():
        for form in ("float32", "bfloat16"):
            if taken_by := taken.get((f"{peer}, {form}", "one")):
                pairs = [a / b for a, b in zip(taken_by, one, strict=True)]
                told[f"one_to_{peer}_{form}"] = median(pairs, "×")
    return told | bound(model, way, new, best, median(one, "s"))


def bound(model, way, new, best, one_s):
    """The least seconds for the bytes of one text, and the share of them in the time taken."""
    counted, form = kit.count_generation(model, LONGEST, new), way.split(", ")[1]
    a_token = counted.kv_bytes_per_token
    weights = counted.prefill.moved_bytes - LONGEST * a_token
    cached = [cost.moved_bytes - weights for cost in (counted.prefill, *counted.decode)]
    # Norms and the head of the form with 4 bits have 16: a small part, which counts as less.
    narrow, cache_narrow = BITS[form] / 32, 1 if form == "float32" else 1 / 2
    moved = [narrow * weights + cache_narrow * each for each in cached]
    step = moved[-1]
    near = step <= (last_cache_bytes() or 0)
    memory = max(p.bandwidth_bytes_per_s for p in best)
    cache = max(p.cache_bytes_per_s or memory for p in best)
    rate = max(cache, memory) if near else memory
    return {
        "decode_bytes": step,
        "bound_by": "last cache" if near else "memory",
        "bound_bytes_per_s": rate,
        "share_of_bound": sum(moved) / rate / one_s,
    }


# --- Scores, and all together --------------------------------------------------------------------


def scores():
    """What each form loses of the score of a trained GPT: shares of float32's right answers."""
    work = unseen(kit.workloads.language())
    kit.seed(0)
    model = trained(work.model(), work)
    options = {"batch_sizes": (1,), "budget_s": 0.2, "peaks": kit.peaks("cpu")}
    ladder = kit.inference_ladder(model, work, name="float32", **options)
    for name, form in FORMS.items():
        ladder = ladder.then(name, techniques.get(form)) if form else ladder
    lost = {form.name: form.to_dict()["score_lost_share"] for form in ladder.rungs}
    return {"model": repr(model), "score_lost_share": lost}


def table(kept):
    """The kept figures as Markdown."""
    peers = [f"{peer}_{form}" for peer in PEERS for form in ("float32", "bfloat16")]
    names = [f"÷ {peer.replace('_', ', ')}" for peer in peers]
    head = ["GPT", "way", "tokens/s", *names, "share of the bound", "16 prompts", "÷ one"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for size, found in kept["sizes"].items():
        for way, each in found["ways"].items():
            share = f"{digits(100 * each['share_of_bound']['value'])} %, {each['bound_by']}"
            cells = [size, way, amount(each, "one_tokens_per_s")]
            cells += [ratio(each, f"one_to_{peer}") for peer in peers]
            cells += [share, amount(each, "together_tokens_per_s"), ratio(each, "together_to_one")]
            lines.append(f"| {' | '.join(cells)} |")
    for size, found in kept["sizes"].items():
        shares = [f"{w} {Estimate(**e)!r}" for w, e in found.get("least", {}).items()]
        if shares:  # older records lack them
            lines += ["", f"{size}: the share of {LEAST} in one prompt: {'; '.join(shares)}."]
    lost = {n: e and Estimate(**e) for n, e in kept["scores"]["score_lost_share"].items()}
    said = "; ".join(f"{name} {share!r}" for name, share in lost.items() if share and share.value)
    lines += [
        "",
        f"Score lost by the trained {kept['scores']['model']}, on the same examples: {said}. "
        f"Measured on {kept['machine']['cpu']}, one thread, {kept['date']}.",
    ]
    return "\n".join(lines)


def amount(row, key):
    return words(row[key]["value"])


def ratio(row, key):
    return repr(Estimate(**row[key])) if key in row else "–"


def main():
    kit.device("cpu")
    torch.set_num_threads(1)
    peers = {name: bool(find_spec(package)) for name, (_, package) in PEERS.items()}
    asked = {"rounds": ROUNDS, "peers": peers, "machine": kit.machine().cpu}
    run = Parts("generation", **asked)
    sizes = {name: run.once(name, lambda of=of: measured(*of)) for name, of in SIZES.items()}
    keep(
        "generation",
        sizes=sizes,
        peers={name: version(package) for name, (_, package) in PEERS.items() if peers[name]},
        scores=run.once("scores", scores),
        conditions=f"1 thread; {ROUNDS} rounds in random order; greedy, with a cache",
    )
    run.complete()


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        print(table(json.loads((RESULTS / "generation.json").read_text(encoding="utf-8"))))
    else:
        main()
