"""The workload `fraud`: the fraudulent among card payments.

Shapes: of N payments K are fraud and A raise an alarm.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.core.errors import BadValue
from kit.data import Dataset, load_payments
from kit.models import MLP, MLPConfig
from kit.workloads.workload import Workload

PER_FALSE_ALARM = 100  # genuine payments per false alarm that the bank accepts


def fraud() -> Workload:
    """Find the fraudulent among card payments: stands for real-time fraud detection.

    With one false alarm per hundred genuine payments, chance finds 1 % of the frauds, the best
    single number 35 %, a straight line through all of them 72 %; one who knows how the payments
    were made (`kit.data.payments.evidence`) finds 82 % of those of the test, 84 % in the long run.

    >>> fraud().model()
    MLP(hidden=32, layers=2): 1,378 parameters
    """
    return Workload(
        name="fraud",
        stands_for="real-time fraud detection",
        differs="seven numbers per payment, two unchanging kinds of fraud, and all labels known; a "
        "bank sees a card's whole history, fraud that adapts to it, and learns weeks later which "
        "payments were fraud",
        load=load_payments,
        models={"mlp": _detector},
        # Unweighted: to weigh the rare frauds more was tried, and found no more of them.
        loss=cross_entropy,
        score=is_found,
        measure=f"of the fraud found at {100 // PER_FALSE_ALARM} % false alarms",
        target=0.78,
        recipe={"epochs": 6, "batch_size": 512, "lr": 3e-3},
    )


def is_found(logits: Tensor, targets: Tensor) -> Tensor:
    """(K,) whether each fraud raises an alarm, if one genuine payment in a hundred may.

    Raises
    ------
    BadValue
        There are no frauds to find, or no genuine payments to set the threshold by.
    """
    return _alarms(logits, targets)[targets == 1]


def alarm_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """(A,) whether each alarm is a fraud, if one genuine payment in a hundred may raise one.

    The mean is the precision: even a good detector's alarms are mostly false where fraud is rare.
    """
    return targets[_alarms(logits, targets)] == 1


def _alarms(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether a payment is more suspicious than all but 1 % of the genuine ones."""
    suspicion = logits[:, 1] - logits[:, 0]
    genuine = suspicion[targets == 0]
    if not 0 < len(genuine) < len(targets):
        raise BadValue(
            f"given {len(genuine):,} genuine payments and {len(targets) - len(genuine):,} frauds: "
            "needs some of both; use a whole split."
        )
    allowed = len(genuine) // PER_FALSE_ALARM
    return suspicion > genuine.sort(descending=True).values[allowed]  # equal ones are let pass


def _detector(data: Dataset) -> nn.Module:
    features = data["train"].inputs.shape[1]
    return MLP(MLPConfig(hidden=32, features=features, classes=len(data.classes)))
