"""Readers of published file formats: in memory, without unpacking on disk or unpickling.

Shapes: N examples, C channels, H height, W width.
"""

from __future__ import annotations

import gzip
import math
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.core.errors import BadValue

Bytes = NDArray[np.uint8]
LabelledImages = tuple[Bytes, Bytes]  # images (N, C, H, W) and labels (N,)


def read_idx_files(
    images: Path, labels: Path, test_images: Path, test_labels: Path
) -> list[LabelledImages]:
    """Grey training and test images with their labels, from four files in MNIST's format."""
    pairs = (images, labels), (test_images, test_labels)
    return [(_idx(each, rank=3)[:, None], _idx(its, rank=1)) for each, its in pairs]


def _idx(path: Path, rank: int) -> Bytes:
    """The array in a gzipped IDX file.

    The format: two zero bytes, 8 for "unsigned bytes", the rank; each size as four bytes, most
    significant first; then the array, row by row.
    """
    raw = gzip.decompress(path.read_bytes())
    start = 4 + 4 * rank
    magic, *sizes = struct.unpack(f">{1 + rank}I", raw[:start].ljust(start, b"\0"))
    if magic != 0x0800 + rank or len(raw) != start + math.prod(sizes):
        raise BadValue(
            f"{path}: needs unsigned bytes of rank {rank} in the IDX format; the file starts with "
            f"{raw[:start].hex(' ', 4)} and has {len(raw):,} bytes. Delete it and fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(sizes)


CIFAR_RECORD = np.dtype([("label", "u1"), ("image", "u1", (3, 32, 32))])


def read_cifar10(path: Path) -> list[LabelledImages]:
    """Training and test images with their labels, from the binary version of CIFAR-10."""
    with tarfile.open(path, "r|gz") as archive:  # one pass, in the order of the archive
        raw = {
            Path(member.name).name: content.read()
            for member in archive
            if (content := archive.extractfile(member)) and member.name.endswith(".bin")
        }
    test = np.frombuffer(raw.pop("test_batch.bin"), CIFAR_RECORD)
    train = np.frombuffer(b"".join(raw.values()), CIFAR_RECORD)
    return [(part["image"], part["label"]) for part in (train, test)]


def read_movielens(path: Path) -> NDArray[np.int64]:
    """The ratings of MovieLens 100K in the order of the file: (N, 4), user, item, stars, second."""
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("ml-100k/u.data").decode("ascii").splitlines()
    return np.loadtxt(lines, dtype=np.int64, delimiter="\t", ndmin=2)
