"""Scenario sentences for the six emotions, filled from templates of our own.

`scenarios.json` holds, for each emotion, templates in three splits and the words that
fill their slots. A template names slots in braces, and marks the person it is about:

    {YOU} found {GROSS} in {YOUR} {FOOD}.

Filled without a name, the sentence is about the reader ("You found green slime in your
soup."). Filled with a name, it is about that person ("Mira found green slime in her
soup."): the first mention is the name, every later one a pronoun. It can also be about
the speaker ("I found ..."). Templates are in the past tense, so only `{WERE}` has to
agree. The person markers are `{YOU}` (subject),
`{YOU_OBJ}` (object), `{YOUR}`, `{YOURSELF}` and `{WERE}`; fillers may hold them too.
"a" before a slot becomes "an" where the filler begins with a vowel.

Splits differ by whole template, never by filling alone. Slots whose fillers are phrases
have fillers of their own in "validate" and "test" (`held_out`), so that no run of six
words is in two splits; the others, short nouns, are shared but for the longest
(`refine_only`).

    >>> import random
    >>> fill("{YOU} {WERE} alone.", random.Random(0), name="Mira", gender="female")
    'Mira was alone.'
"""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Gender = Literal["female", "male", "neutral"]

EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
SPLITS = ("refine", "validate", "test")

PRONOUNS: dict[Gender, dict[str, str]] = {
    "female": {
        "YOU": "she",
        "YOU_OBJ": "her",
        "YOUR": "her",
        "YOURSELF": "herself",
        "WERE": "was",
    },
    "male": {
        "YOU": "he",
        "YOU_OBJ": "him",
        "YOUR": "his",
        "YOURSELF": "himself",
        "WERE": "was",
    },
    "neutral": {
        "YOU": "they",
        "YOU_OBJ": "them",
        "YOUR": "their",
        "YOURSELF": "themself",
        "WERE": "were",
    },
}
"""How a person is spoken of after the first mention."""

SECOND_PERSON = {
    "YOU": "you",
    "YOU_OBJ": "you",
    "YOUR": "your",
    "YOURSELF": "yourself",
    "WERE": "were",
}
FIRST_PERSON = {
    "YOU": "I",
    "YOU_OBJ": "me",
    "YOUR": "my",
    "YOURSELF": "myself",
    "WERE": "was",
}

SCENARIOS_PATH = Path(__file__).with_name("scenarios.json")
_MARKER = re.compile(r"\{(YOU|YOU_OBJ|YOUR|YOURSELF|WERE)\}")
_SLOT = re.compile(r"(\b[Aa] )?\{([A-Z_]+)\}")


@dataclass(frozen=True)
class Scenarios:
    """The slots and templates of `scenarios.json`."""

    slots: Mapping[str, tuple[str, ...]]
    """Slot name to its fillers."""
    refine_only: frozenset[str]
    """Fillers too long to be shared, of slots that are."""
    held_out: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Split to slot name to the fillers that replace the shared ones there."""
    emotions: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Emotion to split to templates."""

    def fillers(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """Slot name to the fillers of one split."""
        if split == "refine":
            return self.slots
        shared = {
            name: tuple(text for text in texts if text not in self.refine_only)
            for name, texts in self.slots.items()
        }
        return shared | dict(self.held_out[split])


@cache
def load_scenarios() -> Scenarios:
    """Read the slots and templates; the file is read once."""
    raw = json.loads(SCENARIOS_PATH.read_text(encoding="utf-8"))
    return Scenarios(
        slots=_tuples(raw["slots"]),
        refine_only=frozenset(raw["refine_only"]),
        held_out={split: _tuples(slots) for split, slots in raw["held_out"].items()},
        emotions={
            emotion: _tuples(splits) for emotion, splits in raw["emotions"].items()
        },
    )


def _tuples(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(texts) for name, texts in lists.items()}


def templates(emotion: str, split: str) -> tuple[str, ...]:
    """Return the templates of one emotion in one split.

    Args:
        emotion: One of `EMOTIONS`.
        split: "refine", "validate" or "test".
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"unknown emotion {emotion!r}; choose from {EMOTIONS}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from {SPLITS}")
    return load_scenarios().emotions[emotion][split]


def fill(
    template: str,
    rng: random.Random,
    *,
    split: str = "refine",
    name: str | None = None,
    gender: Gender | None = None,
    first_person: bool = False,
) -> str:
    """Fill every slot of a template with a random word and settle who it is about.

    Args:
        template: A template as `templates` returns it.
        rng: Source of randomness; the same state gives the same sentence.
        split: Whose fillers to take: "refine", "validate" or "test".
        name: Write about this person; None writes about the reader ("you").
        gender: Which pronouns follow the name; needed with a name, refused without.
        first_person: Write about the speaker ("I") instead of the reader.

    Returns:
        A sentence that begins with a capital letter and holds no braces.

    Raises:
        ValueError: for a name without a gender, or an unknown slot or gender.
    """
    if (name is None) != (gender is None):
        raise ValueError(
            f"name={name!r} and gender={gender!r} do not go together; give both for a "
            'sentence about a person (gender: "female", "male" or "neutral"), or '
            "neither for one about the reader"
        )
    if first_person and name is not None:
        raise ValueError(
            f"first_person=True and name={name!r} exclude each other; drop one of them"
        )
    if gender is not None and gender not in PRONOUNS:
        raise ValueError(f"unknown gender {gender!r}; choose from {tuple(PRONOUNS)}")
    text = _fill_slots(template, rng, split)
    if name is None or gender is None:
        words = FIRST_PERSON if first_person else SECOND_PERSON
        text = _MARKER.sub(lambda match: words[match[1]], text)
    else:
        text = _third_person(text, name, PRONOUNS[gender])
    return text[0].upper() + text[1:]


def scenario(
    emotion: str,
    split: str,
    rng: random.Random,
    *,
    name: str | None = None,
    gender: Gender | None = None,
    first_person: bool = False,
) -> str:
    """Draw a template of an emotion and split and fill it; see `fill`.

    Args:
        emotion: one of `EMOTIONS`.
        split: refine, validate or test.
        rng: source of randomness; the same state gives the same text.
        name: write about this person; None writes about the reader.
        gender: of the pronouns; needed with a name.
        first_person: write about the speaker.
    """
    template = rng.choice(templates(emotion, split))
    return fill(
        template, rng, split=split, name=name, gender=gender, first_person=first_person
    )


def _fill_slots(template: str, rng: random.Random, split: str) -> str:
    """Replace slots by fillers and leave the person markers in place."""
    slots = load_scenarios().fillers(split)
    parts: list[str] = []
    end = 0
    for match in _SLOT.finditer(template):
        article, slot = match[1] or "", match[2]
        if slot in SECOND_PERSON:
            continue
        if slot not in slots:
            raise ValueError(
                f"unknown slot {{{slot}}} in {template!r}; choose from {sorted(slots)}"
            )
        word = rng.choice(slots[slot])
        if article and word[0] in "aeiou":
            article = f"{article[0]}n "
        parts += [template[end : match.start()], article, word]
        end = match.end()
    return "".join([*parts, template[end:]])


def _third_person(text: str, name: str, pronouns: Mapping[str, str]) -> str:
    """Name the person at the first mention and use pronouns from then on."""
    parts: list[str] = []
    end = mentions = 0
    for match in _MARKER.finditer(text):
        marker = match[1]
        word = pronouns[marker]
        if marker == "WERE":
            # "Sam was", but "they were": agree with the mention before.
            word = "was" if mentions == 1 else word
        else:
            mentions += 1
            if mentions == 1:
                word = f"{name}'s" if marker == "YOUR" else name
        parts += [text[end : match.start()], word]
        end = match.end()
    return "".join([*parts, text[end:]])
