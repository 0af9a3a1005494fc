"""Kinds of drift by degree: what a world that changes does to the examples of a split.

kind          degree                                   changes
rotation      degrees                                  the images: they lean
thickness     share of the way to a thicker pen        the images; below 0, a thinner pen
noise         standard deviation of a grey value       the images: a worse camera
mix           share of examples that are 0, 1 or 2     which classes come, not how they look
meaning       share of the labels that now mean        the labels alone: class c is now c + 1;
              another class                            nothing that a model sees changes
voices        stretch of the frequencies               spectrograms: shorter or longer throats
prices        rise of all amounts                      payments: an event makes all things dearer

Shapes: N examples, H, W height and width, T time steps, F bands or numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, max_pool2d

from kit.core.checks import is_number
from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.data import Split
from kit.data.payments import FEATURES, GENUINE

MORE_FREQUENT = (0, 1, 2)  # the classes that "mix" brings more often


def changed(split: Split, kind: str, degree: float, seed: int = 0) -> Split:
    """The split after a drift of that kind and degree; a degree of 0 changes nothing.

    Parameters
    ----------
    split
        Inputs (N, …) and targets (N,).
    kind
        A name in `kit.monitoring.CHANGES`.
    degree
        How far; the unit depends on the kind, see the file's first lines.
    seed
        Of what is drawn at random: noise, and which examples come.

    Raises
    ------
    UnknownName
        The kind is unknown; similar ones are listed.
    ShapeMismatch
        The inputs are not of the kind of data that can drift in this way.

    Examples
    --------
    >>> from kit.data import load_digits
    >>> test = load_digits()["test"]
    >>> changed(test, "rotation", 0).inputs.equal(test.inputs)
    True

    Explained in the lesson about drift.
    """
    if kind not in CHANGES:
        raise UnknownName("kind of drift", kind, CHANGES)
    if not is_number(degree) or not math.isfinite(degree):
        raise BadValue(f"degree={degree!r}: needs a finite number.")
    if degree == 0:
        return split
    return CHANGES[kind](split, float(degree), torch.Generator().manual_seed(seed))


def rotation(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Images turned by that many degrees around their middle."""
    images = _images("rotation", split)
    turn = math.radians(degree)
    matrix = torch.tensor(
        [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]
    )
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return Split(grid_sample(images, grid, align_corners=False), split.targets)


def thickness(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Images on the way to the darkest (below 0, the lightest) of each pixel's neighbours."""
    images = _images("thickness", split)
    if not -1 <= degree <= 1:
        raise BadValue(f"thickness by {degree:g}: needs a degree from -1 to 1.")
    darkest, lightest = (s * max_pool2d(s * images, 3, stride=1, padding=1) for s in (1, -1))
    end = darkest if degree > 0 else lightest
    return Split(images + abs(degree) * (end - images), split.targets)


def noise(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Images with Gaussian noise on each pixel, cut to the range from 0 to 1."""
    images = _images("noise", split)
    added = degree * torch.randn(images.shape, generator=generator)
    return Split((images + added).clamp(0, 1), split.targets)


def mix(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Examples of which this share are of the classes 0, 1 and 2; as many as there are for that.

    Each comes at most once. Drawing with replacement would keep their number, but copies are a
    drift of their own, which some detectors notice at once.
    """
    if not 0 <= degree <= 1:
        raise BadValue(f"mix of {degree:g}: needs a share from 0 to 1.")
    order = torch.randperm(len(split.targets), generator=generator)
    often = torch.isin(split.targets[order], torch.tensor(MORE_FREQUENT))
    frequent, others = order[often], order[~often]
    if not len(frequent) or not len(others):
        raise BadValue(f"mix: needs examples of the classes {MORE_FREQUENT} and of others.")
    most = min(len(part) / share for part, share in
               ((frequent, degree), (others, 1 - degree)) if share)  # fmt: skip
    chosen = torch.cat([frequent[: round(degree * most)], others[: round((1 - degree) * most)]])
    chosen = chosen[torch.randperm(len(chosen), generator=generator)]
    return Split(split.inputs[chosen], split.targets[chosen])


def meaning(split: Split, degree: float, generator: torch.Generator) -> Split:
    """The same inputs; this share of the labels is now the next class."""
    if not 0 <= degree <= 1:
        raise BadValue(f"meaning of {degree:g}: needs a share from 0 to 1.")
    classes = int(split.targets.max()) + 1
    moves = torch.rand(len(split.targets), generator=generator) < degree
    return Split(split.inputs, torch.where(moves, (split.targets + 1) % classes, split.targets))


def voices(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Spectrograms whose frequencies are stretched by 1 + degree, as by a shorter vocal tract.

    Jaitly & Hinton, "Vocal Tract Length Perturbation Improves Speech Recognition", 2013.
    """
    sounds = split.inputs
    if sounds.ndim != 3 or not -0.5 < degree <= 1:
        raise ShapeMismatch(
            f"voices by {degree:g} of inputs {tuple(sounds.shape)}: needs spectrograms (N, T, F), "
            f"and a degree above -0.5 and at most 1."
        )
    bands = sounds.shape[2]
    wide = interpolate(sounds, scale_factor=1 + degree, mode="linear", align_corners=False)
    cut = torch.zeros_like(sounds)
    cut[..., : min(bands, wide.shape[2])] = wide[..., :bands]
    return Split(cut, split.targets)


def prices(split: Split, degree: float, generator: torch.Generator) -> Split:
    """Payments whose amounts are all multiplied by 1 + degree."""
    if split.inputs.ndim != 2 or split.inputs.shape[1] != len(FEATURES) or degree <= -1:
        raise ShapeMismatch(
            f"prices by {degree:g} of inputs {tuple(split.inputs.shape)}: needs payments "
            f"(N, {len(FEATURES)}), and a degree above -1."
        )
    payments = split.inputs.clone()
    # Amounts are stored as logarithms, in deviations of genuine payments.
    payments[:, FEATURES.index("euros")] += math.log(1 + degree) / math.log(GENUINE.euros[1])
    return Split(payments, split.targets)


def _images(kind: str, split: Split) -> Tensor:
    if split.inputs.ndim != 4:
        shape = tuple(split.inputs.shape)
        raise ShapeMismatch(f"{kind}: given inputs {shape}; needs images (N, channels, H, W).")
    return split.inputs


CHANGES: dict[str, Callable[[Split, float, torch.Generator], Split]] = {
    "rotation": rotation,
    "thickness": thickness,
    "noise": noise,
    "mix": mix,
    "meaning": meaning,
    "voices": voices,
    "prices": prices,
}
