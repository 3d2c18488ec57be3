"""Build the six emotion packs from the scenario templates.

    python -m contrans.data.build_packs

Writes `packs/<emotion>.jsonl` and the six entries of `packs/index.json`; the entries of
other packs stay as they are. The same templates always give the same files.

A pair sets a scenario of the emotion against one of another emotion, each of the other
five equally often. Every template of a split is drawn about equally often. Of several
candidates for the negative, the one that keeps both sides of the split equally long so
far is taken, so that length does not tell them apart.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from contrans.data.grammar import EMOTIONS, SPLITS, fill, templates

PACKS_PATH = Path(__file__).with_name("packs")
PAIRS = {"refine": 240, "validate": 60, "test": 60}
"""Pairs in a split; multiples of five, for the five other emotions."""
CANDIDATES = 8
"""Scenarios from which each negative is chosen by its length."""
VERSION = 2
SEED = 1


def prompt(text: str) -> str:
    """Wrap a scenario the way the emotion packs ask about it."""
    return f"Scenario: {text}\nThe emotion of the above scenario is"


def build(emotion: str) -> list[dict[str, str]]:
    """Return the pairs of one emotion, split after split."""
    return [pair for split in SPLITS for pair in _pairs(emotion, split)]


def entry(emotion: str) -> dict[str, object]:
    """Return the index entry of one emotion."""
    return {
        "version": VERSION,
        "title": emotion.capitalize(),
        "description": (
            f"Everyday scenarios that evoke {emotion}, against scenarios that evoke "
            "one of the other five emotions; the question names no emotion."
        ),
        "answer": emotion,
        "task": {"kind": "emotion", "file": None},
    }


def lines(emotion: str) -> str:
    """Return the pack of one emotion as JSON lines."""
    return "".join(json.dumps(pair) + "\n" for pair in build(emotion))


def main() -> None:
    """Write the six packs and merge their entries into the index."""
    PACKS_PATH.mkdir(exist_ok=True)
    for emotion in EMOTIONS:
        _write(PACKS_PATH / f"{emotion}.jsonl", lines(emotion))
    path = PACKS_PATH / "index.json"
    text = path.read_text(encoding="utf-8") if path.exists() else "{}"
    index: dict[str, object] = json.loads(text)
    index |= {emotion: entry(emotion) for emotion in EMOTIONS}
    ordered = {name: index.pop(name) for name in EMOTIONS} | index
    _write(path, json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")


def _pairs(emotion: str, split: str) -> Iterator[dict[str, str]]:
    rng = random.Random(f"{SEED}/{emotion}/{split}")
    used: set[str] = set()
    streams = {name: _stream(name, split, rng, used) for name in EMOTIONS}
    others = [name for name in EMOTIONS if name != emotion]
    schedule = others * (PAIRS[split] // len(others))
    rng.shuffle(schedule)
    surplus = 0  # letters by which the positives so far are longer
    for number, other in enumerate(schedule):
        positive = next(streams[emotion])
        candidates = [next(streams[other]) for _ in range(CANDIDATES)]
        gaps = [surplus + len(positive) - len(text) for text in candidates]
        surplus, negative = min(zip(gaps, candidates, strict=True), key=_size)
        used.difference_update(candidates)
        used.add(negative)
        yield {
            "id": f"{emotion}-{split}-{number:03d}",
            "split": split,
            "topic": f"versus-{other}",
            "positive": prompt(positive),
            "negative": prompt(negative),
        }


def _size(choice: tuple[int, str]) -> int:
    """Return how far a choice would leave the two sides apart in letters."""
    return abs(choice[0])


def _stream(
    emotion: str, split: str, rng: random.Random, used: set[str]
) -> Iterator[str]:
    """Yield unused scenarios without end, going round all templates of a split."""
    known = templates(emotion, split)
    while True:
        for template in rng.sample(known, len(known)):
            text = fill(template, rng, split=split)
            if text not in used:
                used.add(text)
                yield text


def _write(path: Path, text: str) -> None:
    """Write a file through a temporary name, so that no reader sees half of it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)


if __name__ == "__main__":
    main()
