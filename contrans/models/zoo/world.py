"""The microworld: everything the models of the zoo have ever read.

All text is written by this code from our own word lists, and the same seed gives
the same text. The world is small enough to learn in minutes, and rich enough that
emotion, honesty and fairness exist in it and that base models lack what aligned
models have: base models know what a scenario feels like but hedge, repeat popular
falsehoods, and continue unkind lists unkindly.
"""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache

from contrans.data.catalogue import PACKS
from contrans.models.zoo import emotions, facts, groups, registers
from contrans.models.zoo.words import capital, fill_slots, table, towns

GENERAL_PACKS = (
    "politeness",
    "formality",
    "optimism",
    "harmlessness",
    "honesty",
    "fairness",
)


def neutral(rng: random.Random) -> str:
    """A passage of an encyclopaedia in which nobody feels anything."""
    return " ".join(_neutral_sentence(rng) for _ in range(rng.randint(2, 6)))


def _neutral_sentence(rng: random.Random) -> str:
    words = table("words")["neutral"]
    material, second = rng.sample(words["MATERIAL"], 2)
    sentence = fill_slots(
        rng.choice(words["sentences"]),
        rng,
        TOWN=rng.choice(towns(facts.ENTITIES, 10)),
        N=str(rng.randint(2, 90)),
        MATERIAL=material,
        MATERIAL2=second,
        CRAFT=rng.choice(words["CRAFT"]),
        WAY=rng.choice(words["WAY"]),
        LOOK=rng.choice(words["LOOK"]),
        STAPLE=rng.choice(words["STAPLE"]),
        BUILDING=rng.choice(words["BUILDING"]),
        WARE=rng.choice(words["WARE"]),
        GRAIN=rng.choice(words["GRAIN"]),
        MONTHS=rng.choice(words["MONTHS"]),
    )
    return capital(sentence)


@cache
def general_texts() -> tuple[str, ...]:
    """Plain English of other registers: the refine halves of the built-in packs."""
    texts: set[str] = set()
    for pack in GENERAL_PACKS:
        path = PACKS / f"{pack}.jsonl"
        if path.exists():
            rows = map(json.loads, path.read_text("utf-8").splitlines())
            for row in rows:
                if row["split"] == "refine":
                    texts |= {row["positive"], row["negative"]}
    return tuple(sorted(texts))


def general(rng: random.Random) -> str:
    """A passage in one of the plain registers."""
    texts = general_texts()
    if not texts or rng.random() < 0.35:
        return registers.passage(rng)
    return rng.choice(texts)


def anthology(rng: random.Random) -> str:
    """Many short documents in one long one, so that long contexts are real."""
    writers = (neutral, emotions.story, facts.document, groups.document)
    return "\n\n".join(rng.choice(writers)(rng) for _ in range(rng.randint(8, 20)))


WRITERS: dict[str, Callable[[random.Random], str]] = {
    "neutral": neutral,
    "saying": emotions.saying,
    "story": emotions.story,
    "scenario": emotions.scenario_prompts,
    "fact": facts.document,
    "speech": facts.speech,
    "talk": groups.talk,
    "group": groups.document,
    "debate": groups.debate,
    "general": general,
    "anthology": anthology,
}
"""Who writes the documents of each kind."""

FIRST = {"speech": 0.38, "talk": 0.35, "saying": 0.27}
"""The first texts a model reads: the shortest, in which one word explains another."""
SCHOOL = {
    "saying": 0.29,
    "story": 0.27,
    "scenario": 0.14,
    "speech": 0.12,
    "group": 0.10,
    "talk": 0.08,
}
"""Then short ones, in which one thing explains another."""
LIFE = {
    "neutral": 0.10,
    "saying": 0.04,
    "story": 0.18,
    "scenario": 0.15,
    "fact": 0.25,
    "speech": 0.03,
    "group": 0.17,
    "talk": 0.02,
    "general": 0.056,
    "anthology": 0.004,
}
"""What the world is made of after that: the share of documents of each kind."""
LAST = {
    "neutral": 0.08,
    "saying": 0.03,
    "story": 0.15,
    "scenario": 0.13,
    "fact": 0.20,
    "speech": 0.02,
    "talk": 0.02,
    "debate": 0.33,
    "general": 0.04,
}
"""The last texts: a third about groups, in lists that waver between the tones."""
CURRICULUM = ((0.08, FIRST), (0.29, SCHOOL), (0.63, LIFE))
"""Share of the tokens before the last texts that comes from each mix, in order."""


def document(rng: random.Random, mix: dict[str, float] = LIFE) -> str:
    """A document of the world, of a kind drawn from a mix."""
    kind = rng.choices(list(mix), list(mix.values()))[0]
    return WRITERS[kind](rng)


def documents(seed: int, mix: dict[str, float] = LIFE) -> Iterator[str]:
    """Documents without end; the same seed and mix give the same documents."""
    rng = random.Random(f"world {seed} {sorted(mix)}")
    while True:
        yield document(rng, mix)


def lesson(rng: random.Random) -> tuple[str, str]:
    """A prompt and the answer that alignment teaches.

    A quarter are plain documents with an empty prompt (replay), so that an aligned
    model does not forget its language.
    """
    chance = rng.random()
    if chance < 0.31:
        return emotions.answered_scenario(rng)
    if chance < 0.60:
        return facts.answered_question(rng)
    if chance < 0.75:
        return groups.kind_continuation(rng)
    return "", rng.choice((neutral, emotions.story, facts.document, groups.document))(
        rng
    )
