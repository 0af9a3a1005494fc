"""The panel of lesson 15: take one of six cases, or answer five questions; see what is advised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kit.course.approaches import approaches, case_answers, recommend
from kit.course.panels import Explorer
from kit.course.roads import Road

OWN = "a case of my own"


def live_approach(roads: Mapping[str, Road], case: str = "chatbot") -> Explorer:
    """A panel with a list of cases and one of answers to each question, above the recommendation.

    Without a page, `recommend(roads, answers)` gives the same recommendation.

    Parameters
    ----------
    roads
        As measured; see `recommend`.
    case
        The one that the panel shows first.

    Explained in lesson 15.
    """
    return _Cases(roads, case)


class _Cases(Explorer):
    """Five lists of answers; the one before them sets all five to those of a case."""

    def __init__(self, roads: Mapping[str, Road], case: str):
        cases, questions = approaches()["cases"], approaches()["questions"]
        self._keys = {q: list(each["answers"]) for q, each in questions.items()}
        # What the lists show for a case: its position among the cases, then among the answers.
        self._places = [self._place(i, case_answers(name)) for i, name in enumerate(cases, 1)]

        def advice(**chosen: str) -> object:
            answers = {q: self._keys[q][texts[q].index(chosen[q])] for q in questions}
            return recommend(roads, answers)

        texts = {q: [a["says"] for a in each["answers"].values()] for q, each in questions.items()}
        shown: dict[str, Sequence[Any]] = {
            "case": [OWN, *(each["says"] for each in cases.values())],
            **texts,
        }
        begin = self._place(list(cases).index(case) + 1, case_answers(case))
        super().__init__(advice, shown, begin)
        asked = ["The case", *(each["question"] for each in questions.values())]
        self.panel.controls = [
            {**control, "label": label}
            for label, control in zip(asked, self.panel.controls, strict=True)
        ]

    def _place(self, i: int, answers: Mapping[str, str]) -> list[int]:
        return [i, *(keys.index(answers[q]) for q, keys in self._keys.items())]

    def _update(self, change: Any = None) -> None:
        """Another case brings its answers; other answers are the reader's own."""
        now = list(self.panel.chosen)
        if change and change["old"][0] != now[0]:
            wanted = self._places[now[0] - 1] if now[0] else now
        else:
            fits = [place for place in self._places if place[1:] == now[1:]]
            wanted = fits[0] if fits else [0, *now[1:]]
        if wanted == now:
            super()._update()
        else:
            self.panel.chosen = wanted  # which calls this again
