"""What every result has: one line, a table, and a record that stays in the executed notebook."""

from __future__ import annotations

from typing import Any

from kit.core.tables import Table

RECORD = "application/vnd.kit+json"


class Result:
    """Base of the kit's results: frozen dataclasses of raw numbers in base units.

    A child gives `table()` (what people see) and `to_dict()` (what is kept, units in the keys).
    Displayed in a notebook, the record travels beside the table, so an executed notebook is its
    own record.
    """

    def table(self) -> Table:
        """The result as a table with a caption that names its conditions."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers, with the unit in each key."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        record = {"kind": type(self).__name__, **self.to_dict()}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), RECORD: record}
