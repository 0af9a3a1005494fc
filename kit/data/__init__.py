"""Datasets: one file each, named after the dataset. They are seeded, and all splits are disjoint.

All but those of `public` are in the package, in an installed library, or generated: no network is
needed. Your own text file becomes a dataset by `load_text_file`.

Shapes: N examples, C channels, H height, W width.

To add a dataset: a file here, named after the dataset, whose `load_NAME` returns a `Dataset`, and
one line below. The line registers it, and the tests of this room check it.
"""

from collections.abc import Callable

# One line per dataset.
from kit.data.cart_pole import load_cart_pole as load_cart_pole
from kit.data.clicks import load_clicks as load_clicks
from kit.data.co2 import load_co2 as load_co2
from kit.data.dataset import Dataset as Dataset
from kit.data.dataset import Split as Split
from kit.data.dataset import Task as Task
from kit.data.digits import load_digits as load_digits
from kit.data.docstrings import read_docstrings as read_docstrings
from kit.data.number_words import load_number_words as load_number_words
from kit.data.payments import load_payments as load_payments
from kit.data.public import load_cifar10 as load_cifar10
from kit.data.public import load_fashion_mnist as load_fashion_mnist
from kit.data.public import load_mnist as load_mnist
from kit.data.public import load_movielens as load_movielens
from kit.data.python_docs import Text as Text
from kit.data.python_docs import load_python_docs as load_python_docs
from kit.data.spelled_digits import load_spelled_digits as load_spelled_digits
from kit.data.spoken_digits import load_spoken_digits as load_spoken_digits
from kit.data.text_file import load_text_file as load_text_file

# Name -> loader of the datasets that need neither network nor file, collected from the lines above.
OFFLINE: dict[str, Callable[..., Dataset]] = {
    name.removeprefix("load_"): load
    for name, load in list(globals().items())
    if name.startswith("load_") and load.__module__ not in ("kit.data.public", "kit.data.text_file")
}
