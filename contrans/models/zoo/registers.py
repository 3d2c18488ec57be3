"""Passages in plain registers: polite, rude, formal, informal and so on."""

import random

from contrans.models.zoo.words import fill_slots, name, table


def registers() -> tuple[str, ...]:
    """The names of the registers."""
    return tuple(table("registers"))


def passage(rng: random.Random, register: str | None = None) -> str:
    """Two to four sentences in one register."""
    register = register or rng.choice(registers())
    words = table("registers")[register]
    said = []
    for _ in range(rng.choice((1, 1, 2))):
        deed = f"{rng.choice(words['start'])} {rng.choice(words['deed'])}."
        said += [deed, rng.choice(words["end"])]
    text = fill_slots(" ".join(said), rng)
    if rng.random() < 0.3:
        return f"{name(rng)} {rng.choice(('said', 'wrote', 'answered'))}: {text}"
    return text
