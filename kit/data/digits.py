"""Handwritten digits: real, small, and part of scikit-learn, so nothing is downloaded."""

from importlib import metadata

import numpy as np
import torch

from kit.data.dataset import Dataset, cut

FILE = "sklearn/datasets/data/digits.csv.gz"
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
    # Only the file is read: to import scikit-learn would take longer than everything else here.
    path = metadata.distribution("scikit-learn").locate_file(FILE)
    rows = torch.from_numpy(np.loadtxt(str(path), delimiter=","))  # (1797, 64 pixels and a label)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))]
    inputs = rows[:, :64].float().div(16).reshape(-1, 1, 8, 8)
    targets = rows[:, 64].long()
    return Dataset(
        name="digits",
        splits=cut(inputs, targets, SIZES),
        classes=tuple("0123456789"),
        origin="handwritten by 13 people, digitised with NIST's programs (Alpaydın & Kaynak, 1998)",
        licence="CC BY 4.0",
    )
