"""Loops that make the same steps, what they are fed with, and the proof that they are the same.

A loop is a function of a model, a feed and a workload, and trains the model once through the feed.
Two feeds hold the same batches in the same order, the one that `kit.train` shuffles into with
seed 0:

ready    batches that were cut beforehand; nothing is left to do but to hand them over
loader   PyTorch's `DataLoader`, which fetches each example and stacks them, as tutorials teach
"""

from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count, islice

import torch
from peers import PEERS
from torch.utils.data import DataLoader, TensorDataset

import kit
from kit.data import Split
from kit.training import optimizer_for

BATCH, LR = 32, 3e-3
ROUNDING = 1e-5  # weights are about 0.1; another order, rate or rule ends 1e-4 away and more


class Ready:
    """Batches that were cut beforehand. No list: Lightning takes a list for several feeds."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def ready(work, steps):
    epochs = (work.batches("train", BATCH, seed=epoch) for epoch in count())
    return Ready(list(islice(chain.from_iterable(epochs), steps)))


def loader(work, steps):
    examples = TensorDataset(*work.data["train"])
    numbers = torch.arange(len(examples))
    batches = ready(work.with_split("train", Split(numbers, numbers)), steps)
    order = torch.cat([chosen for chosen, _ in batches]).tolist()
    return DataLoader(examples, batch_size=BATCH, sampler=order)


def bare(model, feed, loss, optimizer):
    """The loop that one would write by hand, and no more."""
    model.train()
    for inputs, targets in feed:
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()
        optimizer.step()


def kits(model, feed, work):
    """`kit.train`, which feeds itself; it looks at the validation split before and after."""
    steps = len(feed)
    kit.train(model, work, steps=steps, batch_size=BATCH, lr=LR, evaluate_every=steps, live=False)


def tutorial(model, feed, work):
    """What tutorials teach: a DataLoader, PyTorch's plain AdamW, the loss read at each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    running = 0.0
    model.train()
    for inputs, targets in feed:
        optimizer.zero_grad()
        value = work.loss(model(inputs), targets)
        value.backward()
        optimizer.step()
        running += value.item()


def given(loop):
    """A loop that takes loss and optimizer, given those of the kit."""
    return lambda model, feed, work: loop(model, feed, work.loss, optimizer_for(model, "adamw", LR))


FEEDS = {"ready": ready, "loader": loader}
LOOPS = {  # (name, feed) -> loop
    ("bare loop", "ready"): given(bare),
    ("bare loop", "loader"): given(bare),
    ("kit.train", "ready"): kits,
    ("tutorial loop", "loader"): tutorial,
} | {(name, feed): given(peer) for name, (peer, _) in PEERS.items() for feed in FEEDS}


def fresh():
    """The kit's tiny MLP, always with the same weights: on it any overhead shows."""
    torch.manual_seed(0)
    return kit.models.MLP()


def difference(which, steps):
    """How far weights end from those of the bare loop, at most; 0: equal to the last digit."""
    work, ends = kit.workloads.vision(), []
    for name, feed in (("bare loop", "ready"), which):
        model = fresh()
        LOOPS[name, feed](model, FEEDS[feed](work, steps), work)
        ends.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    return (ends[0] - ends[1]).abs().max().item()


def missing():
    """The distributions of PEERS that are not installed here."""
    return {it for _, it in PEERS.values() if version_of(it) is None}


def version_of(distribution):
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def admitted(steps):
    """Loops that end with the bare loop's weights -> by how much those differ; others -> why not.

    Agreement before timing: what learns something else does other work.
    """
    differs, refused, absent = {}, {}, missing()
    for which in LOOPS:
        if which[0] in PEERS and PEERS[which[0]][1] in absent:
            refused[which] = f"not installed: {PEERS[which[0]][1]}"
            continue
        apart = difference(which, steps)
        if apart <= ROUNDING:
            differs[which] = apart
        else:
            refused[which] = f"its weights end {apart:.2g} from those of the bare loop"
    return differs, refused
