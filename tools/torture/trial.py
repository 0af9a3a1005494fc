"""One blow against one part: nothing finished is lost, nothing is half there, the next start goes
on or says in a line what to do, no process and no port is left over."""

import random
import traceback
from typing import TypedDict

from torture.blows import Blow, Struck
from torture.children import ROOT, Warm, left_over
from torture.parts import Missed, Part
from torture.places import Place, wait_until

TRIES = 3


class Trial(TypedDict):
    """What became of a part under a blow."""

    part: str
    blow: str
    seed: str
    survived: bool
    problems: list[str]
    said: str  # the last line of the command that was struck, or of the next start


def attempt(part: type[Part], blow: Blow, warm: Warm, seed: str, long: bool = False) -> Trial:
    """Strike the part at a random moment, and check what it promises."""
    rng = random.Random(f"{seed} {part.name} {blow.name}")
    warm = warm.oldest if blow.oldest else warm
    for _ in range(TRIES):
        place = Place(crowded=rng.random() < 0.5)
        try:
            problems, said = _struck(part(place, warm, rng), blow, rng, long)
        except Missed:
            problems, said = ["the work was over before the blow, three times"], ""
            continue
        except Exception:  # of the trial itself, which must not stop the others
            problems, said = ["the trial: " + traceback.format_exc()[-600:]], ""
        finally:
            warm.clock.jump(0)
            left = left_over(set(), part.grace_s)
            place.remove()
        problems += [f"left over: {each}" for each in left]
        break
    for path, short in ((place.out, "OUT"), (place.home, "HOME"), (ROOT, "KIT")):
        problems = [each.replace(str(path), short) for each in problems]
        said = said.replace(str(path), short)
    return Trial(
        part=part.name,
        blow=blow.name,
        seed=seed,
        survived=not problems,
        problems=problems,
        said=said,
    )


def _struck(part: Part, blow: Blow, rng: random.Random, long: bool) -> tuple[list[str], str]:
    try:
        part.prepare()
        child = part.start()
        if not wait_until(lambda: part.begun() or child.code() is not None, 120):
            child.signal(9, all_of_it=True)
            return [f"it did not begin: {child.last_line()}"], ""
        if wait_until(lambda: child.code() is not None, rng.uniform(0, part.span_s)):
            raise Missed
        before = part.finished()
        struck = Struck(part, child, rng, long)
        problems = blow.strike(struck)
        said = struck.child.last_line() if struck.child.code() else ""
        blow.heal(struck)
        problems += _lost(before, part.finished()) + part.half()
        problems += [f"left over: {each}" for each in _left(part)]
        before = part.finished()
        more, then = part.go_on()
        problems += more + _lost(before, part.finished()) + part.half()
        return problems, said or then
    finally:
        part.close()


def _left(part: Part) -> list[str]:
    return left_over(set(_members(part)), part.grace_s)


def _members(part: Part) -> list[int]:
    """Processes that belong to the part and are not the command, with all that they started."""

    found = []
    for member in getattr(part, "members", []):
        if member.code() is None:
            found += [each.pid for each in member.family()]
    return found


def _lost(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What was finished before and is not any more."""
    problems = []
    for name, value in before.items():
        now = after.get(name)
        less = isinstance(value, int | float) and isinstance(now, int | float) and now >= value
        if now != value and not less:
            problems.append(f"lost: {name} was {value}, now {now}")
    return problems
