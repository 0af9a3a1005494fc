"""What goes in: one file per dataset; seeded; all but those of `public` embedded.

A file of one's own becomes one by `text_file`; `feeding` brings them all to the device.

Shapes: N examples, C channels, H height, W width.

To add a dataset: a file here whose function returns a `Dataset`, and its name in `__all__` and,
if it needs no network, in `EMBEDDED`; the tests of this room then check it.
"""

from kit.data.balance import poles
from kit.data.bilingual import numerals
from kit.data.cards import payments
from kit.data.dataset import Dataset, Split, Task
from kit.data.handwritten import digits
from kit.data.public import cifar10, fashion_mnist, mnist, movielens
from kit.data.series import co2
from kit.data.spelled import spelled_digits
from kit.data.spoken import spoken_digits
from kit.data.tastes import clicks
from kit.data.textfile import text_file
from kit.data.topics import Text, documentation

# What is made or read without a network.
EMBEDDED: tuple[str, ...] = (
    "digits",
    "spelled_digits",
    "spoken_digits",
    "clicks",
    "numerals",
    "co2",
    "payments",
    "poles",
    "documentation",
)

__all__ = [
    "EMBEDDED",
    "Dataset",
    "Split",
    "Task",
    "Text",
    "cifar10",
    "clicks",
    "co2",
    "digits",
    "documentation",
    "fashion_mnist",
    "mnist",
    "movielens",
    "numerals",
    "payments",
    "poles",
    "spelled_digits",
    "spoken_digits",
    "text_file",
]
