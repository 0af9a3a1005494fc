"""What the loop keeps between two steps: losses, scores, and how to go on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit import devices
from kit.checkpoints import contents, save
from kit.core.checks import check_whole
from kit.core.errors import BadValue, NonFiniteLoss
from kit.core.units import words
from kit.inference import Score, evaluate
from kit.models.custom import short_name
from kit.plots import Live
from kit.training.engine import Engine
from kit.training.history import History
from kit.training.recipe import OLDER
from kit.training.resuming import (
    check_optimizer,
    check_options,
    check_same,
    check_weights,
    made_of,
    options_of,
    understood,
    warn_of_weights,
    weights_now,
)
from kit.training.stopping import Ends

LOOK_S = 0.1  # how often the loop reads its losses; each reading waits for the device


class Run:
    """What the loop keeps between two steps."""

    def __init__(
        self,
        engine: Engine,
        ends: Ends,
        evaluate_every: int | None,
        checkpoint: str | Path | None,
        live: bool,
    ):
        self.engine, self.model, self.workload = engine, engine.model, engine.workload
        self.processes = engine.processes
        self.every = evaluate_every
        if evaluate_every is not None:
            self.every = check_whole("evaluate_every", evaluate_every)
        self.ends, self.stopped = ends, ""
        self.checkpoint = None if checkpoint is None else _file(checkpoint)
        self.live = live and self.processes.rank == 0
        self.losses: list[float] = []
        self.unread: list[Tensor] = []  # losses still on the device: reading one waits for it
        self.scores: list[tuple[int, Score]] = []
        self.reads: list[tuple[int, float]] = []  # how many losses at a time, and their seconds
        self.train_s = self.compile_s = 0.0
        self.interrupted = False

    def begin(self, total: int, resume: dict[str, Any] | None) -> None:
        """Be at step 0, or where `resume` or the checkpoint ended."""
        devices.threads_here()  # this thread may be a new one, which would take every core
        self.total = total
        self.made_of = made_of(self.engine.whole, self.workload)
        self.options = options_of(
            self.engine.optimizer
        )  # before a schedule or a state changes them
        self.given = self.start_weights = weights_now(self.engine.whole)
        if self.checkpoint:
            self.processes.bring(self.checkpoint)
        with understood():
            if self.checkpoint and self.checkpoint.exists():
                resume = self._weights_kept(resume)  # all done already is as good as done now
            elif resume:
                self._check(resume, least=1)
                check_weights(resume.get("fingerprints", {}), self.given)
            if resume:
                self._restore(resume)
        if not resume:
            self.scores.append((0, evaluate(self.model, self.workload, "validation")))
            self._keep()
        # Ten scores a run show the way; more would cost time on small models.
        self.every = self.every or max(self.engine.steps_per_epoch, total // 10)
        self.stopped = self.ends.reached(self.train_s, self._score_now())
        self.curve = Live(total, shown=self.live)

    def start(self) -> None:
        """Compile, if asked for; from here on the time counts."""
        self.compile_s = self.engine.compile()
        self.tick, self.ahead = time.perf_counter(), 1

    def batches(self) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """(steps made before it, batch) up to the last step."""
        done = len(self.losses)
        if done < self.total and not self.stopped:
            yield from zip(
                count(done), islice(self.engine.batches(done), self.total - done), strict=False
            )

    def due(self) -> bool:
        """Whether to look up from the steps: a score is due, or some time has gone by."""
        return len(self.unread) >= self.ahead

    @property
    def steps(self) -> int:
        """How many have been made, read or not."""
        return len(self.losses) + len(self.unread)

    def look(self) -> bool:
        """Read the losses, score if a score is due, keep and draw; whether it is time to stop."""
        self._read()
        if self.steps % self.every == 0 or self.steps == self.total:  # type: ignore[operator]
            self._score()
        score = self._score_now()
        self._agree(self.ends.reached(self.train_s, score))
        if self.stopped and score is None:
            self._score()  # a training that ends says how good it has become
        if self.curve.due():
            rate = self.engine.recipe.batch_size * len(self.losses) / self.train_s
            self.curve.draw(self.losses, words(rate, "examples/s"))
        self.tick = time.perf_counter()
        return bool(self.stopped)

    def _agree(self, stopped: str) -> None:
        """All stop for the same reason, and look up at the same step, by the clock of process 0.

        They count steps until then: a clock would be read at each, and each has another.
        """
        steps, seconds = self.reads[-1]
        pace = max(1, round(LOOK_S * steps / seconds))
        to_score = self.every - self.steps % self.every  # type: ignore[operator]
        ahead = min(pace, to_score, self.total - self.steps)
        self.stopped, self.ahead = self.processes.agreed((stopped, ahead))

    def _score(self) -> None:
        self.scores.append((self.steps, evaluate(self.model, self.workload, "validation")))
        if self.steps < self.total:
            self._keep()

    def _score_now(self) -> Score | None:
        """The score of the weights as they are, if there is one."""
        at, score = self.scores[-1]
        return score if at == self.steps else None

    def _read(self) -> None:
        """Move the losses off the device; this is where the loop waits for it."""
        if not self.unread:
            return
        values = self.processes.mean(torch.stack(self.unread)).tolist()
        taken_s = time.perf_counter() - self.tick
        self.train_s += taken_s
        self.reads.append((len(values), taken_s))
        finite = list(takewhile(math.isfinite, values))
        self.losses, self.unread = [*self.losses, *finite], []  # at once: Ctrl-C finds either
        if len(finite) < len(values):
            lr = self.engine.recipe.lr
            message = (
                f"the loss was {values[len(finite)]} at step {len(self.losses) + 1} with "
                f"lr={lr:g}: nothing can be learnt from it. Use a smaller lr (try "
                f"{lr / 10:g}) and look for NaN or infinity in the inputs."
            )
            raise NonFiniteLoss(message, self.history())

    def end(self) -> None:
        """Read what is left, draw the last curve."""
        if self.processes.alone:  # else the others may be at another step, or gone
            self._read()
        if self.losses:
            score = self.scores[-1][1]
            note = f"{score.mean} {score.measure} on validation"
            self.curve.draw(self.losses, note, last=True)

    def kept(self) -> History:
        """What has happened, in the checkpoint too if there is to be one."""
        history = self.history()
        self._save(history)
        return history

    def _keep(self) -> None:
        if self.checkpoint:
            self._save(self.history())  # made by all processes: each may hold a part of it

    def _save(self, history: History) -> None:
        if self.checkpoint and self.processes.keeps:
            try:
                save(self.checkpoint, self.engine.whole, history)
            except OSError as error:
                told = f"checkpoint={str(self.checkpoint)!r} cannot be written"
                raise BadValue(f"{told}: {error}. Give a file in a folder of yours.") from error

    def history(self) -> History:
        """What has happened so far."""
        recipe = self.engine.recipe
        return History(
            losses=tuple(self.losses),
            scores=tuple(self.scores),
            train_s=self.train_s,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
            steps_per_epoch=self.engine.steps_per_epoch,
            seed=recipe.seed,
            workload=self.workload.name,
            device=str(self.engine.device),
            threads=torch.get_num_threads(),
            precision=recipe.precision,
            interrupted=self.interrupted,
            stopped=self.stopped if len(self.losses) < self.total else "",
            compile_s=self.compile_s,
            reads=tuple(self.reads),
            state=self._state(),
        )

    def _state(self) -> dict[str, Any]:
        """Everything but the weights that the next step depends on."""
        return {
            "optimizer": self.engine.state(),
            "rng": torch.get_rng_state(),  # dropout draws from it
            "losses": list(self.losses),
            "scores": [[at, asdict(score)] for at, score in self.scores],
            "train_s": self.train_s,
            "settings": self._settings(),
            "fingerprints": {
                "made of": self.made_of,
                "options": self.options,
                "start": self.start_weights,
                "weights": weights_now(self.engine.whole),
            },
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "model": short_name(self.engine.whole),
            "workload": self.workload.name,
            "optimizer": type(self.engine.optimizer).__name__,
            **self.engine.recipe.settings(self.total),
        }

    def _weights_kept(self, resume: dict[str, Any] | None) -> dict[str, Any]:
        """Take over the weights in the checkpoint; what else the training needs to go on."""
        kept = contents(self.checkpoint)  # type: ignore[arg-type]
        if resume is not None or kept.state is None:
            told = "resume is given too" if resume is not None else "it holds no training"
            raise BadValue(
                f"checkpoint={str(self.checkpoint)!r} is there, but {told}. "
                f"Use another file, or only one of the two."
            )
        self._check(kept.state, least=0)
        kept.fill(self.engine.whole)
        warn_of_weights(kept.state.get("fingerprints", {}), self.given)
        return kept.state

    def _check(self, state: dict[str, Any], least: int) -> None:
        """Refuse a state of another training, or one with fewer steps left than `least`."""
        if not isinstance(state, dict):
            raise BadValue(f"resume={type(state).__name__}: give the `.state` of a history.")
        settings = {**OLDER, **state["settings"]}
        for name, given in self._settings().items():
            if name == "model" and settings.get(name) == repr(self.engine.whole).splitlines()[0]:
                continue  # as older kits called it
            if given != settings.get(name):
                raise BadValue(
                    f"cannot resume with {name}={given!r}: the run to go on with has "
                    f"{name}={settings.get(name)!r}. Use that, or start anew."
                )
        if self.total - (done := len(state["losses"])) < least:
            raise BadValue(
                f"nothing left to do: asked for {self.total:,} steps in all, {done:,} are done. "
                f"Give the total that you want to reach."
            )
        check_same(state.get("fingerprints", {}), self.made_of)
        check_optimizer(state["optimizer"], self.engine.optimizer)
        check_options(state.get("fingerprints", {}), self.options)

    def _restore(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])
        self.scores = [(at, _score_from(kept)) for at, kept in state["scores"]]
        self.train_s = state["train_s"]
        self.start_weights = state.get("fingerprints", {}).get("start", self.given)
        self.engine.load_state(state["optimizer"])
        torch.set_rng_state(state["rng"])


def _file(checkpoint: Any) -> Path:
    if not isinstance(checkpoint, (str, Path)) or not str(checkpoint):
        raise BadValue(f"checkpoint={checkpoint!r}: needs the path of a file, or None.")
    if Path(checkpoint).is_dir():
        told = f"is a folder; needs a file, such as {str(Path(checkpoint) / 'model.safetensors')!r}"
        raise BadValue(f"checkpoint={str(checkpoint)!r} {told}.")
    return Path(checkpoint)


def _score_from(kept: dict[str, Any]) -> Score:
    """A score as a state keeps it; older ones keep a number of right answers."""
    if "right" not in kept:
        known = {each.name for each in fields(Score)}
        if not known >= set(kept):
            raise BadValue(f"cannot resume: a score has {sorted(set(kept) - known)!r:.80}.")
        return Score(**kept)
    rest = {name: value for name, value in kept.items() if name != "right"}
    return Score(total=kept["right"], squares=kept["right"], **rest)
