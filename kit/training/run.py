"""What the loop keeps between two steps: data order, losses, scores, and how to go on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from itertools import islice, takewhile
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Task
from kit.errors import BadValue, NonFiniteLoss, UnknownName
from kit.figures import Live
from kit.inference import Score, device_of, evaluate
from kit.training.ends import Ends, positive, whole
from kit.training.history import History
from kit.training.optimizers import Optimizer, optimizer_for

LOOK_S = 0.1  # how often the loop reads its losses; each reading waits for the device
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}  # name -> what autocast computes in


class Run:
    """What the loop keeps between two steps."""

    def __init__(
        self,
        model: nn.Module,
        workload: Task,
        batch_size: int,
        lr: float,
        optimizer: Optimizer,
        precision: str,
        ends: Ends,
        evaluate_every: int | None,
        seed: int,
        live: bool,
    ):
        self.model, self.workload = model, workload
        self.batch_size = whole("batch_size", batch_size, workload.size("train"))
        self.lr, self.seed, self.live = positive("lr", lr), whole("seed", seed, least=0), live
        self.every = None if evaluate_every is None else whole("evaluate_every", evaluate_every)
        self.device = device_of(model)
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        self.precision, self.autocast = precision, PRECISIONS[precision]
        self.optimizer = optimizer_for(model, optimizer, lr)
        self.ends, self.stopped = ends, ""
        self.steps_per_epoch = workload.size("train") // batch_size
        self.losses: list[float] = []
        self.unread: list[Tensor] = []  # losses still on the device: reading one waits for it
        self.scores: list[tuple[int, Score]] = []
        self.train_s = 0.0
        self.interrupted = False

    def begin(self, total: int, resume: dict[str, Any] | None) -> None:
        """Start at step 0, or where `resume` ended."""
        if resume:
            self._restore(resume, total)
        else:
            self.scores.append((0, evaluate(self.model, self.workload, "validation")))
        self.total = total
        # Ten scores a run show the way; more would cost time on small models.
        self.every = self.every or max(self.steps_per_epoch, total // 10)
        self.modes = [(part, part.training) for part in self.model.modules()]
        self.model.train()
        self.curve = Live(total, shown=self.live)
        self.tick = time.perf_counter()
        self.stopped = self.ends.reached(self.train_s, self._score_now())

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches up to the last step; the order depends on seed and epoch alone."""
        done = len(self.losses)
        while done < self.total and not self.stopped:
            epoch, offset = divmod(done, self.steps_per_epoch)
            order = self.seed * 100_003 + epoch
            batches = self.workload.batches("train", self.batch_size, self.device, order)
            for batch in islice(batches, offset, offset + self.total - done):
                yield batch
                done += 1

    def due(self) -> bool:
        """Whether to look up from the steps: a score is due, or some time has gone by."""
        done = self.steps
        return (
            done % self.every == 0  # type: ignore[operator]
            or done == self.total
            or time.perf_counter() - self.tick > LOOK_S
        )

    @property
    def steps(self) -> int:
        """How many have been made, read or not."""
        return len(self.losses) + len(self.unread)

    def look(self) -> bool:
        """Read the losses, score if a score is due, draw; whether it is time to stop."""
        self._read()
        if self.steps % self.every == 0 or self.steps == self.total:  # type: ignore[operator]
            self._score()
        score = self._score_now()
        self.stopped = self.ends.reached(self.train_s, score)
        if self.stopped and score is None:
            self._score()  # a training that ends says how good it has become
        if self.curve.due():
            self.curve.draw(self.losses)
        self.tick = time.perf_counter()
        return bool(self.stopped)

    def _score(self) -> None:
        self.scores.append((self.steps, evaluate(self.model, self.workload, "validation")))

    def _score_now(self) -> Score | None:
        """The score of the weights as they are, if there is one."""
        at, score = self.scores[-1]
        return score if at == self.steps else None

    def _read(self) -> None:
        """Move the losses off the device; this is where the loop waits for it."""
        if not self.unread:
            return
        values = torch.stack(self.unread).tolist()
        self.train_s += time.perf_counter() - self.tick
        finite = list(takewhile(math.isfinite, values))
        self.losses, self.unread = [*self.losses, *finite], []  # at once: Ctrl-C finds either
        if len(finite) < len(values):
            message = (
                f"the loss was {values[len(finite)]} at step {len(self.losses) + 1} with "
                f"lr={self.lr:g}: nothing can be learnt from it. Use a smaller lr (try "
                f"{self.lr / 10:g}) and look for NaN or infinity in the inputs."
            )
            raise NonFiniteLoss(message, self.history())

    def end(self) -> None:
        """Read what is left, put the model's mode back, draw the last curve."""
        for part, mode in self.modes:
            part.training = mode
        self._read()
        if self.losses:
            score = self.scores[-1][1]
            note = f"{score.mean} {score.measure} on validation"
            self.curve.draw(self.losses, note, last=True)

    def history(self) -> History:
        """What has happened so far."""
        return History(
            losses=tuple(self.losses),
            scores=tuple(self.scores),
            train_s=self.train_s,
            batch_size=self.batch_size,
            lr=self.lr,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            workload=self.workload.name,
            device=str(self.device),
            threads=torch.get_num_threads(),
            precision=self.precision,
            interrupted=self.interrupted,
            stopped=self.stopped if len(self.losses) < self.total else "",
            state=self._state(),
        )

    def _state(self) -> dict[str, Any]:
        """Everything but the weights that the next step depends on."""
        return {
            "optimizer": deepcopy(self.optimizer.state_dict()),
            "rng": torch.get_rng_state(),  # dropout draws from it
            "losses": list(self.losses),
            "scores": [[at, asdict(score)] for at, score in self.scores],
            "train_s": self.train_s,
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "model": repr(self.model).splitlines()[0],
            "workload": self.workload.name,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "seed": self.seed,
            "optimizer": type(self.optimizer).__name__,
            "precision": self.precision,
        }

    def _restore(self, state: dict[str, Any], total: int) -> None:
        if not isinstance(state, dict):
            raise BadValue(f"resume={type(state).__name__}: give the `.state` of a history.")
        settings = {"precision": "fp32", **state["settings"]}  # older ones had no other
        for name, given in self._settings().items():
            if given != settings[name]:
                raise BadValue(
                    f"cannot resume with {name}={given!r}: the run to go on with has "
                    f"{name}={settings[name]!r}. Use that, or start without resume."
                )
        done = len(state["losses"])
        if total <= done:
            raise BadValue(
                f"nothing left to do: asked for {total:,} steps in all, {done:,} are done. "
                f"Give the total that you want to reach."
            )
        self.losses = list(state["losses"])
        self.scores = [(at, _score_from(kept)) for at, kept in state["scores"]]
        self.train_s = state["train_s"]
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        torch.set_rng_state(state["rng"])


def _score_from(kept: dict[str, Any]) -> Score:
    """A score as a state keeps it; older ones keep a number of right answers."""
    if "right" not in kept:
        return Score(**kept)
    rest = {name: value for name, value in kept.items() if name != "right"}
    return Score(total=kept["right"], squares=kept["right"], **rest)
