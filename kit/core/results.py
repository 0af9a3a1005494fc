"""The base of every result: one line, a table, and a record inside the executed notebook."""

from __future__ import annotations

from typing import Any

from kit.core.tables import Table

RECORD = "application/vnd.kit+json"


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
