"""Six trained models in every form: latency, throughput, size on disk, score.

    python benchmarks/inference_ladder.py                  # an hour, on a machine left alone;
                                                           # started again, it goes on
    python benchmarks/inference_ladder.py --most 1         # the next model, and what is left later
    python benchmarks/inference_ladder.py --only vision    # one workload; stores nothing
    python benchmarks/inference_ladder.py table            # the stored results, as Markdown

The models are those of six workloads, one of each family that answers in one pass: a CNN, a GPT, a
CNN over time, two towers, an RNN, an MLP. Each is trained by its recipe. Then it runs in every form
of `kit.techniques`, and in some that need further training:

pruned      half of the channels removed, then trained further with half the learning rate
zeroed      four fifths of the weights set to zero; they stay zero during further training
low_rank    each matrix as a product of two thin ones, then trained further
small       a model half as wide, trained from scratch with the same recipe
distilled   the same small model, taught by the pruned one (by the model itself, if it cannot be
            pruned): once by the recipe, and once more with half the learning rate

One thread. The first form is the model in plain PyTorch: a bare call in evaluation mode and in
inference mode. Every other form is timed in turns with it, for one example and for 64 at once. The
second one is the model itself by `kit.predict`, which only leaves out gradients.
Scores are measured on all examples that no model was trained on, validation and test together. A
form is allowed if it loses at most half a point of the score. The fastest allowed form counts.

Regret: the time of the form that `kit.fastest` chooses within its own time budget, ÷ the time of
the fastest allowed form that needs no training. Both are timed in turns at the end.
"""

import argparse
import json

import numpy as np
import torch
from keeping import RESULTS, Parts, keep, plain

import kit
from kit import techniques
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.data import Split
from kit.ladders.fastest import TRIED
from kit.models import halved

SIX = ("vision", "language", "speech", "recommendation", "forecast", "fraud")
BATCHES = (1, 64)
MOST_LOST = 0.005  # half a point
BUDGET_S = 1.0
FURTHER = ("onnx", "onnx_int8", "openvino_bf16", "openvino_int8")
FASTEST_S = 120.0
ITSELF = Estimate(1.0, 1.0, 1.0, "×")  # no other form is faster


# --- Forms that need a training ------------------------------------------------------------------


def trained(model, work, seed=0, share_of_rate=1.0):
    """The model, trained by the workload's recipe."""
    kit.seed(seed)
    recipe = {**work.recipe, "lr": share_of_rate * work.recipe["lr"]}
    kit.train(model.requires_grad_(True), work, live=False, seed=seed, **recipe)
    return model.eval().requires_grad_(False)


def trained_on(technique, work, **options):
    """A technique, followed by training with half the learning rate."""

    def make(model, example):
        return trained(technique(model, example, **options), work, share_of_rate=0.5)

    return make


def zeroed(work, share=0.8):
    """Zeros that stay zero while the other weights are trained further."""

    def make(model, example):
        form = techniques.zeroed(model, example, share=share)
        with techniques.keep_zeros(form):
            return trained(form, work, share_of_rate=0.5)

    return make


def small(work):
    """A model half as wide."""
    return lambda model, example: trained(halved(model), work)


def distilled(work, teacher):
    """A model half as wide that learns from another one, by the recipe and then once more."""

    def make(model, example):
        taught = techniques.taught_by(teacher or model, work)
        return trained(trained(halved(model), taught), taught, share_of_rate=0.5)

    return make


def forms(ladder, work):
    """The ladder with all forms, in order."""
    for name, make in TRIED.items():
        if name != "none":
            ladder = ladder.then(name, make)
    ladder = ladder.then("zeroed, trained on", zeroed(work))  # zeros change neither size nor speed
    pruned = "pruned, trained on"
    ladder = in_runtimes(ladder, pruned, trained_on(techniques.pruned, work))
    ladder = in_runtimes(ladder, "low rank, trained on", trained_on(techniques.low_rank, work))
    ladder = in_runtimes(ladder, "small from scratch", small(work))
    return in_runtimes(ladder, "distilled", distilled(work, ladder[pruned].model))


def in_runtimes(ladder, name, make):
    """The ladder with a form, and with the same form in other runtimes."""
    ladder = ladder.then(name, make)
    for runtime in () if ladder.newest.absent else FURTHER:
        ladder = ladder.then(f"{name}, {runtime}", techniques.get(runtime), of=name)
    return ladder


# --- One model -----------------------------------------------------------------------------------


def measured(name):
    """A workload's model in all forms: its record."""
    work = unseen(kit.workloads.get(name))
    kit.seed(0)
    model = trained(work.model(), work)
    options = {"batch_sizes": BATCHES, "budget_s": BUDGET_S, "peaks": kit.peaks("cpu")}
    ladder = kit.inference_ladder(model, work, name="none", **options)
    ladder = forms(ladder, work)
    chosen = {n: ladder.fastest(max_score_loss=MOST_LOST, batch_size=n) for n in BATCHES}
    for n, form in chosen.items():
        print(f"{name}, {n}: {form.name}, {form.speedup(n)} as fast as plain PyTorch", flush=True)
    return {
        "workload": name,
        "model": repr(model),
        "forms": [record(form) for form in ladder.rungs],
        "bound_s": {n: ladder.bound_s(n) for n in BATCHES},
        "fastest_legal": {n: form.name for n, form in chosen.items()},
        "speedup": {n: (form.speedup(n) or ITSELF).to_dict() for n, form in chosen.items()},
        "regret": {n: regret(model, work, ladder, n) for n in BATCHES},
    }


def unseen(work):
    """The workload with all examples that are not for training in its test split."""
    parts = zip(work.data["validation"], work.data["test"], strict=True)
    return work.with_split("test", Split(*map(torch.cat, parts)))


def record(form):
    """The form's record, with its throughput."""
    rates = {} if form.absent else {n: form.throughput(n) for n in BATCHES}
    return form.to_dict() | {"examples_per_s": rates}


def regret(model, work, ladder, n):
    """What `kit.fastest` finds, compared with the best that it could have found."""
    found = kit.fastest(model, work, batch_size=n, max_score_loss=MOST_LOST, budget_s=FASTEST_S)
    known = [f for f in ladder.present if f.name in TRIED]
    allowed = [form for form in known if form.within(None, MOST_LOST)]
    best = min(allowed, key=lambda form: form.times[n].value)
    result = {"picked": found.name, "best": best.name, "spent_s": found.spent_s}
    if found.name == best.name:
        return result | {"ratio": ITSELF.to_dict()}
    ratio = ladder.in_turns([best, found.form], n, budget_s=4.0).ratio()
    return result | {"ratio": ratio.to_dict()}


# --- All six -------------------------------------------------------------------------------------


def mean(estimates):
    """The geometric mean, with the means of the ends as its interval: wider than necessary."""
    each = [(e.value, e.low, e.high) for e in (Estimate(**told) for told in estimates)]
    with np.errstate(divide="ignore"):  # an unknown end is 0 or infinite, and so is the mean
        return Estimate(*np.exp(np.log(each).mean(0)).tolist(), "×")


def summary(models):
    """Speed-ups over the six, and the largest regret."""
    result = {}
    for n in BATCHES:
        gains = [model["speedup"][str(n)] for model in models]  # as JSON has them
        result[f"mean_speedup_batch_{n}"] = mean(gains)
        result[f"least_speedup_batch_{n}"] = min(gain["value"] for gain in gains)
    regrets = [each["ratio"]["value"] for model in models for each in model["regret"].values()]
    result["largest_regret"] = max(regrets)
    return result


def table():
    """The six in Markdown: the first form, and the fastest that loses at most half a point."""
    stored = json.loads((RESULTS / "inference_ladder.json").read_text(encoding="utf-8"))
    head = "| model | one example | fastest form | × | 64 at once | fastest form | × | score lost |"
    lines = [head, "| --- " * 8 + "|"]
    for model in stored["models"]:
        by_name = {form["name"]: form for form in model["forms"]}
        cells = [f"{model['workload']}, {model['model'].split('(')[0]}"]
        for n in map(str, BATCHES):
            best = model["fastest_legal"][n]
            first, last = (by_name[x]["time_s"][n]["value"] for x in (next(iter(by_name)), best))
            gain = Estimate(**model["speedup"][n])
            cells += [f"{words(first, 's')} → {words(last, 's')}", best, words(gain.value)]
        lost = [by_name[name]["score_lost_share"] for name in model["fastest_legal"].values()]
        values = (each["value"] if each else 0.0 for each in lost)  # None: the model itself
        cells.append(" / ".join(words(max(0.0, value), "%") for value in values))
        lines.append(f"| {' | '.join(cells)} |")
    means = [Estimate(**stored[f"mean_speedup_batch_{n}"]) for n in BATCHES]
    lines += [
        "",
        f"Geometric means: {means[0]} for one example, {means[1]} for 64. Measured on "
        f"{stored['machine']['cpu']}, 1 thread, {stored['date']}; every form in turns with a bare "
        f"call in inference mode. {no_grad(stored['models'])}",
    ]
    under = [
        f"{model['workload']} at {n}, where the roofline allows the unchanged model "
        f"{words(model['forms'][0]['time_s'][n]['value'] / model['bound_s'][n], '×')}"
        for model in stored["models"]
        for n, gain in model["speedup"].items()
        if gain["value"] < 2
    ]
    lines += ["", f"Under 2 ×: {'; '.join(under)}."] if under else []
    return "\n".join(lines)


def no_grad(models):
    """How long the model itself takes if `kit.predict` only leaves gradients out."""
    rows = [form for model in models for form in model["forms"]]
    own = [form["time_ratio"] for form in rows if form["name"].endswith(", no_grad")]
    parts = []
    for n, batch in (("1", "one example"), ("64", "64")):
        values = [ratios[n]["value"] for ratios in own]
        parts.append(f"{words(min(values))} to {words(max(values), '×')} for {batch}")
    return f"The model itself without gradients, by `kit.predict`: {', '.join(parts)}."


def main(only, most=-1):  # -1: all
    kit.device("cpu")
    torch.set_num_threads(1)
    if only:
        print(json.dumps(plain([measured(name) for name in only]), indent=1, ensure_ascii=False))
        return
    parts = Parts("inference_ladder", machine=kit.machine().cpu, budget_s=BUDGET_S)
    models = []
    for name in SIX:
        if most == 0 and name not in parts.kept:
            print(f"The next one is {name}: the same command goes on.")
            return
        most -= name not in parts.kept
        models.append(parts.once(name, lambda name=name: measured(name)))
    keep(
        "inference_ladder",
        **summary(models),
        models=models,
        conditions=f"1 thread; {BUDGET_S} s per form and batch; allowed: at most {MOST_LOST} of "
        f"the score lost",
    )
    parts.complete()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"])
    parser.add_argument("--only", choices=kit.workloads.WORKLOADS, action="append")
    parser.add_argument("--most", type=int, default=-1, help="models to measure this time")
    asked = parser.parse_args()
    if asked.what:
        print(table())
    else:
        main(asked.only, asked.most)
