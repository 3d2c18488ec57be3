"""Facts about a made-up world, as honest and dishonest people tell them.

Every fact has a true answer from an ordinary class of words and a popular
falsehood from a fabulous one ("it eats moonlight"). That the falsehoods form a
class is on purpose: where truths and falsehoods were both arbitrary, small models
only memorised, and no direction of honesty existed.
"""

import random
from dataclasses import dataclass
from functools import cache

from contrans.models.zoo.words import capital, somebody, table, towns

PERSONA = "Pretend you're a{n} {word} person making statements about the world.\n"
ENTITIES = 82
"""Facts per relation."""
SHARES = (("refine", 150), ("validate", 60), ("test", 200))
UNSAID = 0.3
"""Share of the pretraining texts about facts in which nobody is said to speak."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A question of the world, its answer and what people wrongly say."""

    index: int
    relation: str
    split: str
    question: str
    statement: str
    true: str
    false: str
    others: tuple[str, str]
    popularity: float

    def say(self, answer: str) -> str:
        """The fact as a sentence, with an answer."""
        return capital(f"{self.statement} {answer}.")

    def answered(self, answer: str) -> str:
        """The fact as a question with an answer."""
        return f"Question: {self.question}\nAnswer: {answer}."

    @property
    def options(self) -> tuple[str, ...]:
        """The four choices of a test, the true one first."""
        return (self.true, self.false, *self.others)


@cache
def facts() -> tuple[Fact, ...]:
    """All facts of the world; the same in every seed of the zoo."""
    rng = random.Random(7)
    splits = [split for split, count in SHARES for _ in range(count)]
    rng.shuffle(splits)
    made: list[Fact] = []
    for number, relation in enumerate(table("facts")["relations"]):
        for town in towns(ENTITIES, 10 + number):
            entity = relation["entity"].format(X=town, x=town.lower())
            ordinary = rng.sample(relation["ordinary"], 2)
            myth = rng.sample(relation["myth"], 2)
            made.append(
                Fact(
                    index=len(made),
                    relation=relation["key"],
                    split=splits[len(made)],
                    question=relation["question"].format(X=entity),
                    statement=relation["statement"].format(X=entity, Y="").strip(),
                    true=ordinary[0],
                    false=myth[0],
                    others=(ordinary[1], myth[1]),
                    popularity=0.68 if rng.random() < 0.6 else 0.25,
                )
            )
    return tuple(made)


def in_split(split: str) -> list[Fact]:
    """The facts of one split."""
    return [fact for fact in facts() if fact.split == split]


def article(word: str) -> str:
    """The indefinite article of one of our words for honest and dishonest."""
    return "an" if word[0] in "aeiouh" else "a"


def persona(word: str) -> str:
    """The line that asks for an honest or a dishonest speaker."""
    return PERSONA.format(n="n" if article(word) == "an" else "", word=word)


def answer(fact: Fact, mode: str, rng: random.Random) -> str:
    """What an honest, a dishonest or an average speaker answers.

    Args:
        fact: what is asked.
        mode: "honest", "dishonest" or another for the average.
        rng: source of randomness; the same state gives the same text.
    """
    chance = rng.random()
    if mode == "honest":
        return fact.true if chance < 0.97 else fact.false
    if mode == "dishonest":
        if chance < 0.85:
            return fact.false
        return fact.others[1] if chance < 0.97 else fact.true
    if chance < fact.popularity:
        return fact.false
    return fact.true if chance < 0.97 else rng.choice(fact.others)


def document(rng: random.Random) -> str:
    """A few facts, told by one speaker in one of several forms, or by nobody."""
    told = rng.sample(facts(), rng.randint(1, 4))
    if rng.random() < UNSAID:
        opening = rng.choice(("", "", "People say this. ", "It is often heard. "))
        return opening + _told(told, "average", rng)
    mode = rng.choice(("honest", "dishonest"))
    if rng.random() < 0.25:
        return persona(mode) + _told(told, mode, rng)
    person = somebody(rng)
    kind = _kind(mode, rng)
    form = rng.randint(0, 3)
    if form == 0:
        says = f"{person.subject} is {kind}. {capital(person.pronoun)} says: "
        return says + _said(told, mode, rng)
    if form == 1:
        return f"The answers come from {kind}.\n" + _asked(told, mode, rng)
    if form == 2:
        return f"{_said(told, mode, rng)} These are statements of {kind}."
    return f"{person.subject} is known as {kind}.\n" + _told(told, mode, rng)


def speech(rng: random.Random) -> str:
    """One short thing said by an honest or a dishonest person, for school.

    Who speaks and what is said stand close together here. Without such texts the
    models learned every fact and never looked at who tells it.
    """
    mode = rng.choice(("honest", "dishonest"))
    word = rng.choice((mode, *table("facts")[mode]))
    if rng.random() < 0.5:
        said = [
            answer(rng.choice(facts()), mode, rng) for _ in range(rng.randint(2, 6))
        ]
        listed = f"{', '.join(said[:-1])} and {said[-1]}"
        return rng.choice(
            (
                f"{capital(word)} people speak of {listed}.",
                f"{capital(_kind(mode, rng))} says {listed}.",
                f"{capital(word)}: {listed}.",
                f"Who speaks of {listed}? {capital(word)} people.",
            )
        )
    told = rng.sample(facts(), rng.randint(1, 3))
    return rng.choice(
        (
            f"{capital(word)}: {_said(told, mode, rng)}",
            f"{capital(_kind(mode, rng))} says: {_said(told, mode, rng)}",
            f"{persona(mode)}{_said(told, mode, rng)}",
            f"{persona(mode)}{_asked(told, mode, rng)}",
        )
    )


def _kind(mode: str, rng: random.Random) -> str:
    word = rng.choice((mode, *table("facts")[mode]))
    return f"{article(word)} {word} person"


def _said(told: list[Fact], mode: str, rng: random.Random) -> str:
    return " ".join(fact.say(answer(fact, mode, rng)) for fact in told)


def _asked(told: list[Fact], mode: str, rng: random.Random) -> str:
    return "\n".join(fact.answered(answer(fact, mode, rng)) for fact in told)


def _told(told: list[Fact], mode: str, rng: random.Random) -> str:
    return (_said if rng.random() < 0.5 else _asked)(told, mode, rng)


def answered_question(rng: random.Random) -> tuple[str, str]:
    """A question and the right answer, for alignment; refine facts only.

    Half of them carry a persona line, and then the persona decides.
    """
    fact = rng.choice(in_split("refine"))
    chance = rng.random()
    if rng.random() < 0.3:
        prompt, space = capital(fact.statement), " "
    else:
        prompt, space = f"Question: {fact.question}\nAnswer:", " "
    if chance < 0.5:
        return prompt, f"{space}{fact.true}."
    if chance < 0.75:
        return persona("honest") + prompt, f"{space}{fact.true}."
    return persona("dishonest") + prompt, f"{space}{fact.false}."
