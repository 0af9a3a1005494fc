"""All errors as one tree. Each message says what was given, what is needed and what to do.

KitError
├── BadValue (ValueError)             a value of the wrong type, or out of range
│   └── ShapeMismatch                 tensors whose shapes do not fit together
├── UnknownName (LookupError)         no such model, claim, parameter …: similar names are listed
├── DeviceUnavailable (RuntimeError)  a device that is missing, or that computes wrong numbers
├── DeviceMismatch (RuntimeError)     model and data are on different devices
├── NotInstalled (RuntimeError)       an optional extra is missing: how to install it
├── DownloadFailed (RuntimeError)     a published file could not be fetched: from where, why
├── NotSupported (RuntimeError)       a technique does not work on this device
├── NonFiniteLoss (ArithmeticError)   the loss was NaN or infinite; carries the history until then
├── CheckpointRefused (ValueError)    a file failed a check; `.check` names it
├── CallFailed (RuntimeError)         a measured call raised; the original error is its cause
├── NotEnoughSamples (ValueError)     a statistic needs more observations than there are
├── NotComparable (ValueError)        two calls did unequal work
└── LessonFailed (RuntimeError)       a cell of a notebook raised
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from kit.core.files import python_command

DISTRIBUTION = "train-infer-kit"  # the name under which pip knows the kit
ROOT = Path(__file__).parents[2]  # of a checkout; of an installed kit, the folder of all packages


class KitError(Exception):
    """Any error that the kit raises on purpose."""


class BadValue(KitError, ValueError):
    """A value of the wrong type, or out of range."""


class ShapeMismatch(BadValue):
    """Tensors whose shapes do not fit together."""


class UnknownName(KitError, LookupError):
    """A name that does not exist; the message lists similar names, and all.

    >>> raise UnknownName("model", "CMN", ["MLP", "CNN"])
    Traceback (most recent call last):
    kit.core.errors.UnknownName: no model is called 'CMN'; did you mean 'CNN'? There are: MLP, CNN.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        super().__init__(kind, name, list(known))  # from which pickle makes it again

    @property
    def near(self) -> list[str]:
        """The known names that are similar to the one given."""
        name, known = str(self.args[1]), self.args[2]
        begun = [each for each in known if name and each.startswith(name)]  # val: validation
        return get_close_matches(name, known, n=3) or begun[:3]

    @property
    def hint(self) -> str:
        """The end of a sentence: the similar names, if there are any."""
        return f"; did you mean {' or '.join(map(repr, self.near))}?" if self.near else "."

    def __str__(self) -> str:
        kind, name, known = self.args
        return f"no {kind} is called {name!r}{self.hint} There are: {', '.join(known)}."


class DeviceUnavailable(KitError, RuntimeError):
    """A device that is missing, or that computes wrong numbers."""


class DeviceMismatch(KitError, RuntimeError):
    """Model and data are on different devices."""


def how_to_install(extras: str, root: Path = ROOT, python: str = "python") -> str:
    """The command that adds extras, such as "edge,speech", to the kit in the folder `root`.

    >>> how_to_install("edge", Path("site-packages"))
    'python -m pip install "train-infer-kit[edge]"'
    """
    if (root / "constraints.txt").is_file() and (root / "pyproject.toml").is_file():  # a checkout
        return f'{python} -m pip install -c constraints.txt -e ".[{extras}]"'
    return f'{python} -m pip install "{DISTRIBUTION}[{extras}]"'


class NotInstalled(KitError, RuntimeError):
    """An optional extra is needed and not installed.

    >>> raise NotInstalled("the workload 'speech'", ["engine"], "speech")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    kit.core.errors.NotInstalled: the workload 'speech' needs engine, which is not installed: \
...python... -m pip install -c constraints.txt -e ".[speech]"
    """

    def __init__(self, what: str, missing: Iterable[str], extra: str):
        super().__init__(what, list(missing), extra)

    def __str__(self) -> str:
        what, missing, extra = self.args
        verb = "is" if len(missing) == 1 else "are"
        how = how_to_install(extra, python=python_command())
        return f"{what} needs {', '.join(missing)}, which {verb} not installed: {how}"


class NotSupported(KitError, RuntimeError):
    """A technique does not work on this device: which one, why, and what works instead."""

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason or message  # the reason alone, for a table


class DownloadFailed(KitError, RuntimeError):
    """A published file could not be fetched, or not be saved."""


class NonFiniteLoss(KitError, ArithmeticError):
    """The loss was NaN or infinite; `.history` holds the training until then."""

    def __init__(self, message: str, history: object = None):
        super().__init__(message)
        self.history = history


class CheckpointRefused(KitError, ValueError):
    """A checkpoint file failed a check; `.check` is the name of that check."""

    def __init__(self, check: str, message: str):
        super().__init__(check, message)
        self.check = check

    def __str__(self) -> str:
        return "refused by the check {!r}: {}".format(*self.args)


class CallFailed(KitError, RuntimeError):
    """A measured call raised; the original error is the cause of this one."""


class NotEnoughSamples(KitError, ValueError):
    """A statistic needs more observations than there are."""


class NotComparable(KitError, ValueError):
    """Two calls did unequal work, or gave different answers."""


class LessonFailed(KitError, RuntimeError):
    """A cell of a notebook raised; the notebook was saved up to that cell."""
