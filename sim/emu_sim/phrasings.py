"""The words of instructions: several sentences for every family, filled in by `say`."""

import re
from collections.abc import Mapping
from string import Formatter

import numpy as np

from emu_sim.grammar import Grammar

PHRASINGS: dict[str, tuple[str, ...]] = {
    "pick_place": (
        "put the {obj} {prep} the {place}",
        "place the {obj} {into} the {place}",
        "move the {obj} to the {place}",
        "pick up the {obj} and put it {prep} the {place}",
        "take the {obj} and set it down {prep} the {place}",
        "the {obj} belongs {prep} the {place}",
        "bring the {obj} to the {place}",
    ),
    "push": (
        "push the {obj} to the {place}",
        "slide the {obj} to the {place}",
        "push the {obj} onto the {place}",
        "slide the {obj} over to the {place} without lifting it",
        "shove the {obj} onto the {place}",
    ),
    "stack": (
        "stack the {obj} on the {place}",
        "put the {obj} on top of the {place}",
        "place the {obj} on top of the {place}",
        "set the {obj} down on the {place}",
        "lift the {obj} onto the {place}",
    ),
    "open_drawer": (
        "open the drawer",
        "pull the drawer open",
        "pull out the drawer",
        "slide the drawer open",
        "make the drawer stand open",
    ),
    "close_drawer": (
        "close the drawer",
        "push the drawer shut",
        "shut the drawer",
        "slide the drawer closed",
        "push the drawer back in",
    ),
    "put_in_drawer": (
        "put the {obj} in the drawer",
        "place the {obj} into the drawer",
        "move the {obj} to the drawer",
        "drop the {obj} in the drawer",
        "store the {obj} in the drawer",
        "lay the {obj} into the open drawer",
    ),
    "sequence": (
        "{first}, then {second}",
        "first {first} and then {second}",
        "{first}, and after that {second}",
        "begin with this: {first}; go on with this: {second}",
        "{first}; next, {second}",
        "start to {first}, then {second}",
    ),
    "sort": (
        "sort the objects by colour",
        "put every object on the zone of its colour",
        "move each object to the zone that has its colour",
        "match the objects to the zones by colour",
        "every object belongs on the zone of the same colour",
        "sort everything onto the coloured zones",
    ),
    "sort_named": (
        "put {those} {prep} the {here} and {others} {prep2} the {there}",
        "sort the objects: {those} {prep} the {here}, {others} {prep2} the {there}",
        "{those} go {prep} the {here} and {others} {prep2} the {there}",
        "move {those} to the {here} and {others} to the {there}",
        "{those} belong {prep} the {here}, {others} {prep2} the {there}",
    ),
    "tower": (
        "build a tower of cubes: {low}, then {mid}, then {top} on top",
        "build a tower with the {bottom} at the bottom, the {middle} in the middle and the {upper} on top",
        "stack the cubes {low}, {mid} and {top}, from the bottom to the top",
        "make a tower: {bottom}, {middle}, {upper}, from the bottom up",
        "pile up the cubes with {low} below, {mid} between and {top} above",
    ),
    "clear": (
        "clear the table into the drawer",
        "put everything in the drawer and close it",
        "tidy all objects away into the drawer and shut it",
        "store every object in the drawer, then close it",
        "empty the table: everything goes in the drawer, and the drawer is shut",
    ),
    "clear_some": (
        "clear {those} into the drawer",
        "put {those} in the drawer and close it",
        "tidy {those} away into the drawer and shut it",
        "store {those} in the drawer, then close it",
        "open the drawer, put {those} in and close it",
    ),
    "clear_box": (
        "clear {those} into the box",
        "tidy {those} away into the box",
        "clear the table of {those} and use the box",
        "store {those} in the box",
        "clean up {those} with the box",
    ),
    "swap": (
        "swap {both}",
        "exchange the places of {both}",
        "let {both} trade places",
        "switch {both}",
        "interchange {both}",
    ),
    "extreme": (
        "put the {side} object {prep} the {place}",
        "place the {side} object {into} the {place}",
        "move the {side} object to the {place}",
        "take the object that is {side} and put it {prep} the {place}",
        "the {side} object on the table belongs {prep} the {place}",
        "bring the {side} object to the {place}",
    ),
    "transfer": (
        "put the object that is {from_prep} the {source} {prep} the {place}",
        "move the object from the {source} to the {place}",
        "take the object {from_prep} the {source} and put it {prep} the {place}",
        "pick up what is {from_prep} the {source} and place it {into} the {place}",
        "the object {from_prep} the {source} belongs {prep} the {place}",
        "bring what lies {from_prep} the {source} to the {place}",
    ),
    "match": (
        "put the objects of the same {attribute} together",
        "put the two objects of one {attribute} in the same place",
        "bring the objects with the same {attribute} together",
        "join the objects that have the same {attribute}",
        "add to the object that has been put away the one of the same {attribute}",
    ),
    "gather": (
        "put {those} {prep} the {place}",
        "place {those} {into} the {place}",
        "move {those} to the {place}",
        "collect {those} {prep} the {place}",
        "{those} belong {prep} the {place}",
        "gather {those} {prep} the {place}",
    ),
    "undo": (
        "{first}, then put it back",
        "{first}, then undo that",
        "{first} and afterwards put it back where it was",
        "{first}, then return it to its old place",
        "{first}, and then make it as it was before",
    ),
}
REVERSED = ("before you {first}, {second}", "do not {first} before you {second}", "{first}, but first {second}")
"""Phrasings of a sequence whose second step comes first. No demonstration has them."""
KEPT = ("after you {first}, {second}", "do not {second} before you {first}", "{second}, but first {first}")
"""The same words for the usual order."""
SIDES = {
    "leftmost": ("leftmost", "farthest to the left"),
    "rightmost": ("rightmost", "farthest to the right"),
    "nearest": ("nearest", "closest"),
    "farthest": ("farthest", "most distant"),
}
"""Side of the picture of camera front -> words; near is its lower edge."""


def say(grammar: Grammar, rng: np.random.Generator, key: str, **words: str) -> str:
    """A random one of the phrasings that the grammar uses. key: a key of `PHRASINGS`."""
    phrasings = PHRASINGS[key][: grammar.phrasings.get(key)]
    return phrasings[int(rng.integers(len(phrasings)))].format(**words)


def say_otherwise(key: str, text: str, before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """The text in its own phrasing with the words `after` in place of `before`; None if it has no such phrasing.

    Words of the phrasing that `before` leaves out stay as they are.
    """
    for phrasing in PHRASINGS[key]:
        parts = [(re.escape(literal), field) for literal, field, _, _ in Formatter().parse(phrasing)]
        words = {
            field: re.escape(before[field]) if field in before else f"(?P<{field}>.+)" for _, field in parts if field
        }
        found = re.fullmatch("".join(literal + words.get(field or "", "") for literal, field in parts), text)
        if found is not None:
            return phrasing.format(**found.groupdict(), **after)
    return None
