"""What goes in: one file per dataset; embedded, seeded, offline.

Shapes: N examples, C channels, H height, W width.

To add a dataset: a file here whose function returns a `Dataset`, and its name in `__all__`; the
test of this room then checks it.
"""

from kit.data.dataset import Dataset, Split, Task
from kit.data.handwritten import digits

__all__ = ["Dataset", "Split", "Task", "digits"]
