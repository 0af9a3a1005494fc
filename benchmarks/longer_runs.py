"""What longer runs of lessons decided, beside the lessons' own runs, as a table of Markdown.

The commands that made the runs stand in CONTRIBUTING.md, under "Kept runs".

python benchmarks/longer_runs.py
"""

from kit.core.files import NOTEBOOKS
from kit.course.claims import Verdict, ledger
from kit.course.earlier_lessons import LONGER, stored_value
from kit.experiments.deciding_runs import AMOUNTS
from kit.experiments.records import ExecutedRun, executed_runs

HEADER = ("claim", "lesson", "quantity", "rule", "the lesson's run", "the longer run", "verdicts")


def table() -> str:
    """A row per quantity of each claim that a longer run measured."""
    rows, days = [], set()
    for path in sorted(LONGER.glob("*.ipynb")):
        (longer,) = executed_runs(path)
        (short,) = executed_runs(next(NOTEBOOKS.glob(f"{path.stem}-*.ipynb")))
        days.add(longer.date[:10])
        for id, (before, after) in _pairs(short, longer).items():
            rows += [
                (f"{id}", _lesson(path.stem, longer), *row) for row in _rows(id, before, after)
            ]
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\nMeasured on {', '.join(sorted(days))}."


def _lesson(number: str, run: ExecutedRun) -> str:
    """The lesson's number, and the parameters that make its run longer."""
    given = ", ".join(f"{n} {run.parameters[n]:g}" for n in AMOUNTS if n in run.parameters)
    return f"{number}: {given}"


def _pairs(short: ExecutedRun, longer: ExecutedRun) -> dict[str, tuple[Verdict, Verdict]]:
    """The verdicts of both runs on each claim."""
    both = [
        {r["claim_id"]: _verdict(r) for r in run.records if r["kind"] == "Verdict"}
        for run in (short, longer)
    ]
    return {id: (both[0][id], both[1][id]) for id in sorted(both[0])}


def _verdict(record: dict) -> Verdict:
    claim = ledger()[record["claim_id"]]
    return Verdict(claim, {n: stored_value(record["measured"][n]) for n in claim.conditions})


def _rows(id: str, before: Verdict, after: Verdict) -> list[tuple[str, ...]]:
    """A row per quantity that varies and was measured; the first one has the verdicts."""
    claim, rows = ledger()[id], []
    words = [verdict.word.split(" if ")[0] for verdict in (before, after)]
    said = words[0] if words[0] == words[1] else " → ".join(words)
    for name in filter(claim.needs_interval, claim.conditions):
        if after.measured[name] is None:
            continue
        shown = (claim.label(name), claim.rule(name), before.shown(name), after.shown(name))
        rows.append((*shown, "" if rows else said))
    return rows


if __name__ == "__main__":
    print(table())
