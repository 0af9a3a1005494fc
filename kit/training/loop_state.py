"""What has happened so far in a training: losses, scores and seconds; and when it stops."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from kit.core.checks import check_positive, check_share, check_whole
from kit.core.errors import BadValue, NonFiniteLoss
from kit.core.units import words
from kit.devices import backend_of
from kit.inference import Score, evaluate
from kit.plots import Live
from kit.training.checkpointing import Checkpointing
from kit.training.history import History
from kit.training.setup import Setup

READ_EVERY_S = 0.1  # how often the loop reads its losses; each reading waits for the device


@dataclass(frozen=True)
class StopRule:
    """What ends a training before its last step."""

    budget_s: float | None = None
    target: float | None = None
    target_loss: float | None = None

    def __post_init__(self) -> None:
        for name in ("budget_s", "target_loss"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.target is not None:
            check_share("target", self.target, "a score", hint="Give 0.97 for 97 %.")

    def reason(self, train_s: float, score: Score | None) -> str:
        """Why to stop now; an empty text means to go on."""
        # Only a measured score counts: the training loss of one batch jumps too much to stop by.
        if self.target is not None and score and score.mean.value >= self.target:
            return "target reached"
        if self.target_loss is not None and score and score.loss <= self.target_loss:
            return "target loss reached"
        return "budget spent" if self.budget_s is not None and train_s >= self.budget_s else ""


def total_steps(steps: int | None, epochs: float | None, per_epoch: int) -> int:
    """The length of a training in steps, given as steps or as epochs."""
    if (steps is None) == (epochs is None):
        raise BadValue(f"given steps={steps!r} and epochs={epochs!r}: give one of them.")
    if steps is not None:
        return check_whole("steps", steps)
    # At least 1: a small share of an epoch must not be rounded to nothing.
    return max(1, round(check_positive("epochs", epochs) * per_epoch))


class Progress:
    """What has happened so far: losses, scores and seconds.

    Reading a loss makes Python wait until the device has computed it. A loop that reads at every
    step never runs ahead of a GPU, which then idles between steps. So losses stay on the device
    as `unread`, and are read together about every 0.1 s.
    """

    def __init__(
        self,
        setup: Setup,
        total: int,
        stop_rule: StopRule,
        checkpointing: Checkpointing,
        evaluate_every: int | None,
        live: bool,
    ):
        self.setup, self.total, self.stop_rule = setup, total, stop_rule
        self.checkpointing, self.processes = checkpointing, setup.processes
        self.backend = backend_of(setup.device)
        # Ten scores show how a training went; more would cost time on small models.
        default = max(setup.steps_per_epoch, total // 10)
        every = evaluate_every
        self.every = default if every is None else check_whole("evaluate_every", every)
        # One curve is enough: each process would draw its own.
        self.live = live and self.processes.rank == 0
        # Losses move from `unread` (on the device) to `losses` (numbers) each time that we look.
        self.losses: list[float] = []
        self.unread: list[Tensor] = []
        self.scores: list[tuple[int, Score]] = []
        self.reads: list[tuple[int, float]] = []  # (losses read together, their seconds)
        self.train_s = self.compile_s = 0.0
        self.stopped, self.interrupted = "", False

    @property
    def steps(self) -> int:
        """Steps made so far, read or not."""
        return len(self.losses) + len(self.unread)

    @property
    def steps_left(self) -> int:
        """Steps still to make; none if there is a reason to stop."""
        return 0 if self.stopped else max(0, self.total - self.steps)

    @property
    def score_now(self) -> Score | None:
        """The score of the weights as they are now, if it was measured."""
        at, score = self.scores[-1]
        return score if at == self.steps else None

    def begin(self, resume: dict[str, object] | None) -> None:
        """Go on from a state or a checkpoint if there is one; else measure the untrained model."""
        state = self.checkpointing.restore(resume)
        if state is None:
            self.evaluate()
        else:
            self.losses, self.train_s = list(state["losses"]), state["train_s"]
            self.scores = state["scores"]
        # A target that is reached already, or a budget that is spent, leaves no step to make.
        self.stopped = self.stop_rule.reason(self.train_s, self.score_now)

    def start_clock(self) -> None:
        """Compile if that was asked for; from here on the time counts."""
        self.curve = Live(self.total, shown=self.live)
        # Reported on its own: as a part of the first steps, it would make training look slow.
        self.compile_s = self.setup.compile_now()
        self.read_after = 1  # read the first loss at once: only then is the pace known
        self.restart_clock()

    def restart_clock(self) -> None:
        """Count the time from here on: what came before was not training."""
        self.compiled_before_s = self.backend.compile_s()
        self.clock = time.perf_counter()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Finish the steps so far and read their time; the loop then restarts its clock."""
        # With no loss unread, the loop looks at what happens, and restarts the clock after that.
        self.read_losses()
        yield

    def read_losses(self) -> None:
        """Move the losses off the device; this is where the loop waits for it."""
        if not self.unread:
            return
        # (N,) for all unread losses: one transfer. `.item()` on each would wait N times.
        values = self.processes.mean(torch.stack(self.unread)).tolist()
        # Only now are the steps done. A clock stopped before this line would time their start.
        taken_s = time.perf_counter() - self.clock
        # A TPU's compiler works inside the first steps, and counts for itself. The floor is there
        # because two clocks never agree to the last digit.
        compiled_s = self.backend.compile_s() - self.compiled_before_s
        taken_s = max(taken_s - compiled_s, 1e-6)
        self.compile_s += compiled_s
        self.train_s += taken_s
        self.reads.append((len(values), taken_s))
        # The first bad loss counts: after it, the weights are usually NaN, and so are all later
        # losses.
        finite = list(takewhile(math.isfinite, values))
        # In one statement, so that an interrupt finds the losses in one list or the other.
        self.losses, self.unread = [*self.losses, *finite], []
        if len(finite) < len(values):
            lr = self.setup.recipe.lr
            message = (
                f"the loss was {values[len(finite)]} at step {len(self.losses) + 1} with "
                f"lr={lr:g}: the model cannot learn from it. Use a smaller lr (try "
                f"{lr / 10:g}), and look for NaN or infinity in the inputs."
            )
            raise NonFiniteLoss(message, self.history())

    def evaluate(self) -> None:
        """Measure the score on the validation split, and write the checkpoint.

        At the last step it is not written here: that happens once the training is over.
        """
        # On validation, not on test: to stop by the test score would be to train on it.
        score = evaluate(self.setup.model, self.setup.workload, "validation")
        self.scores.append((self.steps, score))
        if self.checkpointing.path and self.steps < self.total:
            self.checkpointing.save(self.history())

    @property
    def score_is_due(self) -> bool:
        """Whether the validation score is to be measured after this step."""
        return self.steps % self.every == 0 or self.steps == self.total

    def must_stop(self) -> bool:
        """Whether to stop; if not, `read_after` says how many steps to make until the next look.

        All processes must stop at the same step, else some would wait for gradients that never
        come. Their clocks differ, so process 0 decides, and all count steps until the next look.
        """
        # By the latest pace: the first steps are slow, and a laptop slows down when it is hot.
        steps, seconds = self.reads[-1]
        per_look = max(1, round(READ_EVERY_S * steps / seconds))
        to_score = self.every - self.steps % self.every
        reason = self.stop_rule.reason(self.train_s, self.score_now)
        # Never past a step at which a score is due, nor past the last one.
        read_after = min(per_look, to_score, self.total - self.steps)
        self.stopped, self.read_after = self.processes.agreed((reason, read_after))
        if self.stopped and self.score_now is None:
            self.evaluate()  # a training that ends says how good its model is
        return bool(self.stopped)

    def draw(self) -> None:
        """Draw the loss curve, if that takes less than 1 % of the time."""
        if self.curve.due():
            rate = self.setup.recipe.batch_size * len(self.losses) / self.train_s
            self.curve.draw(self.losses, words(rate, "examples/s"))

    def end(self) -> None:
        """Read the last losses, draw the last curve."""
        if self.processes.alone:  # else the others may be at another step, or gone
            self.read_losses()
        if self.losses:
            score = self.scores[-1][1]
            note = f"{score.mean} {score.measure} on validation"
            self.curve.draw(self.losses, note, last=True)

    def history(self) -> History:
        """What has happened so far."""
        recipe = self.setup.recipe
        return History(
            losses=tuple(self.losses),
            scores=tuple(self.scores),
            train_s=self.train_s,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
            steps_per_epoch=self.setup.steps_per_epoch,
            seed=recipe.seed,
            workload=self.setup.workload.name,
            device=str(self.setup.device),
            threads=torch.get_num_threads(),
            precision=recipe.precision,
            interrupted=self.interrupted,
            stopped=self.stopped if len(self.losses) < self.total else "",
            compile_s=self.compile_s,
            reads=tuple(self.reads),
            state=self.checkpointing.state(self.losses, self.scores, self.train_s),
        )
