"""One trained model in many forms: how fast each is, how large, and how good.

The first form is the model in plain PyTorch, in evaluation mode and in inference mode, which costs
nothing. All others are compared with it. Each is timed in turns with it: if the machine becomes
slower meanwhile, no form looks slower for it. Each is scored on the same examples, so small losses
of score become visible.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.checks import is_whole
from kit.core.errors import BadValue, NotInstalled, NotSupported
from kit.core.statistics import Estimate, product, quotient
from kit.core.units import words
from kit.costs.counting import count
from kit.data.arguments import check_pair
from kit.data.dataset import example_batch
from kit.devices import out_of_memory, start_work
from kit.inference import Runtime, device_of, judge, predict
from kit.inference.prediction import evaluating
from kit.ladders.ladder import SAME_TIME, Ladder, simultaneous
from kit.ladders.model_form import UNKNOWN_RATIO, ModelForm, rows_of
from kit.measurement import Call, Comparison, Peaks, all_doubts, compare, measure
from kit.measurement.comparison import decide
from kit.models.custom import copy_model, output_tensor, short_name
from kit.plots import Note, Picture, multiples, pareto_front
from kit.techniques import Technique, inference_copy, keep_zeros, size_on_disk
from kit.training import train
from kit.workloads import Workload

Make = Callable[..., nn.Module]  # from a model and an example, such as a technique
CALIBRATION = 64  # examples that a technique is given
FORMS = 48  # ratios that hold at once: the best of many forms is easily the luckiest one


@dataclass(frozen=True)
class InferenceLadder(Ladder[ModelForm]):
    """Forms of one trained model, in the order in which they were tried."""

    model: nn.Module = field(repr=False)
    example: Tensor = field(repr=False)  # real inputs, for making forms and for timing
    workload: Workload | None  # scores the forms; None: forms have no scores
    batch_sizes: tuple[int, ...]
    split: str
    budget_s: float

    _key = "forms"

    def then(
        self, name: str, make: Make | nn.Module, *, of: str | None = None, **options: Any
    ) -> InferenceLadder:
        """The ladder with one more form.

        Parameters
        ----------
        name
            Of the form.
        make
            A technique, another function of a model and an example, or a finished model.
        of
            Name of the form from which it is made. None: the model itself.
        options
            Of the technique.

        Raises
        ------
        BadValue
            If the ladder has a form of this name, or if the technique refuses its options.

        If a technique does not work here, or memory runs out, the form's row gives the reason.
        """
        self._check_new(name)
        started = time.perf_counter()
        try:
            made = make if isinstance(make, nn.Module) else self._made(make, of, options)
            made_s = time.perf_counter() - started
            bare = copy_to_call_bare(made, [*map(self._inputs, self.batch_sizes)])
            return self._with(self._measured(ModelForm(name, made, made_s=made_s, bare=bare)))
        except (NotSupported, NotInstalled) as error:
            return self._with(ModelForm(name, absent=getattr(error, "reason", str(error))))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return self._with(ModelForm(name, absent="out of memory"))

    def _made(self, make: Make, of: str | None, options: dict[str, Any]) -> nn.Module:
        source = self.model
        if of is not None:
            from_form = self[of]
            if from_form.model is None:
                raise NotSupported(f"{of!r} could not be made: {from_form.absent}")
            source = from_form.model
        # A technique leaves its model unchanged; your own function gets a copy.
        own = source if isinstance(make, Technique) else inference_copy(source)
        return make(own, self.example, **options)

    def _measured(self, form: ModelForm) -> ModelForm:
        """The form with its times, size and score."""
        model = form.model
        assert model is not None
        times, ratios, noise, doubts = {}, {}, {}, []
        for n in self.batch_sizes:
            timed = self.in_turns([self.first, form], n)
            ratios[n], noise[n] = simultaneous(timed.ratio(), self._comparisons), timed.noise_floor
            times[n] = product(self.first.times[n], ratios[n], "s")
            doubts += [f"for {n:,}: {doubt}" for doubt in all_doubts(timed.measurements)]
        form = replace(form, times=times, ratios=ratios, noise=noise, bytes=size_on_disk(model))
        form = replace(form, doubts=tuple(doubts))
        if self.workload is None:
            return form
        score, example_scores = judge(model, self.workload, self.split)
        form = replace(form, score=score, example_scores=example_scores)
        return replace(form, lost=form.lost_against(self.first))

    def in_turns(self, forms: list[ModelForm], n: int, budget_s: float | None = None) -> Comparison:
        """Predictions of several forms of the model, timed in turns, for batches of n."""
        budget_s, device = budget_s or self.budget_s, device_of(self.model)
        with ExitStack() as modes:
            calls = {form.name: modes.enter_context(self._call(form, n)) for form in forms}
            return compare(calls, varied=("answer", "dtype"), budget_s=budget_s, device=device)

    @contextmanager
    def _call(self, form: ModelForm, n: int) -> Iterator[Call]:
        """A prediction by a form, which stays in evaluation mode meanwhile.

        To switch a model over at each call takes microseconds, which a small one would notice.
        """
        model, inputs = form.model, self._inputs(n)
        assert model is not None
        with evaluating(model):
            if form.bare is not None:
                yield partial(infer, form.bare, inputs)
            elif isinstance(predict(model, inputs), Tensor):
                yield lambda: predict(model, inputs)
            else:
                yield lambda: output_tensor(predict(model, inputs), model)

    def _inputs(self, n: int) -> Tensor:
        return example_batch(self.example, n)

    def start(self, name: str) -> InferenceLadder:
        """The ladder with its first form: the model in plain PyTorch, in inference mode."""
        score, example_scores = None, None
        if self.workload:
            score, example_scores = judge(self.model, self.workload, self.split)
        bare = copy_to_call_bare(self.model, [*map(self._inputs, self.batch_sizes)])
        form = ModelForm(name, self.model, size_on_disk(self.model), score=score, bare=bare)
        times, doubts = {}, []
        for n in self.batch_sizes:
            with self._call(form, n) as call:
                timed = measure(call, budget_s=self.budget_s, device=device_of(self.model))
            times[n] = timed.median
            doubts += [f"for {n:,}: {doubt}" for doubt in timed.doubts]
            self._check_possible(n, times[n].value)
        form = replace(form, times=times, doubts=tuple(doubts))
        return self._with(replace(form, example_scores=example_scores))

    def with_no_grad(self) -> InferenceLadder:
        """The ladder with the model as `kit.predict` runs it, which only leaves out gradients."""
        if self.first.bare is None:  # then the first form is called so
            return self
        form = ModelForm(f"{self.first.name}, no_grad", self.model, is_reference=True)
        return self._with(self._measured(form))

    @property
    def candidates(self) -> list[ModelForm]:
        """The forms that you can choose from: all that are here, each once."""
        return [form for form in self.present if not form.is_reference]

    def _check_possible(self, n: int, seconds: float) -> None:
        """Raise if the machine's peak does not allow the model's FLOPs in this time."""
        weights, peaks = next(self.model.parameters(), None), self._float32_peaks
        if peaks and weights is not None and weights.dtype == torch.float32:
            peaks.share(count(self.model, self._inputs(n)).forward_flops, seconds)

    @property
    def _float32_peaks(self) -> Peaks | None:
        return self.peaks if self.peaks and "float32" in self.peaks.matmul_flops_per_s else None

    # --- What follows from the measurements ------------------------------------------------------

    def front(self, batch_size: int | None = None) -> list[str]:
        """Names of the forms that no other form beats in time, size and score (Pareto front).

        One form beats another if it is surely better in one of the three, and not worse in the
        others (`ModelForm.beats`). Small differences within the intervals are ties.
        """
        n = self.batch_sizes[0] if batch_size is None else batch_size
        forms = self.candidates
        return [form.name for form in forms if not any(o.beats(form, n) for o in forms)]

    def undecided(self, batch_size: int | None = None) -> list[str]:
        """Names of the forms for which noise decides whether they are on the front.

        The front of the measured values, without their intervals, is another than `front`.
        """
        n = self.batch_sizes[0] if batch_size is None else batch_size
        costs = {f.name: (f.times[n].value, f.bytes or 0, -f.score_loss) for f in self.candidates}
        return [name for name in costs if name in {*self.front(n)} ^ {*pareto_front(costs)}]

    def ratio(self, name: str, to: str, batch_size: int | None = None) -> Estimate:
        """Time of one form ÷ time of another, timed in turns; unknown if one is absent here."""
        n = self.batch_sizes[0] if batch_size is None else batch_size
        forms = [self[to], self[name]]
        absent = any(form.model is None for form in forms)
        return UNKNOWN_RATIO if absent else self.in_turns(forms, n).ratio()

    def against(self, name: str, to: str) -> Note:
        """Whether one form is faster than another, for each batch size: their ratios' quotient."""
        if absent := [each for each in (name, to) if self[each].absent]:
            return Note(f"Nothing to compare: {absent[0]!r} is not here.")
        paces, mine, other = [], self[name], self[to]
        for n in self.batch_sizes:
            # The first form has no ratios: it is what the others are compared with.
            ratio = quotient(mine.ratios.get(n, SAME_TIME), other.ratios.get(n, SAME_TIME))
            pace = decide(ratio, max(mine.noise.get(n, 0.0), other.noise.get(n, 0.0)))
            shown = f"{words(ratio.value, '×')} its time [{ratio.with_unit('').interval}]"
            paces.append(f"in batches of {n:,}, {pace}: {shown}")
        return Note(f"{name!r} compared with {to!r}: {'; '.join(paces)}.")

    def saved(self, name: str, batch_size: int) -> Estimate:
        """Seconds that a form saves of a call of the first form; below 0: it takes longer.

        The interval is unknown unless it surely saves time, and if the form is absent here.
        """
        first, ratio = self.first.times[batch_size], self[name].ratios.get(batch_size)
        share = 1 - (ratio or UNKNOWN_RATIO).value
        if not ratio or not ratio.high < 1:
            return Estimate(first.value * share, -math.inf, math.inf, "s")
        return product(first, Estimate(share, 1 - ratio.high, 1 - ratio.low), "s")

    def fastest(
        self,
        *,
        max_bytes: float | None = None,
        max_score_loss: float | None = None,
        batch_size: int | None = None,
    ) -> ModelForm | None:
        """The fastest form within both limits; None if no form is.

        Parameters
        ----------
        max_bytes
            The most that it may have on disk.
        max_score_loss
            The most that it may lose of the first form's score: a share, as measured here.
        batch_size
            For which it should be fast. None: the first of the ladder's batch sizes.
        """
        n = self.batch_sizes[0] if batch_size is None else batch_size
        allowed = [form for form in self.candidates if form.within(max_bytes, max_score_loss)]
        return min(allowed, key=lambda form: form.times[n].value, default=None)

    def tied_with(self, form: ModelForm, batch_size: int | None = None) -> list[str]:
        """Names of slower forms that may be as fast as this one: no form is surely faster.

        So a form that the table calls slower than the first is not among them.
        """
        n = self.batch_sizes[0] if batch_size is None else batch_size
        mine = form.ratios.get(n, SAME_TIME).value
        return [
            other.name
            for other in self.candidates
            if other.name != form.name
            and other.ratios.get(n, SAME_TIME).value >= mine
            and not any(each.surely_faster(other, n) for each in self.candidates)
        ]

    def bound_s(self, batch_size: int) -> float | None:
        """The least seconds of a call in float32, by the roofline; None without peaks."""
        if not (peaks := self._float32_peaks):
            return None
        cost = count(self.model, self._inputs(batch_size)).phases["predict"]
        return peaks.bound_s(cost.flops, cost.moved_bytes)

    def __repr__(self) -> str:
        best = self.fastest()
        text = f"{len(self.candidates)} forms of {short_name(self.model)}"
        if best is None or best is self.first:
            return f"{text}, none faster than {self.first.name!r}"
        text += f", the fastest {best.name!r}: {best.speedup()} as fast as {self.first.name!r}"
        tied = self.tied_with(best)
        return text + (f"; tied with it: {', '.join(map(repr, tied))}" if tied else "")

    def _rows(self, rungs: Sequence[ModelForm]) -> tuple[Sequence[str], list[Sequence[str]]]:
        return rows_of(rungs, self.first)

    def _caption(self) -> str:
        """The model, and what the forms are compared with."""
        name, device = short_name(self.model), device_of(self.model)
        return f"{name} on {device}. Each form is compared with {self.first.name!r}."

    def _details(self) -> str:
        """How the forms were timed and scored, and the machine's limit."""
        bare = ", ".join(repr(form.name) for form in self.present if form.bare is not None)
        caption = (
            f"All forms: in evaluation mode and without gradients. In inference mode: "
            f"{bare or 'none'}; the others by kit.predict. Times: those of "
            f"{self.first.name!r} × the median ratio of rounds in turns with it; in brackets, the "
            f"interval of 1 ÷ that ratio. Faster and "
            f"slower allow for {self._comparisons} comparisons, as many as a ladder may have."
        )
        if self.workload and self.first.score:
            caption += (
                f" Scores on {self.first.score.n:,} {self.split} examples of "
                f"{self.workload.name!r}; lost: on the same examples, with its 95 % interval."
            )
        n = self.batch_sizes[0]
        if bound := self.bound_s(n):
            caption += f" In float32, this machine needs at least {words(bound, 's')} for {n:,}."
        return caption + (self.peaks.renewals if self.peaks else "")

    def _doubts(self, rungs: Sequence[ModelForm]) -> list[str]:
        return [f"{form.name!r} {doubt}" for form in rungs for doubt in form.doubts]

    @property
    def _comparisons(self) -> int:
        """How many ratios hold at once."""
        return FORMS * len(self.batch_sizes)

    def _conditions(self) -> dict[str, Any]:
        best = self.fastest()
        return {
            "workload": self.workload and self.workload.name,
            "model": short_name(self.model),
            "device": str(device_of(self.model)),
            "split": self.split,
            "batch_sizes": list(self.batch_sizes),
            "fastest": best and best.name,
            "front": self.front(),
            "bound_s": {n: self.bound_s(n) for n in self.batch_sizes},
        }

    def plot(
        self,
        batch_size: int | None = None,
        *,
        max_bytes: float | None = None,
        max_score_loss: float | None = None,
    ) -> Picture:
        """Time, size and lost score of each form. The fastest within limits has a ring."""
        n = self.batch_sizes[0] if batch_size is None else batch_size
        if self.first.score is None:
            raise BadValue(
                "this ladder has no scores to show, since it was made without a workload: "
                "give kit.fastest a workload, or print the table."
            )
        columns = [
            [(e.value, e.low, e.high) for e in column]
            for column in zip(*(self._costs(form, n) for form in self.candidates), strict=True)
        ]
        limited = max_bytes is not None or max_score_loss is not None
        limits = {"max_bytes": max_bytes, "max_score_loss": max_score_loss}
        chosen = self.fastest(batch_size=n, **limits) if limited else None
        front, undecided = self.front(n), self.undecided(n)
        labels = (f"time of a call, {n:,} example{'s' * (n > 1)}", "size on disk", "score lost")
        return multiples(
            [form.name for form in self.candidates],
            dict(zip(labels, zip(columns, ("s", "B", "points"), strict=True), strict=True)),
            caption=self._plot_caption(n, front, chosen, max_bytes, max_score_loss),
            hollow=[f.name for f in self.candidates if f.name not in (*front, *undecided)],
            half=undecided,
            limits={labels[1]: max_bytes, labels[2]: max_score_loss},
            chosen=chosen.name if chosen else "",
        )

    def _costs(self, form: ModelForm, n: int) -> tuple[Estimate, Estimate, Estimate]:
        """Time, bytes and lost score. The time's interval is that of its ratio to the first's."""
        size = float(form.bytes or 0)
        time = form.ratios.get(n, SAME_TIME) * self.first.times[n].value
        return time, Estimate(size, size, size), form.lost or Estimate(0.0, 0.0, 0.0)

    def _plot_caption(
        self,
        n: int,
        front: list[str],
        chosen: ModelForm | None,
        max_bytes: float | None,
        max_score_loss: float | None,
    ) -> str:
        def of(name: str) -> str:
            form = self[name]
            return f"{name} {words(form.times[n].value, 's')}, {words(form.bytes, 'B')}"

        # A form of the front that noise may have put there is drawn half filled, not filled.
        noise_decides = self.undecided(n)
        filled = [name for name in front if name not in noise_decides]
        parts = []
        if filled:
            parts.append(f"No form beats those that are filled: {'; '.join(map(of, filled))}.")
        if noise_decides:
            parts.append(f"Half filled, because noise decides: {'; '.join(noise_decides)}.")
        caption = " ".join(parts)
        given = ((max_bytes, "B"), (max_score_loss, "points"))
        if limits := [words(most, unit) for most, unit in given if most is not None]:
            caption += f" Dashed lines: the limits, at most {' and '.join(limits)}."
        if limits and chosen is None:
            return f"No form is within the limits. {caption}"
        if chosen:
            caption = f"Fastest within the limits: {of(chosen.name)}. {caption}"
        return caption


def trained_on(technique: Technique, workload: Workload, *, seed: int = 0, **options: Any) -> Make:
    """A function that applies a technique and trains the result on, at half of the recipe's rate.

    What a technique set to zero stays zero meanwhile.
    """

    def make(model: nn.Module, example: Tensor) -> nn.Module:
        form = technique(model, example, **options).requires_grad_(True)
        recipe = {**workload.recipe, "lr": workload.recipe["lr"] / 2}
        with keep_zeros(form):
            train(form, workload, seed=seed, live=False, **recipe)
        return form.requires_grad_(False)

    return make


def inference_ladder(
    model: nn.Module,
    workload: Workload,
    *,
    name: str = "plain PyTorch",
    batch_sizes: tuple[int, ...] = (1,),
    split: str = "test",
    budget_s: float = 0.5,
    peaks: Peaks | None = None,
) -> InferenceLadder:
    """A ladder of forms of a trained model; the first is the model in plain PyTorch.

    It is called bare, in evaluation mode and in `torch.inference_mode`. That costs nothing, so a
    form has to beat it. Other forms that PyTorch runs without its compiler are called alike. The
    second row is the model as `kit.predict` runs it, which only leaves out gradients
    (`torch.no_grad`). `InferenceLadder.then` adds the next form.

    A model that does not run in inference mode, or answers otherwise there, is called by
    `kit.predict`, and the second row is left out.

    Parameters
    ----------
    model
        A trained model. It does not change.
    workload
        Provides examples for timing, for making forms, and for scoring them.
    name
        Of the first form. The second row has this name and ", no_grad".
    batch_sizes
        Batch sizes to time. `fastest` and `front` use the first one by default.
    split
        The split on which forms are scored.
    budget_s
        Seconds for timing a form, for each batch size.
    peaks
        From `kit.peaks`, to show the machine's limit.

    Raises
    ------
    BadValue
        If `batch_sizes` is empty or holds anything but whole numbers of at least 1, or if the
        model was faster than the machine's peak allows.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> ladder = inference_ladder(work.model("mlp"), work, budget_s=0.05)
    >>> ladder = ladder.then("bfloat16", kit.techniques.half)
    >>> ladder["bfloat16"].bytes < 0.6 * ladder.first.bytes
    True

    Explained in lesson 09.
    """
    check_pair("kit.inference_ladder", model, workload)
    sequence = isinstance(batch_sizes, (tuple, list, range)) and batch_sizes
    if not sequence or any(not is_whole(n) or n < 1 for n in batch_sizes):
        raise BadValue(f"batch_sizes={batch_sizes!r}: needs whole numbers of at least 1: (1, 32).")
    example, _ = workload.example(CALIBRATION, device_of(model))
    empty = InferenceLadder(model, example, workload, tuple(batch_sizes), split, budget_s)
    return replace(empty, peaks=peaks).start(name).with_no_grad()


def copy_to_call_bare(model: nn.Module, batches: Sequence[Tensor]) -> nn.Module | None:
    """A copy that runs in inference mode, with the model's own weights; None if none should.

    What a model keeps at a call, such as a state, could not be changed or trained with outside. So
    a copy keeps it. The compiler would compile a form again in inference mode. Models that compute
    a gradient do not run there, and some may answer otherwise.
    """
    parts = list(model.modules())
    if any(isinstance(part, Runtime) or "forward" in vars(part) for part in parts):
        return None  # another program, or a function that no copy would replace
    predict(model, batches[0])  # compiles, and finds the sizes of lazy layers
    try:
        if any(map(_is_compiled, parts)):
            return None
        # Not by `eval()`: some layers change their weights then, such as those of LoRA.
        with evaluating(model):
            copy = copy_model(model, share_weights=True)
        with _without_compiling():
            pairs = [(predict(model, inputs), infer(copy, inputs)) for inputs in batches]
        return copy if all(_alike(output_tensor(a, model), b) for a, b in pairs) else None
    except Exception:  # other people's models may raise anything, and memory may run out
        return None


def _is_compiled(part: nn.Module) -> bool:
    functions = (*vars(part).values(), getattr(type(part), "forward", None))
    by_a_wrapper = any(hasattr(each, "_torchdynamo_orig_callable") for each in functions)
    return by_a_wrapper or getattr(part, "_compiled_call_impl", None) is not None


def _without_compiling() -> AbstractContextManager[Any]:
    """Inside, whatever would be compiled again, such as a method, raises an error."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and to load it takes seconds
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("fail_on_recompile")
    return stance


def _alike(outputs: Tensor, others: Tensor) -> bool:
    """Whether two outputs differ by no more than rounding, beside a typical one of them."""
    if outputs.shape != others.shape or torch.equal(outputs, others):
        return outputs.shape == others.shape
    share = max(1e-3, 4 * torch.finfo(outputs.dtype).eps)
    a, b = outputs.double(), others.double()
    typical = a[a.isfinite()].abs().median().item()
    return torch.allclose(a, b, rtol=share, atol=share * typical, equal_nan=True)


def infer(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a bare call returns in inference mode, which is the fastest that plain PyTorch has."""
    # What `torch.inference_mode` enters. To make that object first takes 2 µs more at each call; a
    # loop within it, which no other call can share, pays for it once.
    with torch._C._InferenceMode(True):
        outputs = output_tensor(model(inputs), model)
    start_work(outputs)
    return outputs
