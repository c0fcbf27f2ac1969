"""Questions about a picture and their answers in words, from facts. Planner sequences without a demonstration."""

from collections.abc import Iterable, Mapping

from emu_robot.core import Fact

OPENS = ("open", "closed")
"""Places of things that open."""
ON_TABLE = "on the table"

type Facts = Mapping[str, Fact]
"""Name of a thing -> where it is in a picture."""


def questions(facts: Facts) -> list[tuple[str, str]]:
    """Every question about one picture, and its answer; the list of all objects first. Hidden objects are left out."""
    seen = {name: fact for name, fact in facts.items() if fact.is_visible and fact.place not in OPENS}
    listed = [f"a {name}" + f" {fact.place}" * (fact.place != ON_TABLE) for name, fact in _from_left(seen)]
    asked = [("what is on the table?", _joined(listed))]
    asked += [(f"where is the {name}?", fact.place) for name, fact in seen.items()]
    for place in dict.fromkeys(fact.place for fact in seen.values() if fact.place != ON_TABLE):
        there = {name: fact for name, fact in seen.items() if fact.place == place}
        asked.append((f"what is {place}?", _joined(f"a {name}" for name, _ in _from_left(there))))
    things = {name: fact for name, fact in facts.items() if fact.place in OPENS}
    return asked + [(f"is the {name} open?", "yes" if fact.place == "open" else "no") for name, fact in things.items()]


def change(before: Facts, after: Facts) -> tuple[str, str]:
    """The question what differs between two pictures, and its answer."""
    moved = [f"the {name} is {fact.place}" for name, fact in after.items() if fact.place != before[name].place]
    return "what has changed?", _joined(moved)


def _from_left(facts: Facts) -> list[tuple[str, Fact]]:
    return sorted(facts.items(), key=lambda item: item[1].u)


def _joined(parts: Iterable[str]) -> str:
    """The parts as one phrase; "nothing" without one."""
    *first, last = [*parts] or ["nothing"]
    return f"{', '.join(first)} and {last}" if first else last
