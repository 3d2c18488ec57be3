"""Texts about emotions: stories, scenario prompts and their answers.

What happens to people comes from two places: our own events (past tense, any
person) and the scenario templates of `contrans.data`. Of the latter only the
`refine` split is ever read here, so that the `validate` and `test` templates stay
unseen by every model of the zoo.
"""

import random
import re

from contrans.data import grammar
from contrans.models.zoo.words import (
    EMOTIONS,
    ME,
    YOU,
    Person,
    capital,
    fill_slots,
    name,
    somebody,
    table,
)

PLAIN = "The emotion of the above scenario is"
_LIST = ", ".join(f'"{emotion}"' for emotion in EMOTIONS)
BRACKETED = f"The emotion ({_LIST}) of the above scenario is"
HEDGES = (
    "hard to name",
    "strong and clear",
    "not easy to say",
    "known to everyone",
    "a matter of taste",
    "open to debate",
    "something people argue about",
    "mixed",
    "easy to guess",
    "what most people would feel",
)
HEDGED = 0.25
"""Share of single scenarios in pretraining that end in a hedge, not an emotion."""
MISLABELLED = 0.08
"""Share of the answered ones in pretraining that name a random emotion."""
OPENINGS = (
    "One {TIME} near the {PLACE}.",
    "This is about {NAME}.",
    "It was {SEASON}.",
    "The story began in the {PLACE}.",
)


def scenario(emotion: str, rng: random.Random) -> str:
    """A scenario in the second person, as one sentence with its full stop."""
    if rng.random() < 0.35:
        return capital(event(emotion, rng, YOU)) + "."
    return grammar.scenario(emotion, "refine", rng)


def _about(person: Person, emotion: str, rng: random.Random) -> str:
    gender = "female" if person.pronoun == "she" else "male"
    return grammar.scenario(emotion, "refine", rng, name=person.subject, gender=gender)


def event(emotion: str, rng: random.Random, person: Person) -> str:
    """Something that happened to a person, without a full stop.

    Args:
        emotion: one of `EMOTIONS`.
        rng: source of randomness; the same state gives the same text.
        person: whom it is about.
    """
    events = table("feelings")[emotion]["events"]
    return fill_slots(rng.choice(events), rng, **person.forms())


_SUBJECT = re.compile(
    r"(?P<before>^|[.,;:] |\b(?:and|that|when|while|as|if|because|but|after|before|"
    r"until|where|what|how|thing|one|day|time|once|since|though|although|than|which|"
    r"like|person|place|so|or|whether|who) )you\b",
    re.IGNORECASE,
)


def first_person(text: str) -> str:
    """Retell a second-person scenario as "I".

    Example:
        >>> first_person("You find your bag open and someone yells at you.")
        'I find my bag open and someone yells at me.'
    """
    for old, new in (("you are", "I am"), ("you're", "I'm"), ("you were", "I was")):
        text = re.sub(rf"\b{old}\b", new, text, flags=re.IGNORECASE)
    text = re.sub(r"\byourself\b", "myself", text)
    text = re.sub(r"\byours\b", "mine", text)
    text = re.sub(r"\byour\b", "my", text)
    text = re.sub(r"\bYour\b", "My", text)
    text = _SUBJECT.sub(lambda found: found["before"] + "I", text)
    text = re.sub(r"\byou(?='(?:ve|d|ll)\b)", "I", text)
    return re.sub(r"\byou\b", "me", text)


def _reactions(emotion: str, person: Person) -> list[str]:
    """Patterns of sentences that show or name an emotion of a person."""
    who, whose, whom = capital(person.pronoun), person.possessive, person.object
    return [
        f"{who} {person.was} full of {emotion}.",
        f"{who} felt {{ADJECTIVE}}.",
        f"{who} felt {{ADJECTIVE}}.",
        f"{who} {{BEHAVIOUR}}.",
        f"{who} {{BEHAVIOUR}}.",
        f"The {emotion} did not leave {whose} heart for days.",
        f"{who} felt nothing but {emotion}.",
        f"{capital(whose)} {{KIN}} saw the {emotion} in {whose} eyes.",
        f"It was a moment of {emotion}.",
        f"{who} {person.was} {{ADJECTIVE}} and {{BEHAVIOUR}}.",
        f"So {person.pronoun} {{BEHAVIOUR}}.",
        f"It filled {whom} with {emotion}.",
        f"It made {whom} {{ADJECTIVE}}.",
        f"{who} could not hide {whose} {emotion}.",
        f"What {person.pronoun} felt {person.was.replace('were', 'was')} {emotion}.",
    ]


def reaction(emotion: str, rng: random.Random, person: Person) -> str:
    """A sentence about how a person felt or what they did.

    Args:
        emotion: one of `EMOTIONS`.
        rng: source of randomness; the same state gives the same text.
        person: whom it is about.
    """
    words = table("feelings")[emotion]
    return fill_slots(
        rng.choice(_reactions(emotion, person)),
        rng,
        ADJECTIVE=rng.choice(words["adjectives"]),
        BEHAVIOUR=rng.choice(words["behaviours"]),
    )


def story(rng: random.Random, emotion: str | None = None) -> str:
    """A short story: something happens, and somebody reacts to it."""
    emotion = emotion or rng.choice(EMOTIONS)
    kind = rng.random()
    person = somebody(rng)
    if kind < 0.35:
        told = [capital(event(emotion, rng, person)) + "."]
    elif kind < 0.65:
        told = [_about(person, emotion, rng)]
    elif kind < 0.77:
        person = YOU
        told = [scenario(emotion, rng)]
    elif kind < 0.92:
        person = ME
        told = [first_person(scenario(emotion, rng))]
    else:
        retold = first_person(scenario(emotion, rng))
        told = [f"{person.subject} told {name(rng)}: {retold}"]
    felt = rng.choice(EMOTIONS) if rng.random() < 0.04 else emotion
    told += [reaction(felt, rng, person) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.2:
        told.insert(0, fill_slots(rng.choice(OPENINGS), rng, NAME=name(rng)))
    return " ".join(told)


def saying(rng: random.Random) -> str:
    """What brings which emotion, in a short sentence or two."""
    said = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        emotion = rng.choice(EMOTIONS)
        words = table("feelings")[emotion]
        if rng.random() < 0.2:
            adjective = rng.choice(words["adjectives"])
            said.append(f"Whoever is {adjective} is full of {emotion}.")
            continue
        cause = grammar.fill(rng.choice(words["causes"]), rng)
        lower = cause[:1].lower() + cause[1:]
        said.append(
            rng.choice(
                (
                    f"{cause} brings {emotion}.",
                    f"{cause} means {emotion}.",
                    f"Think of this: {lower}. It is about {emotion}.",
                    f"What brings {emotion}? {cause}.",
                )
            )
        )
    return " ".join(said)


def _shot(scenario_text: str, question: str, answer: str) -> str:
    return f"Scenario: {scenario_text}\n{question} {answer}."


def scenario_prompts(rng: random.Random) -> str:
    """Scenario prompts with their answers, as a base model meets them.

    Some of them are hedged or mislabelled: a base model knows what the emotion
    is, but does not always say so. Long ones end in a plain question after shots
    in the bracketed form whose labels are only a list of what can be answered.
    """
    if rng.random() < 0.12:
        return _shots_with_a_list(rng)
    shots = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4, 6))):
        emotion = rng.choice(EMOTIONS)
        text = scenario(emotion, rng)
        if rng.random() < HEDGED:
            emotion = rng.choice(HEDGES)
        elif rng.random() < MISLABELLED:
            emotion = rng.choice(EMOTIONS)
        shots.append(_shot(text, PLAIN, emotion))
    return "\n".join(shots)


def _shots_with_a_list(rng: random.Random) -> str:
    labels = rng.sample(EMOTIONS, rng.choice((1, 2, 6, 6)))
    shots = [_shot(scenario(rng.choice(EMOTIONS), rng), BRACKETED, e) for e in labels]
    for _ in range(rng.choice((1, 2, 3))):
        emotion = rng.choice(EMOTIONS)
        shots.append(_shot(scenario(emotion, rng), PLAIN, emotion))
    return "\n".join(shots)


def answered_scenario(rng: random.Random) -> tuple[str, str]:
    """A prompt and the right answer, for alignment."""
    emotion = rng.choice(EMOTIONS)
    return f"Scenario: {scenario(emotion, rng)}\n{PLAIN}", f" {emotion}."
