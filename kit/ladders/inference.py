"""One trained model in many forms: how fast each is, how large, and how good.

What it was like in training is the first form, and the one that all others are held against: each
is timed in turns with it, so a machine that becomes slower meanwhile makes no form slower, and
judged on the same examples, so that small losses show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.checks import is_whole
from kit.core.errors import BadValue, NotInstalled, NotSupported, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, paired_difference
from kit.core.units import words
from kit.costs.counting import count
from kit.costs.step_cost import peak_share
from kit.data.arguments import check_pair
from kit.data.dataset import example_batch
from kit.devices import out_of_memory
from kit.inference import device_of, judge, predict
from kit.ladders.model_forms import Form, is_legal, loss_of, rows_of
from kit.ladders.ratios import at_once, product
from kit.measurement import Peaks, compare, measure
from kit.models.custom import output_tensor, short_name, training_copy
from kit.plots import Picture, Table, trade_offs
from kit.techniques import Technique, size_on_disk, untouched
from kit.workloads import Workload

Make = Callable[..., nn.Module]  # from a model and an example, such as a technique
CALIBRATION = 64  # examples that a technique is given
FORMS = 24  # whose ratios hold at once, 19 times in 20: a choice among many finds the luckiest


@dataclass(frozen=True)
class InferenceLadder(Result):
    """Forms of one trained model, in the order in which they were tried."""

    model: nn.Module = field(repr=False)
    example: Tensor = field(repr=False)  # real inputs: to make forms with, and to time
    workload: Workload | None  # judges the forms; None: nobody does
    batch_sizes: tuple[int, ...]
    split: str
    budget_s: float
    peaks: Peaks | None = None
    forms: tuple[Form, ...] = ()
    worth: Tensor | None = field(default=None, repr=False)  # of each example, by the first form

    @property
    def first(self) -> Form:
        """The model as it was in training: what the others are held against."""
        return self.forms[0]

    @property
    def newest(self) -> Form:
        """The last one tried."""
        return self.forms[-1]

    @property
    def present(self) -> list[Form]:
        """Those that could be had."""
        return [form for form in self.forms if not form.absent]

    def __getitem__(self, name: str) -> Form:
        """The form of that name."""
        named = {form.name: form for form in self.forms}
        if name not in named:
            raise UnknownName("form", name, named)
        return named[name]

    def then(
        self, name: str, make: Make | nn.Module, *, of: str | None = None, **options: Any
    ) -> InferenceLadder:
        """The ladder with one form more.

        Parameters
        ----------
        name
            Of the form.
        make
            A technique, or another function of a model and an example; or a model that is ready.
        of
            Name of the form that it is made from; None: the model itself.
        options
            Of the technique.

        Raises
        ------
        BadValue
            There is a form of that name already; and what the technique refuses.

        Where a technique does not work here, or memory runs out, the form is there with the reason.
        """
        if name in {form.name for form in self.forms}:
            raise BadValue(f"name={name!r}: there is such a form; each needs its own.")
        started = time.perf_counter()
        try:
            made = make if isinstance(make, nn.Module) else self._made(make, of, options)
            form = Form(name, made, made_s=time.perf_counter() - started)
            return self._with(self._measured(form))
        except (NotSupported, NotInstalled) as error:
            return self._with(Form(name, absent=getattr(error, "reason", str(error))))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return self._with(Form(name, absent="out of memory"))

    def _made(self, make: Make, of: str | None, options: dict[str, Any]) -> nn.Module:
        source = self.model
        if of is not None:
            from_form = self[of]
            if from_form.model is None:
                raise NotSupported(f"{of!r} could not be made: {from_form.absent}")
            source = from_form.model
        own = source if isinstance(make, Technique) else untouched(source)  # others may change it
        return make(own, self.example, **options)

    def _with(self, form: Form) -> InferenceLadder:
        return replace(self, forms=(*self.forms, form))

    def _measured(self, form: Form) -> Form:
        """The form with its times, size and score."""
        model = form.model
        assert model is not None
        times, ratios, noise = {}, {}, {}
        for n in self.batch_sizes:
            calls = {self.first.name: self._as_in_training(n), form.name: self._call(model, n)}
            taken = compare(
                calls,
                varied=("answer", "mode", "dtype"),
                budget_s=self.budget_s,
                device=device_of(self.model),
            )
            ratios[n], noise[n] = at_once(taken.ratio(), self._several), taken.noise_floor
            times[n] = product(self.first.times[n], ratios[n], "s")
        form = replace(form, times=times, ratios=ratios, noise=noise)
        form = replace(form, bytes=size_on_disk(model))
        if self.workload is None or self.worth is None:
            return form
        score, worth = judge(model, self.workload, self.split)
        lost = paired_difference(after=self.worth.numpy(), before=worth.numpy())
        return replace(form, score=score, lost=lost)

    def _as_in_training(self, n: int) -> Callable[[], Tensor]:
        inputs = self._inputs(n)
        learner, _ = training_copy(self.model, inputs)
        learner.requires_grad_(True)
        if isinstance(learner(inputs), Tensor):
            return lambda: learner(inputs)
        return lambda: output_tensor(learner(inputs), learner)

    def _call(self, model: nn.Module, n: int) -> Callable[[], Tensor]:
        inputs = self._inputs(n)
        return lambda: predict(model, inputs)

    def _inputs(self, n: int) -> Tensor:
        return example_batch(self.example, n)

    def begun(self, name: str) -> InferenceLadder:
        """The ladder with its first form: the model as it is in training."""
        score, worth = None, None
        if self.workload:
            score, worth = judge(self.model, self.workload, self.split)
        times = {
            n: measure(
                self._as_in_training(n), budget_s=self.budget_s, device=device_of(self.model)
            ).median
            for n in self.batch_sizes
        }
        for n, taken in times.items():
            self._check_possible(n, taken.value)
        size = size_on_disk(self.model)
        first = Form(name, self.model, size, times, score=score)
        return replace(self, worth=worth)._with(first)

    def _check_possible(self, n: int, seconds: float) -> None:
        """Refuse a time in which the machine's peak does not allow the model's FLOPs."""
        weights = next(self.model.parameters(), None)
        if self.peaks is None or weights is None or weights.dtype != torch.float32:
            return
        flops = count(self.model, self._inputs(n)).phases["predict"].flops
        peak_share(self.peaks, flops, seconds, "fp32")

    # --- What follows from it --------------------------------------------------------------------

    def front(self, batch_size: int | None = None) -> list[str]:
        """Names of the forms that nothing beats in all three: time, size and score."""
        n = self.batch_sizes[0] if batch_size is None else batch_size
        costs = {f.name: (f.times[n].value, f.bytes or 0, loss_of(f)) for f in self.present}

        def beaten(mine: tuple[float, ...]) -> bool:
            others = (c for c in costs.values() if c != mine)
            return any(all(a <= b for a, b in zip(c, mine, strict=True)) for c in others)

        return [name for name, mine in costs.items() if not beaten(mine)]

    def best(
        self,
        *,
        max_bytes: float | None = None,
        max_score_loss: float | None = None,
        batch_size: int | None = None,
    ) -> Form | None:
        """The fastest form within both limits; None if there is none.

        Parameters
        ----------
        max_bytes
            On disk, at most.
        max_score_loss
            Of the first form's score, at most: a share, as measured on these examples.
        batch_size
            For which it is to be fast; None: the smallest that was timed.
        """
        n = self.batch_sizes[0] if batch_size is None else batch_size
        legal = [f for f in self.present if is_legal(f, max_bytes, max_score_loss)]
        return min(legal, key=lambda form: form.times[n].value, default=None)

    def tied_with(self, form: Form, batch_size: int | None = None) -> list[str]:
        """Names of the slower forms that may be as fast as this one, as far as can be told."""
        n = self.batch_sizes[0] if batch_size is None else batch_size
        ratios = {f.name: f.ratios.get(n, Estimate(1.0, 1.0, 1.0, "×")) for f in self.present}
        mine = ratios[form.name]
        return [
            name
            for name, other in ratios.items()
            if name != form.name and other.value >= mine.value and other.low <= mine.high
        ]

    def __repr__(self) -> str:
        best = self.best()
        told = f"{len(self.present)} forms of {short_name(self.model)}"
        if best is None or best is self.first:
            return f"{told}, none faster than as in training"
        told += f", the fastest {best.name!r}: {best.speedup()} as fast as in training"
        tied = self.tied_with(best)
        return told + (f"; tied with it: {', '.join(tied)}" if tied else "")

    def table(self) -> Table:
        """What people see: a row per form."""
        return Table(*rows_of(list(self.forms), self.first), self._conditions())

    def _conditions(self) -> str:
        """How its forms were timed and judged, and the machine's limit."""
        told = (
            f"{short_name(self.model)} on {device_of(self.model)}. "
            f"Times: those of "
            f"{self.first.name!r} × the median ratio of rounds in turns with it"
            f"; faster and slower hold for "
            f"{self._several} ratios at once."
        )
        if self.workload and self.first.score:
            told += (
                f" Scores on {self.first.score.n:,} {self.split} examples of "
                f"{self.workload.name!r}; lost: on the same examples, with its 95 % interval."
            )
        n = self.batch_sizes[0]
        if bound := self.bound_s(n):
            told += (
                f" In float32 this machine could not answer {n:,} sooner than in "
                f"{words(bound, 's')}."
            )
        return told

    @property
    def _several(self) -> int:
        """How many ratios are to hold at once."""
        return FORMS * len(self.batch_sizes)

    def last(self, n: int) -> Table:
        """The first form and the last n, as a table."""
        return Table(*rows_of([self.first, *self.forms[1:][-n:]], self.first), self._conditions())

    def bound_s(self, batch_size: int) -> float | None:
        """The least seconds of a call in float32, by the roofline; None without peaks."""
        if self.peaks is None or "float32" not in self.peaks.matmul_flops_per_s:
            return None
        work = count(self.model, self._inputs(batch_size)).phases["predict"]
        return self.peaks.bound_s(work.flops, work.moved_bytes)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each form."""
        best = self.best()
        return {
            "workload": self.workload and self.workload.name,
            "model": short_name(self.model),
            "device": str(device_of(self.model)),
            "split": self.split,
            "batch_sizes": list(self.batch_sizes),
            "fastest": best and best.name,
            "front": self.front(),
            "bound_s": {n: self.bound_s(n) for n in self.batch_sizes},
            "forms": [form.to_dict() for form in self.forms],
        }

    def plot(
        self,
        batch_size: int | None = None,
        *,
        max_bytes: float | None = None,
        max_score_loss: float | None = None,
    ) -> Picture:
        """Latency against size, and the scores beside it; the best within limits is ringed."""
        n = self.batch_sizes[0] if batch_size is None else batch_size
        points = {}
        for form in self.present:
            if form.score is None:
                raise BadValue("without a workload there are no scores to show.")
            share = form.score.mean
            points[form.name] = (
                form.times[n].value,
                float(form.bytes or 0),
                (share.value, share.low, share.high),
            )
        asked = max_bytes is not None or max_score_loss is not None
        limits = {"max_bytes": max_bytes, "max_score_loss": max_score_loss}
        chosen = self.best(batch_size=n, **limits) if asked else None
        assert self.first.score is not None
        least = None
        if max_score_loss is not None:
            least = self.first.score.mean.value - max_score_loss
        front = self.front(n)
        return trade_offs(
            points,
            f"time of a call, {n:,} example{'s' * (n > 1)}",
            "size on disk",
            f"score: {self.first.score.measure}",
            caption=self._told(n, front, asked, chosen),
            x_unit="s",
            y_unit="B",
            front=front,
            limits=(max_bytes, least),
            chosen=chosen.name if chosen else "",
        )

    def _told(self, n: int, front: list[str], asked: bool, chosen: Form | None) -> str:
        def of(name: str) -> str:
            form = self[name]
            return f"{name} {words(form.times[n].value, 's')}, {words(form.bytes, 'B')}"

        told = f"Nothing beats (filled): {'; '.join(map(of, front))}."
        if asked and chosen is None:
            return f"No form keeps within the limits. {told}"
        if chosen:
            told = f"Fastest within the limits: {of(chosen.name)}. {told}"
        return told


def inference_ladder(
    model: nn.Module,
    workload: Workload,
    *,
    name: str = "as in training",
    batch_sizes: tuple[int, ...] = (1,),
    split: str = "test",
    budget_s: float = 0.5,
    peaks: Peaks | None = None,
) -> InferenceLadder:
    """Forms of a trained model beside each other; the first is the model as it was in training.

    That is, in training mode and with gradients recorded: what one gets who calls the model
    without more ado. `InferenceLadder.then` adds the next form.

    Parameters
    ----------
    model
        A trained one; it stays as it is.
    workload
        Gives examples to time with, to make forms with, and to judge them by.
    name
        Of the first form.
    batch_sizes
        To time, in this order: the first is what latency means, and what `best` asks for.
    split
        By which forms are judged.
    budget_s
        Seconds for timing a form with each batch size.
    peaks
        From `kit.peaks`, for the machine's limit.

    Raises
    ------
    BadValue
        No batch size, or one that is no whole number of at least 1; or the model was faster than
        the machine's peak allows.

    Explained in lesson 09.
    """
    check_pair("kit.inference_ladder", model, workload)
    several = isinstance(batch_sizes, (tuple, list, range)) and batch_sizes
    if not several or any(not is_whole(n) or n < 1 for n in batch_sizes):
        raise BadValue(f"batch_sizes={batch_sizes!r}: needs whole numbers of at least 1: (1, 32).")
    example, _ = workload.example(CALIBRATION, device_of(model))
    bare = InferenceLadder(model, example, workload, tuple(batch_sizes), split, budget_s, peaks)
    return bare.begun(name)
