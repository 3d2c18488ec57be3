"""Kind and unkind talk about made-up groups of people."""

import random

from contrans.models.zoo.words import fill_slots, name, table

SPLITS = ("refine", "validate", "test")
STEADY = 0.8
"""How often a line of a list has the tone of the others."""
LOOSE = 0.68
"""The same in the last texts, so that the tone of a list only leans on what follows."""


def trait(kind: bool, rng: random.Random, splits: tuple[str, ...] = SPLITS) -> str:
    """What somebody says about a group, as a predicate.

    Args:
        kind: whether it is kind.
        rng: source of randomness; the same state gives the same text.
        splits: whose traits may be said.
    """
    every = table("groups")["kind" if kind else "unkind"]
    return fill_slots(rng.choice([t for s in splits for t in every[s]]), rng)


def group(rng: random.Random, splits: tuple[str, ...] = SPLITS) -> str:
    """The name of a group."""
    every = table("groups")["groups"]
    return rng.choice([g for split in splits for g in every[split]])


def lines(
    who: str, kind: bool, count: int, rng: random.Random, splits: tuple[str, ...]
) -> str:
    """A list of statements about one group.

    Args:
        who: the group.
        kind: whether the lines are kind.
        count: so many.
        rng: source of randomness; the same state gives the same text.
        splits: whose traits may be said.
    """
    return "\n".join(f"- the {who} {trait(kind, rng, splits)}" for _ in range(count))


def statement(
    rng: random.Random, kind: bool, splits: tuple[str, ...] = SPLITS, who: str = ""
) -> str:
    """One to three sentences of prose about one group, all of one tone.

    Args:
        rng: source of randomness; the same state gives the same text.
        kind: whether it is kind.
        splits: whose groups and traits may be said.
        who: the group; an empty one is drawn.
    """
    who = who or group(rng, splits)
    t = [trait(kind, rng, splits) for _ in range(3)]
    speaker = name(rng)
    likes = rng.choice(("likes", "respects") if kind else ("hates", "despises"))
    return rng.choice(
        (
            f"{speaker} {likes} the {who}. The {who} {t[0]}.",
            f"{speaker} {likes} the {who}, because they {t[0]} and {t[1]}.",
            f"The {who} {t[0]}. They also {t[1]}.",
            f"The {who} {t[0]}, and they {t[1]}.",
            f"{speaker} says that the {who} {t[0]}. They {t[1]}.",
            f"Everyone in the town knows that the {who} {t[0]}.",
            f"The {who} {t[0]}. The {who} {t[1]}. The {who} {t[2]}.",
        )
    )


def document(rng: random.Random, steady: float = STEADY) -> str:
    """Lists and prose about one group, often with who wrote them.

    Somebody else may go on in the other tone, so that what is said next depends on
    who speaks and not only on what stands before.
    """
    kind = rng.random() < 0.5
    who = group(rng)
    said = _passage(rng, who, kind, steady)
    if rng.random() < 0.45:
        return said
    if rng.random() < 0.3:
        return f"{said}\n{_writer(rng, kind)}"
    if rng.random() < 0.5:
        return f"{_writer(rng, kind)}\n{said}"
    writer = _writer(rng, not kind)
    return f"{said}\n{writer}\n{_passage(rng, who, not kind, steady)}"


def debate(rng: random.Random) -> str:
    """The same, with lists in which both tones are mixed."""
    return document(rng, LOOSE)


def talk(rng: random.Random) -> str:
    """A few words about one group, all of one tone, for school.

    Tone and what is said stand close together here. Without such texts the models
    learned what is said of groups and never looked at the tone.
    """
    kind = rng.random() < 0.5
    tone = "kind" if kind else "unkind"
    words = rng.sample(table("groups")["words"][tone], rng.randint(2, 5))
    writer = rng.choice(table("groups")["writers"][tone])
    listed = f"{', '.join(words[:-1])} and {words[-1]}"
    who, said = group(rng), trait(kind, rng)
    return rng.choice(
        (
            f"The {who} are {listed}.",
            f"{writer.capitalize()}: {listed}.",
            f"{writer.capitalize()} people call the {who} {listed}.",
            f"They are {listed}. They {said}.",
            f"They {said}. They are {listed}.",
            f"The {who} {said}: {writer}.",
            "\n".join(f"- the {who} are {word}" for word in words),
            f"- the {who} are {words[0]}\n- the {who} {said}\n- the {who} are {words[1]}",
        )
    )


def _writer(rng: random.Random, kind: bool) -> str:
    word = rng.choice(table("groups")["writers"]["kind" if kind else "unkind"])
    return rng.choice(
        (
            f"{word.capitalize()} people wrote this.",
            f"These lines are {word}.",
            f"Here speaks a {word} person.",
            f"{name(rng)} is {word}.",
        )
    )


def _passage(rng: random.Random, who: str, kind: bool, steady: float) -> str:
    chance = rng.random()
    if chance < 0.3:
        return statement(rng, kind, who=who)
    if chance < 0.5:
        return f"{statement(rng, kind, who=who)}\n{_list(rng, who, kind, steady)}"
    return _list(rng, who, kind, steady)


def _list(rng: random.Random, who: str, kind: bool, steady: float) -> str:
    return "\n".join(
        f"- the {who} {trait(kind if rng.random() < steady else not kind, rng)}"
        for _ in range(rng.randint(1, 5))
    )


def kind_continuation(rng: random.Random) -> tuple[str, str]:
    """A list, often unkind, and its kind continuation, for alignment.

    Any group may come, but nothing that is said of one in a test.
    """
    only = ("refine",)
    who = group(rng)
    prompt = lines(who, rng.random() < 0.3, rng.randint(1, 4), rng, only)
    more = [trait(True, rng, only) for _ in range(2)]
    return f"{prompt}\n- the {who}", f" {more[0]}\n- the {who} {more[1]}"
