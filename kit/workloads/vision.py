"""The workload `vision`: recognise handwritten digits.

Shapes: B batch, C classes.
"""

from torch.nn.functional import cross_entropy

from kit.data import load_digits
from kit.models import CNN, MLP
from kit.workloads.workload import Workload, is_right


def vision() -> Workload:
    """Recognise handwritten digits: stands for image recognition, as in a phone's camera.

    >>> vision().model("mlp")
    MLP(hidden=128, layers=2): 26,122 parameters
    """
    return Workload(
        name="vision",
        stands_for="image and object recognition, a phone's camera",
        differs="8×8 grey images of ten classes, already cut out and centred; a camera has "
        "megapixels, colours and thousands of classes, and has to find the object first",
        load=load_digits,
        models={"cnn": lambda _: CNN(), "mlp": lambda _: MLP()},
        loss=cross_entropy,
        score=is_right,
        measure="right",
        target=0.97,
        recipe={"epochs": 15, "batch_size": 32, "lr": 3e-3},
    )
