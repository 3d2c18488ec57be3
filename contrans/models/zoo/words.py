"""The word lists of the microworld, and how a pattern is filled from them."""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")


@cache
def table(name: str) -> Any:
    """One of the JSON word lists beside this file."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a text is about, in all the forms a pattern may ask for."""

    subject: str
    pronoun: str
    possessive: str
    object: str
    was: str

    def forms(self) -> dict[str, str]:
        """The slots that name this person."""
        return {
            "A": self.subject,
            "A2": self.pronoun,
            "P": self.possessive,
            "O": self.object,
            "WAS": self.was,
            "WASKIN": "was",
        }


YOU = Person("you", "you", "your", "you", "were")
ME = Person("I", "I", "my", "me", "was")


def somebody(rng: random.Random) -> Person:
    """A person of the world."""
    words = table("words")
    if rng.random() < 0.5:
        return Person(rng.choice(words["women"]), "she", "her", "her", "was")
    return Person(rng.choice(words["men"]), "he", "his", "him", "was")


def name(rng: random.Random) -> str:
    """A first name."""
    return somebody(rng).subject


@cache
def towns(count: int, seed: int) -> tuple[str, ...]:
    """Made-up proper names; different seeds give different orders."""
    parts = table("words")["towns"]
    every = [a + b for a in parts["first"] for b in parts["second"]]
    random.Random(seed).shuffle(every)
    return tuple(word.capitalize() for word in every[:count])


def capital(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def fill_slots(pattern: str, rng: random.Random, **given: str) -> str:
    """Fill every `{SLOT}` of a pattern with a word of that list."""
    slots = table("words")["slots"]
    for slot in sorted(slots):
        if f"{{{slot}}}" in pattern:
            word = given[slot] = rng.choice(slots[slot])
            if word[0] in "aeiou":
                pattern = pattern.replace(f" a {{{slot}}}", f" an {{{slot}}}")
    return pattern.format(**given)
