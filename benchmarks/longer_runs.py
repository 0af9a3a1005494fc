"""What longer runs of lessons decided, beside the lessons' own runs, as a table of Markdown.

The commands that made the runs stand in CONTRIBUTING.md, under "Kept runs".

python benchmarks/longer_runs.py
"""

from kit.course.claims import Verdict, ledger
from kit.course.earlier_lessons import LONGER, stored_value
from kit.experiments import find_notebook
from kit.experiments.deciding_runs import AMOUNTS
from kit.experiments.records import ExecutedRun, executed_runs

HEADER = ("claim", "lesson", "quantity", "rule", "the lesson's run", "the longer run", "verdicts")


def table() -> str:
    """A row per quantity of each claim that a longer run measured."""
    rows, days = [], set()
    for path in sorted(LONGER.glob("*.ipynb")):
        (longer,) = executed_runs(path)
        (short,) = executed_runs(find_notebook(path.stem))
        days.add(longer.date[:10])
        before, after = _verdicts(short), _verdicts(longer)
        for id in sorted(after):
            rows += [(id, _lesson(path.stem, longer), *row) for row in _rows(before[id], after[id])]
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\nMeasured on {', '.join(sorted(days))}."


def _lesson(number: str, run: ExecutedRun) -> str:
    """The lesson's number, and the parameters that make its run longer."""
    given = ", ".join(f"{n} {run.parameters[n]:g}" for n in AMOUNTS if n in run.parameters)
    return f"{number}: {given}"


def _verdicts(run: ExecutedRun) -> dict[str, dict]:
    """The record of each verdict of a run, by claim."""
    return {record["claim_id"]: record for record in run.records if record["kind"] == "Verdict"}


def _rows(before: dict, after: dict) -> list[tuple[str, ...]]:
    """A row per quantity that varies and was measured; the first one has the verdicts as given."""
    claim, rows = ledger()[after["claim_id"]], []
    words = [record["verdict"].split(" if ")[0] for record in (before, after)]
    said = words[0] if words[0] == words[1] else " → ".join(words)
    shown = [
        Verdict(claim, {n: stored_value(record["measured"][n]) for n in claim.conditions})
        for record in (before, after)
    ]
    for name in filter(claim.needs_interval, claim.conditions):
        if shown[1].measured[name] is not None:
            both = [verdict.shown(name) for verdict in shown]
            rows.append((claim.label(name), claim.rule(name), *both, "" if rows else said))
    return rows


if __name__ == "__main__":
    print(table())
