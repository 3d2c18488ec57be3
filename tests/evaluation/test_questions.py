"""Capability questions: every layout they are published in."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from contrans.evaluation.prompts import to_question
from contrans.evaluation.tasks.questions import question_task, read_questions

NEXT_DOOR = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("CONTRANS_DATA", NEXT_DOOR)) / "capability"
HERE = DATA.is_dir()
SIX = {"question": "2 + 2?", "choices": ["3", "4", "5"], "answer": 1}


@pytest.mark.parametrize(
    "row",
    [
        SIX,
        SIX | {"answer": "4"},
        SIX | {"answer": "B"},
        {"question": "2 + 2?", "answerKey": "B"}
        | {"choices": {"text": ["3", "4", "5"], "label": ["A", "B", "C"]}},
        {"question_stem": "2 + 2?", "answerKey": "2"}
        | {"choices": [{"text": t, "label": str(i + 1)} for i, t in enumerate("345")]},
        {"question": "2 + 2?", "answerKey": 2}
        | {"choices": {"text": ["3", "4", "5"], "label": [1, 2, 3]}},
        {"question": "2 + 2?", "A": "3", "B": "4", "C": "5", "answer": "B"},
        {"question": "2 + 2?", "choice0": "3", "choice1": "4", "choice2": "5"}
        | {"answer": "1"},
        {
            "instruction": "Please choose the correct answer to the question: 2 + 2?"
            "\n\nAnswer1: 3 Answer2: 4 Answer3: 5\n\nAnswer format: answer1/answer2",
            "answer": "answer2",
        },
    ],
)
def test_layouts_say_the_same(row):
    found = to_question("here", row)
    assert (found.text, found.options, found.answer) == ("2 + 2?", ("3", "4", "5"), 1)


def test_layouts_of_two_options():
    boolq = {"passage": "Salt.", "question": "is it salt", "answer": True}
    found = to_question("here", boolq)
    assert (found.options, found.answer) == (("no", "yes"), 1)
    assert found.text == "Salt.\nQuestion: is it salt?"
    piqa = {"goal": "open it", "sol1": "pull", "sol2": "push", "label": 0}
    assert to_question("here", piqa).answer == 0
    blank = {"sentence": "_ won.", "option1": "Ann", "option2": "Bo", "answer": "2"}
    assert to_question("here", blank).options == ("Ann", "Bo")
    assert to_question("here", blank).answer == 1
    ready = {"prompt": "Q: 1\nA:", "choices": [" x", " y"], "answer": 0}
    task = question_task([to_question("here", ready)])
    assert task.items[0].prompt == "Q: 1\nA:"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"ask": "x"}, r"row 7: no known layout .*fields: ask"),
        (SIX | {"answer": 3}, "the answer 3 is none of the 3 options"),
        (SIX | {"answer": "D"}, "the answer 'D' is none"),
        (SIX | {"choices": ["4"], "answer": 0}, "two or more"),
        (SIX | {"choices": ["", "4"], "answer": 1}, "none of them empty"),
    ],
)
def test_wrong_rows_are_named(row, said):
    with pytest.raises(ValueError, match=said):
        to_question("row 7", row)


def test_files(tmp_path):
    rows = [SIX, SIX | {"question": "2 + 3?", "answer": 2}]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "q.jsonl").write_text(lines)
    (tmp_path / "q.json").write_text(json.dumps(rows))
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    table = '"2 + 2?",3,4,5,6,B\n"2 + 3?",3,4,5,6,C\n'
    (tmp_path / "mmlu.csv").write_text(table)
    (tmp_path / "head.csv").write_text("question,A,B,C,D,answer\n" + table)
    for name in ("q.jsonl", "q.json", "q.jsonl.gz", "mmlu.csv", "head.csv"):
        found = read_questions(tmp_path / name)
        assert [q.text for q in found] == ["2 + 2?", "2 + 3?"]
        assert [q.answer for q in found] == [1, 2]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([SIX, SIX]), tmp_path / "q.parquet")
    assert len(read_questions(tmp_path / "q.parquet")) == 2


def test_data_sets_of_the_hub_are_read_by_datasets(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps(SIX) + "\n")
    (folder / "validation.jsonl").write_text(2 * (json.dumps(SIX) + "\n"))
    assert len(read_questions("owner/name")) == 1
    assert len(read_questions("owner/name", split="validation")) == 2


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install \"contrans\[datasets\]\""):
        read_questions("owner/name")
    with pytest.raises(FileNotFoundError, match="no hub id either"):
        read_questions("nothing-like-that")


def test_tasks_are_made_of_questions():
    asked = [to_question("", SIX | {"question": f"{i}?"}) for i in range(10)]
    task = question_task(asked, limit=3)
    assert [item.prompt for item in task.items] == [
        f"Question: {i}?\nAnswer:" for i in range(3)
    ]
    assert task.items[0].choices == (" 3", " 4", " 5")
    drawn = [question_task(asked, limit=3, seed=s).texts for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    letters = question_task(asked, style="letters").items[0]
    assert letters.prompt == "Question: 0?\nA. 3\nB. 4\nC. 5\nAnswer:"
    assert letters.choices == (" A", " B", " C")
    shots = question_task(asked, shots=2, limit=1).items[0]
    assert shots.prompt == (
        "Question: 0?\nAnswer: 4\n\nQuestion: 1?\nAnswer: 4\n\nQuestion: 2?\nAnswer:"
    )
    with pytest.raises(ValueError, match="leave nothing to ask"):
        question_task(asked, shots=10)


@pytest.mark.skipif(not HERE, reason="needs the data folder (CONTRANS_DATA)")
@pytest.mark.parametrize(
    ("file", "rows", "options"),
    [
        ("ARC-Challenge/test.json", 1172, (3, 5)),
        ("ARC-Easy/test.json", 2376, (3, 5)),
        ("boolq/test.json", 3270, (2, 2)),
        ("openbookqa/test.json", 500, (4, 4)),
        ("piqa/test.json", 1838, (2, 2)),
        ("winogrande/test.json", 1267, (2, 2)),
        ("mmlu/test/anatomy_test.csv", 135, (4, 4)),
    ],
)
def test_real_files(file, rows, options):
    found = read_questions(DATA / file)
    counts = {len(question.options) for question in found}
    assert len(found) == rows
    assert (min(counts), max(counts)) == options
    texts = [text for q in found for text in (q.text, *q.options)]
    assert all(text.strip() and "Answer format" not in text for text in texts)


@pytest.mark.skipif(not HERE, reason="needs the data folder (CONTRANS_DATA)")
def test_real_boolq_counts():
    right = [q.options[q.answer] for q in read_questions(DATA / "boolq/test.json")]
    assert (right.count("true"), right.count("false")) == (2033, 1237)
