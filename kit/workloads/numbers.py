"""Work on numbers: what comes next, and what does not belong.

Shapes: N examples, H weeks ahead, of N payments K are fraud and A raise an alarm.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

from kit.data import Dataset, co2, payments
from kit.errors import BadValue
from kit.models import MLP, RNN, MLPConfig, RNNConfig
from kit.workloads.workload import Workload

NEAR_PPM = 0.5  # about as much as the air at one place varies from week to week
PER_FALSE_ALARM = 100  # genuine payments: how many customers one is willing to bother


# --- What comes next -----------------------------------------------------------------------------


def forecast() -> Workload:
    """Forecast the carbon dioxide of the next eight weeks: stands for predictive analytics.

    Of a hundred weeks of the test, the latest level lies within 0.5 ppm of 13, the year before of
    10, the year before and its rise (`kit.data.series.as_last_year`) of 59, and a straight line
    fitted to the same examples of 70: networks are not much better here.

    >>> forecast().model()
    RNN(hidden=32, layers=1): 3,720 parameters
    """
    return Workload(
        name="forecast",
        stands_for="predictive analytics",
        differs="one series with a steady rise and a regular year; a business has thousands, with "
        "gaps, holidays and crises, and people who act on the forecast and so change what comes",
        load=co2,
        models={"rnn": _rnn, "mlp": _mlp},
        loss=l1_loss,  # ppm; its best answer is the median, which large surprises do not move
        score=is_near,
        measure=f"of the weeks within {NEAR_PPM} ppm",
        target=0.65,  # on the test; validation is six easier years, in which naive ones reach it
        recipe={"epochs": 15, "batch_size": 32, "lr": 2e-3},
    )


def is_near(forecasts: Tensor, weeks: Tensor) -> Tensor:
    """(N,) the share of the weeks (N, H) of which the forecasts (N, H) came within 0.5 ppm."""
    return ((forecasts - weeks).abs() <= NEAR_PPM).float().mean(1)


def _rnn(data: Dataset) -> nn.Module:
    inputs, targets = data["train"]
    return RNN(RNNConfig(features=inputs.shape[2], hidden=32, outputs=targets.shape[1]))


def _mlp(data: Dataset) -> nn.Module:
    inputs, targets = data["train"]
    return MLP(MLPConfig(hidden=32, features=inputs[0].numel(), classes=targets.shape[1]))


# --- What does not belong ------------------------------------------------------------------------


def fraud() -> Workload:
    """Find the fraudulent among card payments: stands for real-time fraud detection.

    With one false alarm per hundred genuine payments, chance finds 1 % of the frauds, the best
    single number 35 %, a straight line through all of them 72 %; one who knows how the payments
    were made (`kit.data.cards.evidence`) finds 82 % of those of the test, 84 % in the long run.

    >>> fraud().model()
    MLP(hidden=32, layers=2): 1,378 parameters
    """
    return Workload(
        name="fraud",
        stands_for="real-time fraud detection",
        differs="seven numbers per payment, two unchanging kinds of fraud, and all labels known; a "
        "bank sees a card's whole history, fraud that adapts to it, and learns weeks later which "
        "payments were fraud",
        load=payments,
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
