"""Datasets: one file each, named after the dataset; seeded; all but those of `public` embedded.

Your own text file becomes one by `load_text_file`; `batching` brings them all to the device.

Shapes: N examples, C channels, H height, W width.

To add a dataset: a file here, named after the dataset, whose `load_NAME` returns a `Dataset`; then
its name below and, if it needs no network, in `EMBEDDED`. The tests of this room then check it.
"""

from kit.data.cart_pole import load_cart_pole
from kit.data.clicks import load_clicks
from kit.data.co2 import load_co2
from kit.data.dataset import Dataset, Split, Task
from kit.data.digits import load_digits
from kit.data.number_words import load_number_words
from kit.data.payments import load_payments
from kit.data.public import load_cifar10, load_fashion_mnist, load_mnist, load_movielens
from kit.data.python_docs import Text, load_python_docs
from kit.data.spelled_digits import load_spelled_digits
from kit.data.spoken_digits import load_spoken_digits
from kit.data.text_file import load_text_file

# What is made or read without a network, by name.
EMBEDDED = {
    "cart_pole": load_cart_pole,
    "clicks": load_clicks,
    "co2": load_co2,
    "digits": load_digits,
    "number_words": load_number_words,
    "payments": load_payments,
    "python_docs": load_python_docs,
    "spelled_digits": load_spelled_digits,
    "spoken_digits": load_spoken_digits,
}

__all__ = [
    "EMBEDDED",
    "Dataset",
    "Split",
    "Task",
    "Text",
    "load_cart_pole",
    "load_cifar10",
    "load_clicks",
    "load_co2",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_movielens",
    "load_number_words",
    "load_payments",
    "load_python_docs",
    "load_spelled_digits",
    "load_spoken_digits",
    "load_text_file",
]
