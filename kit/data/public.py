"""Larger public datasets: downloaded at the first use, then read from the user's cache.

The digests of the images are those that TensorFlow Datasets publishes. The digest of MovieLens is
of the file whose MD5, 0e33842e24a9c977be4e0107933c0723, its authors publish. No file is unpacked
on disk or unpickled; CIFAR-10 is in its binary version.

Shapes: N examples, C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kit.core.checks import check_whole
from kit.data.dataset import Dataset, Split
from kit.data.downloads import File, fetch
from kit.data.formats import LabelledImages, read_cifar10, read_idx_files, read_movielens

SEED = 0  # of the shuffle before splitting; fixed, so that test scores can be compared
HELD_OUT = 10  # one training image in ten is for validation


def _idx_files(folder: str, mirrors: tuple[str, ...], *known: tuple[int, str]) -> tuple[File, ...]:
    kinds = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    names = [f"{folder}/{pile}-{kind}" for pile in ("train", "t10k") for kind in kinds]
    return tuple(
        File(name, size_bytes, f"sha256:{digest}", mirrors)
        for name, (size_bytes, digest) in zip(names, known, strict=True)
    )


# The last mirror uses plain http, for a Python that finds no certificates and for servers whose
# certificate has expired. The digest still guarantees the right bytes.
FILES = {
    "mnist": _idx_files(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": _idx_files(
        "fashion_mnist",
        (
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar10": (
        File(
            "cifar10/cifar-10-binary.tar.gz",
            170_052_171,
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            (
                "https://www.cs.toronto.edu/~kriz/",
                "https://cave.cs.toronto.edu/kriz/",
                "http://www.cs.toronto.edu/~kriz/",
            ),
        ),
    ),
    "movielens": (
        File(
            "movielens/ml-100k.zip",
            4_924_029,
            "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            (
                "https://files.grouplens.org/datasets/movielens/",
                "http://files.grouplens.org/datasets/movielens/",
            ),
        ),
    ),
}


def load_mnist(limit: int | None = None) -> Dataset:
    """70,000 handwritten digits as grey images of 28×28, with labels 0 to 9.

    Inputs are (N, 1, 28, 28) float32 from 0 (paper) to 1 (ink); targets are (N,) int64. There are
    11.6 MB to fetch, once. It takes 220 MB of memory.

    Parameters
    ----------
    limit
        The most examples in each split, the first in a seeded order. So a smaller dataset is a
        part of a larger one. None: all.

    Raises
    ------
    DownloadFailed
        The files are not in the cache, and could not be downloaded.

    Notes
    -----
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", 1998
    (CC BY-SA 3.0).
    """
    return Dataset(
        name="mnist",
        splits=_images("mnist", limit),
        classes=tuple("0123456789"),
        origin="handwritten by NIST's clerks and by pupils (LeCun, Cortes & Burges, 1998)",
        licence="CC BY-SA 3.0",
    )


def load_fashion_mnist(limit: int | None = None) -> Dataset:
    """70,000 grey images of 28×28 of clothes, of ten kinds: like `load_mnist`, but harder.

    There are 30.9 MB to fetch, once. It takes 220 MB of memory. `limit` and the errors are those of
    `load_mnist`.

    Notes
    -----
    H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv:1708.07747, 2017 (MIT).
    """
    return Dataset(
        name="fashion_mnist",
        splits=_images("fashion_mnist", limit),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        origin="photographs of a shop, reduced and in grey (Xiao, Rasul & Vollgraf, 2017)",
        licence="MIT",
    )


def load_cifar10(limit: int | None = None) -> Dataset:
    """60,000 colour images of 32×32, of ten kinds of animals and vehicles.

    Inputs are (N, 3, 32, 32) float32 from 0 to 1: red, green, blue; targets are (N,) int64. There
    are 170 MB to fetch, once. It takes 738 MB of memory, and 1 GB while it is read; set a `limit`
    if that is too much. `limit` and the errors are those of `load_mnist`.

    Notes
    -----
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; no licence is
    stated. 3.3 % of the test images are near-duplicates of training images: B. Barz and
    J. Denzler, "Do We Train on Test Data?", Journal of Imaging 6 (6), 2020.
    """
    return Dataset(
        name="cifar10",
        splits=_images("cifar10", limit),
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        origin="photographs from the web, reduced (Krizhevsky, 2009)",
        licence="none stated; the author asks to be cited",
    )


def load_movielens() -> Dataset:
    """100,000 ratings that 943 people gave to 1,682 films in 1997 and 1998, in order of time.

    Inputs are (N, 2) int64: rows of (user, item), each counted from 0. Targets are (N,) int64: the
    stars less one, 0 to 4. The test split has the last rating of each user, validation the one
    before, and train all earlier ones (leave-one-out: X. He et al., "Neural Collaborative
    Filtering", 2017). So a test rating of one user may be older than a training rating of another.
    Ratings of the same second are in the file's order. There are 4.92 MB to fetch, once.

    Raises
    ------
    DownloadFailed
        The file is not in the cache, and could not be downloaded.

    Notes
    -----
    F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5 (4),
    2015: MovieLens 100K. For research; do not redistribute or sell without permission.
    """
    (file,) = FILES["movielens"]
    # Columns: user, item, stars, second.
    rows = read_movielens(fetch(file, instead="kit.data.load_clicks()"))
    rows = rows[np.argsort(rows[:, 3], kind="stable")]
    later = _later_rows(rows[:, 0])
    chosen = {"train": later >= 2, "validation": later == 1, "test": later == 0}
    parts = {name: torch.from_numpy(rows[which, :3] - 1) for name, which in chosen.items()}
    return Dataset(
        name="movielens",
        splits={name: Split(part[:, :2], part[:, 2]) for name, part in parts.items()},
        classes=("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
        origin="ratings given on movielens.org, 1997 to 1998 (Harper & Konstan, 2015)",
        licence="for research; not to be redistributed",
    )


def _later_rows(users: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row, the number of later rows of the same user: (N,) -> (N,)."""
    by_user = np.argsort(users, kind="stable")
    ends = np.cumsum(np.bincount(users))[users[by_user]]
    later = np.empty_like(users)
    later[by_user] = ends - 1 - np.arange(len(users))
    return later


# --- Images: from files to splits ----------------------------------------------------------------


def _images(name: str, limit: int | None) -> dict[str, Split]:
    if limit is not None:
        check_whole("limit", limit, hint="None takes all examples.")
    paths = [fetch(file) for file in FILES[name]]
    train, test = read_cifar10(*paths) if name == "cifar10" else read_idx_files(*paths)
    seeded = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(train[1]), generator=seeded)
    # Shuffled too: the first half of MNIST's test file is easier than the second.
    test_order = torch.randperm(len(test[1]), generator=seeded)
    held_back = len(order) // HELD_OUT
    return {
        "train": _split(train, order[held_back:][:limit]),
        "validation": _split(train, order[:held_back][:limit]),
        "test": _split(test, test_order[:limit]),
    }


def _split(images_and_labels: LabelledImages, which: Tensor) -> Split:
    """These images, 0 to 1 (full brightness); only the chosen ones become float32."""
    images, labels = (torch.from_numpy(part[which.numpy()]) for part in images_and_labels)
    return Split(images.float().div_(255), labels.long())
