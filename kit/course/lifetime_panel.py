"""The lifetime panel: each price and rate a slider; both bills and the break-even move."""

from __future__ import annotations

from collections.abc import Sequence

from kit.core.errors import BadValue, UnknownName
from kit.costs.lifetime_assumptions import KINDS, Assumption, label
from kit.costs.lifetime_result import Lifetime
from kit.costs.published import amount
from kit.course.panels import Explorer, explore

FACTORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
OWN = {  # the values of those that factors do not suit
    "retrainings_per_year": (0, 1, 4, 12, 52, 365),
    "growth_per_year": (0, 0.5, 1, 3, 10),
    "utilisation": (0.01, 0.03, 0.1, 0.25, 0.5, 1),
    "pue": (1, 1.1, 1.2, 1.4, 1.6, 2),
}
HELP = {  # in a few words, beside the slider
    "training_s": "machine time until the model is ready",
    "answer_s": "machine time of one answer",
    "answers_per_day": "requests of all people together",
    "utilisation": "the part of the paid time in which the server answers; else it waits",
    "retrainings_per_year": "how often the model is trained again",
    "price_per_hour": "rent of the machine",
    "electricity": "price of a kilowatt-hour",
    "pue": "energy of the whole building ÷ energy of its machines",
}
RATES = ("training_s", "answer_s", "answers_per_day")


class Setting(float):
    """A slider's value that shows its unit."""

    unit: str

    def __new__(cls, value: float, unit: str) -> Setting:
        """The number; it remembers its unit."""
        setting = super().__new__(cls, value)
        setting.unit = unit
        return setting

    def __str__(self) -> str:
        return amount(float(self), self.unit)


def live_lifetime(life: Lifetime, names: Sequence[str] = ()) -> Explorer:
    """A panel with a slider for each price and rate of a life, over the picture of both bills.

    Without a page, `life.assume(price_per_hour=3).plot()` gives the same picture.

    Parameters
    ----------
    life
        From `kit.lifetime`.
    names
        The assumptions that get a slider. Empty: the rates, the demand, the idle time, retraining,
        and each price that is not 0.

    Explained in lesson 14.
    """
    if not isinstance(life, Lifetime):
        raise BadValue(f"kit.live_lifetime: given {type(life).__name__}; needs a kit.lifetime.")
    asked = [names] if isinstance(names, str) else list(names)
    for name in asked:
        if name not in KINDS:
            raise UnknownName("assumption", name, KINDS)
        if life.inputs[name].value is None:
            raise BadValue(f"{name} has no value to start from; give it to kit.lifetime first.")
    chosen = asked or [
        *RATES,
        *("utilisation", "retrainings_per_year"),
        *(n for n in ("price_per_hour", "electricity", "pue") if life.inputs[n].value),
    ]
    choices = {name: _values(life.inputs[name]) for name in chosen}

    def picture(**sliders: float) -> object:
        return life.assume(**{name: float(value) for name, value in sliders.items()}).plot()

    panel = explore(picture, **choices)
    # Each slider starts where the assumption stands, not in the middle.
    now = {name: float(life.inputs[name].value or 0) for name in chosen}
    panel.panel.controls = [
        {**control, "label": label(name), "help": HELP.get(name, "")}
        for name, control in zip(chosen, panel.panel.controls, strict=True)
    ]
    panel.panel.chosen = [list(map(float, choices[name])).index(now[name]) for name in chosen]
    return panel


def _values(each: Assumption) -> list[Setting]:
    """The values of a slider, the assumption's own among them."""
    now, kind = float(each.value or 0), KINDS[each.name]
    own = OWN.get(each.name, tuple(now * factor for factor in FACTORS) if now else (0, 1, 10, 100))
    rising = sorted({now, *map(float, own)})
    return [Setting(value, each.unit) for value in rising if kind.least <= value <= kind.most]
