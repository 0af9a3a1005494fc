"""The base of every result: one line, a table, and a record inside the executed notebook."""

from __future__ import annotations

from typing import Any

from kit.core.tables import Table

RECORD = "application/vnd.kit+json"

RECORDING = "KIT_RECORDING"  # set in a kernel whose outputs are stored for readers
SEVERAL = "records"  # the field of a record that holds other records, each as if shown alone


def records_in(output: Any) -> list[dict[str, Any]]:
    """The records in an output of a notebook: none, one, or several that were shown together."""
    record = output.get("data", {}).get(RECORD)
    several = record.get(SEVERAL) if isinstance(record, dict) else None
    found = several if isinstance(several, list) else [record]  # a file can contain anything
    return [each for each in found if isinstance(each, dict) and "kind" in each]


class Result:
    """Base of the kit's results: frozen dataclasses of raw numbers in base units.

    A subclass defines `table()` for people and `to_dict()` for programs, with units in the keys.
    A notebook that displays the table stores the record with it, so an executed notebook is its
    own record.
    """

    def table(self) -> Table:
        """The result as a table; the caption names its conditions."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers, with the unit in each key."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        record = {"kind": type(self).__name__, **self.to_dict()}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), RECORD: record}
