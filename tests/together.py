"""Trainings that one process makes in a test, and several under torchrun: to be held together.

As a program (`torchrun together.py FOLDER DEVICE`) it makes all of them and leaves what came of
each in the folder.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import kit
from kit.core.errors import BadValue
from kit.costs.prediction_turns import PredictionTurns
from kit.training import Recipe
from kit.training.distributed import without_messages
from kit.training.setup import Setup
from kit.training.steps import loss_of_batch

SMALL = {
    **{"work": "language", "model": "gpt-small", "optimizer": "adamw", "lr": 3e-3},
    **{"schedule": "constant", "lr_warmup": 0},  # not as its recipe may have it
}
DEEP = {**SMALL, "batch_size": 4, "evaluate_every": 4}
CASES = {
    "plain": {"work": "control", "steps": 20},
    "parts": {
        **{"work": "vision", "model": "mlp", "steps": 12, "schedule": "cosine", "lr_warmup": 3},
        **{"accumulate": 2, "clip": 0.5},
    },
    "bf16": {**DEEP, "steps": 4, "precision": "bf16"},
    "muon": {**DEEP, "steps": 6, "optimizer": "muon"},
    "sharded": {**DEEP, "steps": 8, "sharded": True},
    "sharded parts": {
        **{**DEEP, "steps": 8, "sharded": True, "recompute": True},
        **{"accumulate": 2, "clip": 0.5, "schedule": "linear"},
    },
    "sharded without layers": {"work": "vision", "model": "mlp", "steps": 6, "sharded": True},
    "sharded muon": {**DEEP, "steps": 4, "optimizer": "muon", "sharded": True},
}
REFUSED = {
    "odd batch": {"work": "vision", "steps": 2, "batch_size": 33},
    "odd parts": {"work": "vision", "steps": 2, "batch_size": 34, "accumulate": 2},
    "a sum": {"work": "by sum", "steps": 2},
}
HALF, ALL = 8, 12  # steps, before and after another number of processes goes on
GOES_ON = {  # from a checkpoint that one process has left; what two leave, one goes on from
    "goes on": {**DEEP, "steps": ALL},
    "sharded goes on": {**DEEP, "steps": ALL, "sharded": True},
}
BUDGET = {"work": "control", "steps": 10**6, "budget_s": 0.3, "evaluate_every": 10**6}
# Of which one process is killed, elsewhere; also words of `kit train`.
LIVES = {**SMALL, "steps": 100, "batch_size": 8, "evaluate_every": 20}


@cache
def workload(name):
    """The one of that name; "by sum", whose loss is not a mean over examples."""
    if name == "by sum":
        return replace(
            workload("control"), loss=lambda *batch: cross_entropy(*batch, reduction="sum")
        )
    return kit.workloads.get(name)


def trained(work, model=None, device="cpu", drawn=0, **options):
    """(model, history) of a training with these options, from weights drawn with that seed."""
    kit.seed(drawn)
    fresh = workload(work).model(model).to(device)
    return fresh, kit.train(fresh, workload(work), live=False, **options)


@cache
def outcome(**options):
    """What came of it: weights, losses, scores, the optimizer's state."""
    model, history = trained(**options)
    return {
        "weights": {name: value.cpu() for name, value in model.state_dict().items()},
        "device": str(next(model.parameters()).device),
        "losses": history.losses,
        "scores": [(at, score.loss) for at, score in history.scores],
        "state": history.state["optimizer"]["state"],
    }


def refusal(refused=trained, **options):
    """The message with which it is refused."""
    try:
        refused(**options)
    except BadValue as error:
        return str(error)
    return "nothing refused"


def insides(device, sharded):
    """How many weights this process holds, and its gradient of a part of a batch, not sent."""
    kit.seed(0)
    model = workload("language").model("gpt-small").to(device)
    setup = Setup(model, workload("language"), Recipe(batch_size=4, sharded=sharded))
    with without_messages(setup.net):
        loss_of_batch(setup.net, *next(setup.batches()), workload("language").loss).backward()
    held = list(setup.model.parameters())
    own = [weight.to_local() if sharded else weight for weight in held]
    gradients = [float(weight.grad.norm()) for weight in held if weight.grad is not None]
    return {"held": sum(part.numel() for part in own), "gradients": gradients}


def main(folder, device):
    """Everything, in each of the processes; each leaves a file."""
    torch.set_num_threads(1)
    if not torch.distributed.is_initialized():  # even a single GPU is to be joined
        torch.distributed.init_process_group()
    found = {name: outcome(**case, device=device) for name, case in CASES.items()}
    rank = torch.distributed.get_rank()
    for name in ("plain", "sharded"):
        found[f"{name} apart"] = outcome(**CASES[name], device=device, drawn=rank)
    found |= {name: refusal(**case, device=device) for name, case in REFUSED.items()}
    found["turns"] = refusal(PredictionTurns, make_call=lambda n: lambda: None)
    for name, case in GOES_ON.items():
        kept, left = folder / f"{name}.kit", folder / f"{name} left.kit"
        found[name] = outcome(**case, device=device, checkpoint=kept)
        trained(**{**case, "steps": HALF}, device=device, checkpoint=left)
    found["budget"] = len(trained(**BUDGET, device=device)[1].losses)
    found["insides"] = insides(device, sharded=False)
    found["sharded insides"] = insides(device, sharded=True)
    found["undisturbed"] = outcome(**LIVES, device=device)
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
