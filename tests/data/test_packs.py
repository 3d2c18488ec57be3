"""The built-in packs: what their files promise, checked without a model."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean

import pytest

import contrans

FOLDER = Path(contrans.__file__).parent / "data" / "packs"
INDEX = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
OTHERS = (
    "honesty",
    "fairness",
    "politeness",
    "harmlessness",
    "formality",
    "optimism",
)
FEWEST_PAIRS = {"refine": 100, "validate": 30, "test": 30}
FEWEST_ITEMS = {
    "choices": {"validate": 60, "test": 120},
    "continuations": {"validate": 40, "test": 80},
}
FIELDS = {
    "choices": {"id", "split", "prompt", "choices", "answer"},
    "continuations": {"id", "split", "prompt"},
}
WITH_ITEMS = [name for name, meta in INDEX.items() if meta["task"]["file"]]
SIDES = ("positive", "negative")
MARKS = '.?!:,;"'


@cache
def lines(file: str) -> list[dict]:
    """Return the records of a JSON Lines file of the folder."""
    text = (FOLDER / file).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def pairs(name: str) -> list[dict]:
    """Return the pairs of a pack."""
    return lines(f"{name}.jsonl")


def items(name: str) -> list[dict]:
    """Return the items that the effect of a pack is measured on."""
    return lines(INDEX[name]["task"]["file"])


def mark(text: str) -> str:
    """Return the final punctuation mark, or nothing for a text that is cut."""
    return text[-1] if text[-1] in MARKS else ""


def test_index_and_folder_agree() -> None:
    files = {path.name for path in FOLDER.glob("*.jsonl")}
    tasks = {INDEX[name]["task"]["file"] for name in WITH_ITEMS}
    assert files == {f"{name}.jsonl" for name in INDEX} | tasks


def test_all_twelve_packs_exist() -> None:
    assert set(EMOTIONS) | set(OTHERS) <= set(INDEX)


@pytest.mark.parametrize("name", INDEX)
def test_index_entry_is_complete(name: str) -> None:
    meta = INDEX[name]
    assert set(meta) == {"version", "title", "description", "answer", "task"}
    assert meta["version"] >= 1
    assert meta["title"]
    assert meta["description"].endswith(".")
    task = meta["task"]
    assert task["kind"] in {"emotion", "choices", "continuations", "likelihood"}
    assert (task["kind"] in FIELDS) == (task["file"] is not None)
    assert (task["kind"] == "emotion") == (meta["answer"] is not None)
    if task["kind"] == "continuations":
        assert task["label"]
        assert len(set(task["marked"])) == len(task["marked"]) > 0


@pytest.mark.parametrize("name", INDEX)
def test_pairs_follow_the_schema(name: str) -> None:
    for pair in pairs(name):
        assert set(pair) == {"id", "split", "topic", "positive", "negative"}
        assert pair["split"] in FEWEST_PAIRS
        for field, text in pair.items():
            assert isinstance(text, str), field
            assert text == text.strip() != "", (pair["id"], field)
            assert "  " not in text, (pair["id"], field)
    ids = [pair["id"] for pair in pairs(name)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", INDEX)
def test_there_are_enough_pairs(name: str) -> None:
    count = Counter(pair["split"] for pair in pairs(name))
    assert all(count[split] >= fewest for split, fewest in FEWEST_PAIRS.items()), count
    assert count.total() >= 160


@pytest.mark.parametrize("name", INDEX)
def test_all_texts_of_a_pack_differ(name: str) -> None:
    texts = Counter(pair[side].casefold() for pair in pairs(name) for side in SIDES)
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize("name", OTHERS)
def test_splits_share_no_topic(name: str) -> None:
    splits: dict[str, set[str]] = {}
    for pair in pairs(name):
        splits.setdefault(pair["topic"], set()).add(pair["split"])
    assert [topic for topic, found in splits.items() if len(found) > 1] == []


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize("measure", [len, lambda text: len(text.split())])
def test_length_does_not_tell_the_sides_apart(name: str, measure) -> None:
    ratios = [
        measure(pair["positive"]) / measure(pair["negative"]) for pair in pairs(name)
    ]
    assert 0.8 <= mean(ratios) <= 1.25


@pytest.mark.parametrize("name", OTHERS)
def test_final_mark_does_not_tell_the_sides_apart(name: str) -> None:
    for pair in pairs(name):
        assert mark(pair["positive"]) == mark(pair["negative"]), pair["id"]


@pytest.mark.parametrize("name", WITH_ITEMS)
def test_items_follow_the_schema(name: str) -> None:
    kind = INDEX[name]["task"]["kind"]
    count = Counter(item["split"] for item in items(name))
    for split, fewest in FEWEST_ITEMS[kind].items():
        assert count[split] >= fewest
    for item in items(name):
        assert set(item) == FIELDS[kind]
        assert item["split"] in FEWEST_PAIRS
        assert item["prompt"] == item["prompt"].strip() != ""
    for field in ("id", "prompt"):
        values = [item[field].casefold() for item in items(name)]
        assert len(set(values)) == len(values), field


@pytest.mark.parametrize("name", WITH_ITEMS)
def test_items_and_pairs_share_no_text(name: str) -> None:
    lower = [pair[side].casefold() for pair in pairs(name) for side in SIDES]
    for item in items(name):
        question = item["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
        assert not any(question.casefold() in text for text in lower), item["id"]


def test_choices_are_well_formed() -> None:
    for item in items("honesty"):
        assert item["prompt"].startswith("Question: ")
        assert item["prompt"].endswith("?\nAnswer:")
        assert len(item["choices"]) == len(set(item["choices"])) == 4
        for choice in item["choices"]:
            assert choice.startswith(" ")
            assert choice[1:] == choice.strip() != ""


@pytest.mark.parametrize("split", ["validate", "test"])
def test_every_position_is_right_equally_often(split: str) -> None:
    rights = Counter(
        item["answer"] for item in items("honesty") if item["split"] == split
    )
    assert set(rights) == {0, 1, 2, 3}
    assert max(rights.values()) - min(rights.values()) <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_readme_describes_the_pack(name: str) -> None:
    assert f"**{name}.**" in (FOLDER / "README.md").read_text(encoding="utf-8")
