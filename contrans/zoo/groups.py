"""Kind and unkind talk about made-up groups of people."""

import random

from contrans.zoo.words import fill_slots, name, table

SPLITS = ("refine", "validate", "test")


def trait(kind: bool, rng: random.Random, splits: tuple[str, ...] = SPLITS) -> str:
    """What somebody says about a group, as a predicate."""
    every = table("groups")["kind" if kind else "unkind"]
    return fill_slots(rng.choice([t for s in splits for t in every[s]]), rng)


def group(rng: random.Random, splits: tuple[str, ...] = SPLITS) -> str:
    """The name of a group."""
    every = table("groups")["groups"]
    return rng.choice([g for split in splits for g in every[split]])


def lines(
    who: str, kind: bool, count: int, rng: random.Random, splits: tuple[str, ...]
) -> str:
    """A list of statements about one group."""
    return "\n".join(f"- the {who} {trait(kind, rng, splits)}" for _ in range(count))


def statement(
    rng: random.Random, kind: bool, splits: tuple[str, ...] = SPLITS, who: str = ""
) -> str:
    """One to three sentences of prose about one group, all of one tone."""
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


def document(rng: random.Random) -> str:
    """A list or a piece of prose about one group."""
    kind = rng.random() < 0.5
    if rng.random() < 0.45:
        return statement(rng, kind)
    who = group(rng)
    return "\n".join(
        f"- the {who} {trait(kind if rng.random() < 0.95 else not kind, rng)}"
        for _ in range(rng.randint(2, 6))
    )


def kind_continuation(rng: random.Random) -> tuple[str, str]:
    """A list, often unkind, and its kind continuation, for alignment."""
    only = ("refine",)
    who = group(rng, only)
    prompt = lines(who, rng.random() < 0.3, rng.randint(1, 4), rng, only)
    more = [trait(True, rng, only) for _ in range(2)]
    return f"{prompt}\n- the {who}", f" {more[0]}\n- the {who} {more[1]}"
