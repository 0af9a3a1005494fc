"""Writing a training to a file, and going on from a file or a state as if nothing had stopped it.

A state holds everything except the weights that the next step depends on: the optimizer's means,
PyTorch's random state, the number of steps. The order of batches follows from seed and step.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from kit.checkpoints import contents, save
from kit.core import tensor_files
from kit.core.errors import BadValue
from kit.inference import Score
from kit.models.custom import short_name
from kit.training.history import History
from kit.training.recipe import OLDER
from kit.training.resuming import (
    check_optimizer,
    check_options,
    check_same,
    check_weights,
    made_of,
    one_line_refusals,
    options_of,
    warn_of_weights,
    weights_now,
)
from kit.training.setup import Setup


class Checkpointing:
    """Writes a training to a file, and goes on from one.

    Fingerprints are taken when it is made, before a schedule or a state changes anything.
    """

    def __init__(self, setup: Setup, total: int, path: str | Path | None):
        self.setup, self.total = setup, total
        self.path = None if path is None else _checked(path)
        self.made_of = made_of(setup.given, setup.workload)
        self.options = options_of(setup.optimizer)
        # Digests, not copies of the weights: 16 characters each.
        self.given = self.start_weights = weights_now(setup.given)
        self.known = ""  # the file, as this training has read or written it last

    def restore(self, resume: dict[str, Any] | None) -> dict[str, Any] | None:
        """Bring model and optimizer to where `resume` or the file ended; the state, if any.

        `resume` must leave at least one step to make. A checkpoint may be complete: a command
        that is started again after its end returns its result.
        """
        if self.path:
            # Before `exists`: else some machines would resume, and others would begin at step 0.
            self.setup.processes.bring(self.path)
            self.known = _mark(self.path)
        with one_line_refusals():
            if self.path and self.path.exists():
                resume = self._read_file(self.path, resume)
            elif resume:
                self._check(resume, least=1)
                check_weights(resume.get("fingerprints", {}), self.given)
            if not resume:
                return None
            self.start_weights = resume.get("fingerprints", {}).get("start", self.given)
            scores = [(at, _score_from(saved)) for at, saved in resume["scores"]]
            # AdamW's running means are as much a part of the training as the weights. With fresh
            # means, the first steps after a restart would go elsewhere.
            self.setup.load_optimizer_state(resume["optimizer"])
            # Last, so that nothing above can draw from it. It is the CPU's generator. A state does
            # not hold a GPU's: there, dropout may draw other numbers after a resume.
            torch.set_rng_state(resume["rng"])
            return {**resume, "scores": scores}

    def state(
        self, losses: list[float], scores: list[tuple[int, Score]], train_s: float
    ) -> dict[str, Any]:
        """Everything except the weights that the next step depends on."""
        return {
            # In several processes each has a part: all must call this, also those that write
            # no file.
            "optimizer": self.setup.optimizer_state(),
            "rng": torch.get_rng_state(),  # dropout draws from it
            # One per step: their number says how many steps are done.
            "losses": list(losses),
            "scores": [[at, asdict(score)] for at, score in scores],
            "train_s": train_s,
            "settings": self._settings(),
            "fingerprints": {
                "made of": self.made_of,
                "options": self.options,
                "start": self.start_weights,
                "weights": weights_now(self.setup.given),
            },
        }

    def save(self, history: History) -> None:
        """Write model and history to the file, if there is to be one."""
        # One process per machine: several would replace each other's file.
        if self.path and self.setup.processes.keeps:
            # Two trainings would replace each other's steps. The second one to save ends here.
            # Machines of one training may share a disk, and then write the same file in turns.
            if self.setup.processes.alone and _mark(self.path) not in ("", self.known):
                raise BadValue(
                    f"checkpoint={str(self.path)!r} was written by another training since this one "
                    f"began. Wait until that one has ended, or give each a file of its own."
                )
            try:
                save(self.path, self.setup.given, history)
                self.known = _mark(self.path)
            except OSError as error:
                raise BadValue(
                    f"checkpoint={str(self.path)!r} cannot be written: {error}. Give a file in a "
                    f"folder of yours."
                ) from error

    def _settings(self) -> dict[str, Any]:
        return {
            # Values that == can compare and that a message can show, side by side.
            "model": short_name(self.setup.given),
            "workload": self.setup.workload.name,
            "optimizer": type(self.setup.optimizer).__name__,
            **self.setup.recipe.settings(self.total),
        }

    def _read_file(self, path: Path, resume: dict[str, Any] | None) -> dict[str, Any]:
        """Take over the weights in the checkpoint; the state beside them."""
        saved = contents(path)
        if resume is not None or saved.state is None:
            reason = "it holds a model without the state of its training. Use another file."
            if resume is not None:
                reason = "resume is given too. Use another file, or only one of the two."
            raise BadValue(f"checkpoint={str(path)!r} exists, but {reason}")
        # First all checks, then the weights: a refusal leaves the model as it was.
        self._check(saved.state, least=0)
        saved.fill(self.setup.given)
        warn_of_weights(saved.state.get("fingerprints", {}), self.given)
        return saved.state

    def _check(self, state: dict[str, Any], least: int) -> None:
        """Refuse the state of another training, or one with fewer steps left than `least`."""
        if not isinstance(state, dict):
            raise BadValue(f"resume={type(state).__name__}: give the `.state` of a history.")
        # An option that an older kit did not have was then at what is its default today.
        saved = {**OLDER, **state["settings"]}
        for name, given in self._settings().items():
            if name == "model" and saved.get(name) == repr(self.setup.given).splitlines()[0]:
                continue  # what older kits noted as the model's name
            if given != saved.get(name):
                raise BadValue(
                    f"cannot resume with {name}={given!r}: the saved training has "
                    f"{name}={saved.get(name)!r}. Use that, or start a new training."
                )
        if self.total - (done := len(state["losses"])) < least:
            raise BadValue(
                f"nothing left to do: asked for {self.total:,} steps in all, {done:,} are done. "
                f"Give the total that you want to reach."
            )
        # Digests say only that something differs, so they come after the settings, which have
        # names.
        check_same(state.get("fingerprints", {}), self.made_of)
        check_optimizer(state["optimizer"], self.setup.optimizer)
        check_options(state.get("fingerprints", {}), self.options)


def _checked(path: Any) -> Path:
    if not isinstance(path, (str, Path)) or not str(path):
        raise BadValue(f"checkpoint={path!r}: needs the path of a file, or None.")
    if Path(path).is_dir():
        example = str(Path(path) / "model.safetensors")
        raise BadValue(f"checkpoint={str(path)!r} is a folder; needs a file, such as {example!r}.")
    return Path(path)


def _mark(path: Path) -> str:
    """A digest of the file's header, which differs for each save; "" without a file.

    Not the time of the file: on a network disk it may change by itself.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return sha256(file.read(min(size, tensor_files.MOST_HEADER_BYTES))).hexdigest()
    except OSError:
        return ""


def _score_from(saved: dict[str, Any]) -> Score:
    """A score out of a state; older kits saved the number of right answers."""
    if "right" not in saved:
        known = {each.name for each in fields(Score)}
        # Else Score(**saved) would raise a TypeError that names the class, and not the file.
        if unknown := sorted(set(saved) - known):
            raise BadValue(f"cannot resume: a score has {unknown!r:.80}.")
        return Score(**saved)
    rest = {name: value for name, value in saved.items() if name != "right"}
    # Each score was 0 or 1, where x² = x: the sum of the squares is the same number.
    return Score(total=saved["right"], squares=saved["right"], **rest)
