"""Handwritten digits: real, small, and part of scikit-learn, so nothing is downloaded."""

import torch

from kit.data.dataset import Dataset, cut

SEED = 0  # of the shuffle before splitting; fixed, so that test scores can be compared
SIZES = {"train": 1_197, "validation": 300, "test": 300}


def load_digits() -> Dataset:
    """1,797 handwritten digits as grey images of 8×8, with labels 0 to 9.

    Inputs are (N, 1, 8, 8) float32 from 0 (paper) to 1 (ink): the share of inked pixels in each
    4×4 block of a 32×32 bitmap. Targets are (N,) int64.

    Notes
    -----
    E. Alpaydın and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (CC BY 4.0); the part that scikit-learn ships.

    Seen first in lesson 01.
    """
    from sklearn import datasets

    raw = datasets.load_digits()
    order = torch.randperm(len(raw.target), generator=torch.Generator().manual_seed(SEED))
    inputs = torch.tensor(raw.images, dtype=torch.float32).div(16).unsqueeze(1)[order]
    targets = torch.tensor(raw.target, dtype=torch.int64)[order]
    return Dataset(
        name="digits",
        splits=cut(inputs, targets, SIZES),
        classes=tuple("0123456789"),
        origin="handwritten by 13 people, digitised with NIST's programs (Alpaydın & Kaynak, 1998)",
        licence="CC BY 4.0",
    )
