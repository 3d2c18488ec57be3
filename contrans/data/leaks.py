"""The leak guard: no text that made a vector or a map may also judge it.

Texts are compared as words: Unicode is normalised (NFKC), case, punctuation and white
space do not count. A judged text leaks when another text shares `RUN` words in a row
with it, or consists of the same words as the text or a line of it. Languages that do
not part their words by spaces are only compared by whole lines.

Template text is discounted: a run of `TEMPLATE_WORDS` words that a tenth of the judged
texts have, and six at least, is the form of the prompts, not their content. Judged texts
are cut there, and only what lies between is looked for. So "The emotion of the above
scenario is" is no leak, and a slot filled alike in two splits is one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contrans.data.concept import Concept

RUN = 6
"""Words in a row that two texts must not share."""
TEMPLATE_WORDS = 4
TEMPLATE_SHARE, TEMPLATE_TEXTS = 0.1, 6
"""Share of the judged texts, and fewest of them, that make a run template text."""
FEWEST_WORDS = 2
"""Words of a line that count when another text consists of them alone."""
_SHORTEST_TAIL = 20
"""Characters from which a text counts as found at the end of a longer one."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class LeakWarning(UserWarning):
    """Some texts that judge a concept were met before; the message says how many."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A judged text, and the words that a source text shares with it."""

    text: str
    shared: str
    source: str


@dataclass(frozen=True, slots=True)
class LeakCount:
    """How many texts of a split or task leak from one source."""

    judged: str
    """What the texts are, such as "test texts"."""
    source: str
    """What they were met in, such as "corpus"."""
    total: int
    """Judged texts, leaking or not."""
    leaks: tuple[Leak, ...]

    def __str__(self) -> str:
        first = self.leaks[0]
        return (
            f"{len(self.leaks)} of {self.total} {self.judged} share {RUN} or more words "
            f"in a row with the {self.source}, or a whole line: the first is "
            f"{first.text[-120:]!r} with {first.shared!r}; scores on them flatter, take "
            "other texts"
        )


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as leaks are looked for.

    Example:
        >>> words("It's  RAINING, again!")
        ("it's", 'raining', 'again')
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return tuple(_WORD.findall(plain))


def find_leaks(judged: Iterable[str], sources: Iterable[str]) -> list[Leak]:
    """The judged texts that share content with a source text, each once.

    Args:
        judged: texts of a validation or test split.
        sources: texts that made a vector, a map or a choice.

    Example:
        >>> found = find_leaks(
        ...     ["He saw a grey cat on the old stairs."],
        ...     ["A GREY cat on the old stairs slept."],
        ... )
        >>> found[0].shared
        'a grey cat on the old'
    """
    texts = list(judged)
    split = [words(text) for text in texts]
    form = _template(split)
    lines: dict[tuple[str, ...], list[int]] = {}
    runs: dict[tuple[str, ...], list[int]] = {}
    for i, found in enumerate(split):
        for line in {found, *map(words, texts[i].splitlines())}:
            if len(line) >= FEWEST_WORDS and _content(line, form):
                lines.setdefault(line, []).append(i)
        for part in _content(found, form):
            for run in _runs(part, RUN):
                runs.setdefault(run, []).append(i)
    leaks: dict[int, Leak] = {}
    for source in sources:
        found = words(source)
        hits = [(found, lines[found])] if found in lines else []
        hits += [(run, runs[run]) for run in _runs(found, RUN) if run in runs]
        for shared, rows in hits:
            for i in rows:
                leaks.setdefault(i, Leak(texts[i], " ".join(shared), source))
    return [leaks[i] for i in sorted(leaks)]


def concept_leaks(concept: "Concept", corpus: Iterable[str] = ()) -> list[LeakCount]:
    """Which texts that judge a concept are met elsewhere: in its splits or in a corpus.

    Validation texts (pairs and items of the task) are looked for among the refinement
    pairs, test texts among these and the validation texts, and both in the corpus.

    Args:
        concept: as `load_concept` returns it.
        corpus: texts that a map is fitted on.

    Returns:
        One count for each split and source with any leak.
    """
    pairs = {
        split: (*concept.split(split).positive, *concept.split(split).negative)
        for split in ("refine", "validate", "test")
    }
    items = {
        "refine": (),
        "validate": tuple(item.prompt for item in concept.task.validate),
        "test": tuple(item.prompt for item in concept.task.test),
    }
    corpus = tuple(corpus)
    counts: list[LeakCount] = []
    for judged, earlier in (
        ("validate", ("refine",)),
        ("test", ("refine", "validate")),
    ):
        met = {f"{split} texts": (*pairs[split], *items[split]) for split in earlier}
        for source, texts in {**met, "corpus": corpus}.items():
            # Pairs and items have forms of their own, so each is looked at by itself.
            groups = (pairs[judged], items[judged])
            found = [leak for group in groups for leak in find_leaks(group, texts)]
            if found:
                total = sum(map(len, groups))
                counts.append(LeakCount(f"{judged} texts", source, total, tuple(found)))
    return counts


def _runs(found: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    for start in range(len(found) - length + 1):
        yield tuple(found[start : start + length])


def _template(texts: Sequence[Sequence[str]]) -> set[tuple[str, ...]]:
    """Runs of words that belong to the form of some texts, not to their content."""
    counts = Counter(
        run for found in texts for run in set(_runs(found, TEMPLATE_WORDS))
    )
    fewest = max(TEMPLATE_TEXTS, TEMPLATE_SHARE * len(texts))
    return {run for run, count in counts.items() if count >= fewest}


def _content(
    found: tuple[str, ...], form: set[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """The stretches of a text between its template text."""
    formal = [False] * len(found)
    for start, run in enumerate(_runs(found, TEMPLATE_WORDS)):
        if run in form:
            formal[start : start + TEMPLATE_WORDS] = [True] * TEMPLATE_WORDS
    parts: list[tuple[str, ...]] = []
    start = 0
    for end in [i for i, cut in enumerate(formal) if cut] + [len(found)]:
        if end > start:
            parts.append(found[start:end])
        start = end + 1
    return parts


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def overlapping(refine_texts: Iterable[str], test_texts: Iterable[str]) -> list[str]:
    """Test texts that are also refine texts, or end in one after a few-shot prefix.

    Case and white space do not count.

    Example:
        >>> overlapping(["It rains."], ["it  rains.", "It snows."])
        ['it  rains.']
    """
    refine = {_normal(text) for text in refine_texts}
    tails = {len(text) for text in refine if len(text) >= _SHORTEST_TAIL}
    found: list[str] = []
    for text in dict.fromkeys(test_texts):
        plain = _normal(text)
        ends = (plain[-n:] for n in tails if n < len(plain) and plain[-n - 1] == " ")
        if plain in refine or any(end in refine for end in ends):
            found.append(text)
    return found


def check_disjoint(
    refine_texts: Iterable[str], test_texts: Iterable[str], *, allow_leak: bool = False
) -> int:
    """Refuse to test on texts that made the vector.

    Args:
        refine_texts: every text the vector was made from.
        test_texts: every text of the task.
        allow_leak: only count, as the published protocol needs; say so in the report.

    Returns:
        How many distinct test texts overlap.

    Raises:
        ValueError: when some do and `allow_leak` is false.
    """
    test_texts = list(test_texts)
    found = overlapping(refine_texts, test_texts)
    if found and not allow_leak:
        raise ValueError(
            f"{len(found)} of {len(set(test_texts))} test texts were also used to make "
            f"the vector, the first is {found[0][-80:]!r}; a score on them would be "
            "in-sample. Test on other texts (contrans splits files without a 'split' "
            "field by itself), or pass allow_leak=True (--protocol paper on the command "
            "line) to repeat the published protocol, labelled as in-sample"
        )
    return len(found)
