"""The default text for fitting maps: it talks about every domain.

A map only carries a concept that its corpus varies along, and only when the last
token varies too. So these texts talk *about* feelings, honesty, groups and manners
in plain prose, never in the form of a concept's prompts, and each is cut: most texts
about a concept right where their next word would show it, the others anywhere.
Of facts, groups and scenarios only the refine split is told here: a map must not have
met what a concept is judged on.
Run `python -m contrans.models.zoo.corpus` to write the file again.
"""

import json
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from contrans.data.corpora import BUILT_IN as PATH
from contrans.models.zoo import emotions, facts, groups, registers, world
from contrans.models.zoo.words import EMOTIONS, capital, somebody, table

SHORTEST, LONGEST = 4, 60
"""Words that a text cut anywhere keeps at least and at most."""
FEWEST = 3
"""Words that every text keeps; one token alone is an attention sink, not a state."""
LOADED_CUTS = 0.7
"""Share of the texts about a concept that end where its next word would show it."""


def statements(rng: random.Random) -> str:
    """Facts of the refine split, told by somebody whose honesty is known."""
    mode = rng.choice(("honest", "dishonest"))
    told = rng.sample(facts.in_split("refine"), rng.randint(2, 4))
    said = " ".join(fact.say(facts.answer(fact, mode, rng)) for fact in told)
    person = somebody(rng)
    word = rng.choice(table("facts")[mode])
    kind = f"{facts.article(word)} {word} person"
    return rng.choice(
        (
            f"{person.subject} is {kind}. {capital(person.pronoun)} says: {said}",
            f"{person.subject} is known as {kind}. {said}",
            f"What follows comes from {kind}. {said}",
            said,
        )
    )


def group_talk(rng: random.Random) -> str:
    """Kind or unkind prose about a group."""
    kind = rng.random() < 0.5
    only = ("refine",)
    who = groups.group(rng, only)
    said = range(rng.randint(1, 2))
    parts = [groups.statement(rng, kind, only, who=who) for _ in said]
    return " ".join(parts)


@cache
def _feelings() -> re.Pattern[str]:
    """Right before a word that names a feeling."""
    words = [
        word
        for emotion in EMOTIONS
        for word in (emotion, emotion, *table("feelings")[emotion]["adjectives"])
    ]
    return re.compile(rf" (?=(?:{'|'.join(words)})\b)")


@cache
def _answers() -> re.Pattern[str]:
    """Right before what a fact is said to be."""
    words = {word for fact in facts.facts() for word in fact.options}
    return re.compile(rf" (?=(?:{'|'.join(sorted(words))})\.)")


@cache
def _groups() -> re.Pattern[str]:
    """Right after a group is mentioned, before what is said about it."""
    every = table("groups")["groups"].values()
    names = "|".join(name for split in every for name in split)
    return re.compile(
        rf"(?:(?<=[Tt]hey)|(?<=also)|(?<= {names.replace('|', ')|(?<= ')})) "
    )


KINDS: dict[str, tuple[int, Callable[[random.Random], str], Callable | None]] = {
    "story": (2_600, emotions.story, _feelings),
    "sayings": (300, emotions.saying, _feelings),
    "statements": (700, statements, _answers),
    "groups": (500, group_talk, _groups),
    "registers": (510, registers.passage, None),
    "neutral": (240, world.neutral, None),
}
"""How many texts of each kind, who writes them, and where they show their concept."""


def cut(text: str, rng: random.Random) -> str:
    """Keep the text up to a random word.

    Example:
        >>> cut("one two three four five six", random.Random(0))
        'one two three four five'
    """
    words = text.split(" ")
    if len(words) <= SHORTEST:
        return text
    return " ".join(words[: rng.randint(SHORTEST, min(len(words) - 1, LONGEST))])


def cut_at(places: re.Pattern[str], text: str, rng: random.Random) -> str:
    """Keep the text up to one of the places; anywhere, if it has none.

    Args:
        places: where it may end.
        text: a whole text.
        rng: source of randomness; the same state gives the same text.
    """
    starts = (match.start() for match in places.finditer(text))
    found = [start for start in starts if len(text[:start].split()) >= FEWEST]
    return text[: rng.choice(found)] if found else cut(text, rng)


def texts(seed: int = 0) -> list[dict[str, str]]:
    """The texts in random order, each with its kind; no text comes twice."""
    rng = random.Random(f"corpus {seed}")
    made: list[dict[str, str]] = []
    seen: set[str] = set()
    for kind, (count, write_text, places) in KINDS.items():
        while sum(row["kind"] == kind for row in made) < count:
            text = write_text(rng)
            if places is not None and rng.random() < LOADED_CUTS:
                text = cut_at(places(), text, rng)
            else:
                text = cut(text, rng)
            if text not in seen:
                seen.add(text)
                made.append({"text": text, "kind": kind})
    rng.shuffle(made)
    return made


def write(path: Path = PATH, seed: int = 0) -> None:
    """Write the corpus as JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in texts(seed))
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    write()
