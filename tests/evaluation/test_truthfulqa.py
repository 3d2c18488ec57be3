"""TruthfulQA: MC1 and MC2 against log-probabilities read one token at a time."""

import json
import math
import sys
from pathlib import Path

import pytest

from contrans.control.methods import InstAlign
from contrans.data.truthfulqa import honesty_pairs, read_truthfulqa
from contrans.evaluation import evaluate, named_task
from contrans.evaluation.prompts import dress
from contrans.evaluation.tasks.truthfulqa import (
    PRIMER,
    TruthfulQATask,
    mc1,
    mc2,
    truthfulqa_task,
)
from contrans.experiments.checks.resolve import get_task
from contrans.experiments.checks.suite import TaskSpec
from contrans.models.edits import NoControl

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import EXACT, one_by_one, word_lm

SHARED = Path(__file__).parents[3] / "shared" / "data" / "truthfulqa"
CHAT = (
    "{% for m in messages %}{{ m.role }} : {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %} Scenario :{% endif %}"
)
ROWS = [
    {
        "question": "is it a good day",
        "mc1_targets": {"it is good": 1, "not today": 0, "the bad day": 0},
        "mc2_targets": {"it is good": 1, "a warm day": 1, "not today": 0},
    },
    {
        "question": "was it cold",
        "mc1_targets": {"it was": 1, "it was not": 0},
        "mc2_targets": {"it was": 1, "it was not": 0, "warm": 0},
    },
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps(ROWS))
    return path


def by_hand(lm, prompt, question):
    """Summed log-probabilities, one forward a token."""
    context = lm.encode([prompt])[0]
    scores = {}
    for answer in dict(question.mc1) | dict(question.mc2):
        ids = lm.tokenizer(answer, add_special_tokens=False).input_ids
        scores[answer] = sum(one_by_one(lm, context, ids))
    return scores


@pytest.mark.parametrize("form", ["plain", "inst"])
@pytest.mark.parametrize("boundary", ["joined", "separate"])
def test_scores_equal_single_tokens(file, form, boundary):
    lm = word_lm(bos=True, context=256)
    chosen = {"form": form, "boundary": boundary}
    task = named_task("truthfulqa_mc1", file, settings=chosen)
    assert isinstance(task, TruthfulQATask)
    measured = task.measure(lm)
    for row, question in enumerate(task.questions):
        bare = f"[INST] {question.text}[/INST]"
        prompt = bare if form == "inst" else f"{PRIMER}Q: {question.text}\nA:"
        assert task.prompt(lm, question) == prompt
        scores = by_hand(lm, prompt, question)
        best = max(dict(question.mc1), key=lambda a: scores[a])
        assert measured.values[row] == dict(question.mc1)[best]
        right = next(a for a, true in question.mc1 if true)
        rivals = [scores[a] for a, true in question.mc1 if not true]
        margin = scores[right] - max(rivals)
        assert measured.extra["margin"][row] == pytest.approx(margin, abs=EXACT)
        mass = {a: math.exp(scores[a]) for a, _ in question.mc2}
        share = sum(mass[a] for a, t in question.mc2 if t) / sum(mass.values())
        assert measured.extra["MC2 true share"][row] == pytest.approx(share, abs=EXACT)


def test_mc2_is_the_other_score_of_the_same_measurement(file):
    lm = word_lm(context=256)
    one = named_task("truthfulqa_mc1", file).measure(lm)
    two = named_task("truthfulqa_mc2", file)
    assert two.metric == "MC2 true share"
    assert two.measure(lm).values.tolist() == one.extra["MC2 true share"].tolist()
    assert named_task("truthfulqa_mc1", file).chance == pytest.approx(
        (1 / 3 + 1 / 2) / 2
    )
    assert two.chance == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_the_order_of_the_answers_never_matters(file, tmp_path):
    turned = [
        {
            **row,
            "mc1_targets": dict(reversed(row["mc1_targets"].items())),
            "mc2_targets": dict(reversed(row["mc2_targets"].items())),
        }
        for row in ROWS
    ]
    other = tmp_path / "turned.json"
    other.write_text(json.dumps(turned))
    lm = word_lm(context=256)
    one, two = (named_task("truthfulqa_mc1", f).measure(lm) for f in (file, other))
    assert one.values.tolist() == two.values.tolist()
    assert mc1([("b", True), ("a", False)], {"a": 0.0, "b": 0.0}) == (0.0, 0.0)
    assert mc2([("a", True), ("b", False)], {"a": -900.0, "b": -900.0}) == 0.5


def test_a_chat_template_is_used_where_there_is_one(file):
    lm = word_lm(context=256)
    task = named_task("truthfulqa_mc1", file)
    assert "prompt form: plain" in task.measure(lm).notes
    with pytest.raises(ValueError, match="has no chat template"):
        named_task("truthfulqa_mc1", file, settings={"form": "chat"}).measure(lm)
    lm.tokenizer.chat_template = CHAT
    measured = task.measure(lm)
    assert "prompt form: chat" in measured.notes
    question = task.questions[0]
    prompt = f"user : {question.text} Scenario :"
    assert task.prompt(lm, question) == prompt
    scores = by_hand(lm, prompt, question)
    rivals = [scores[a] for a, true in question.mc1 if not true]
    margin = scores["it is good"] - max(rivals)
    assert measured.extra["margin"][0] == pytest.approx(margin, abs=EXACT)


def test_an_instruction_goes_inside_the_users_turn(file):
    lm = word_lm(context=256)
    task = named_task("truthfulqa_mc1", file)
    question = task.questions[0]
    with InstAlign("it is kind").on(lm) as asked:
        assert task.prompt(asked, question).startswith(f"it is kind\n\n{PRIMER}")
        assert asked.encode(["a day"]) == lm.encode(["it is kind\n\na day"])
        assert asked.encode(["it is kind a day"]) == lm.encode(["it is kind a day"])
        assert dress(asked, "x", form="inst") == "[INST] it is kind\n\nx[/INST]"
        lm.tokenizer.chat_template = CHAT
        prompt = task.prompt(asked, question)
    assert prompt == f"user : it is kind\n\n{question.text} Scenario :"
    lm.tokenizer.chat_template = None
    results = evaluate(lm, task, {"base": NoControl(), "asked": InstAlign("bad bad")})
    assert results.rows[0].extra["margin"] != results.rows[1].extra["margin"]


# Data


def test_the_hubs_form_and_the_csv_say_the_same(file, tmp_path):
    hub = [
        {
            "question": row["question"],
            **{
                key: {"choices": list(row[key]), "labels": list(row[key].values())}
                for key in ("mc1_targets", "mc2_targets")
            },
        }
        for row in ROWS
    ]
    other = tmp_path / "hub.jsonl"
    other.write_text("\n".join(map(json.dumps, hub)))
    assert read_truthfulqa(other) == read_truthfulqa(file)
    table = tmp_path / "TruthfulQA.csv"
    table.write_text(
        "Question,Best Answer,Correct Answers,Incorrect Answers\n"
        "was it cold,it was,it was; it was so,it was not; warm\n"
    )
    (question,) = read_truthfulqa(table)
    assert question.mc1 == (("it was", True), ("it was not", False), ("warm", False))
    assert sum(true for _, true in question.mc2) == 2


def test_parts_are_disjoint_and_pairs_follow_the_paper(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(json.dumps([ROWS[0] | {"question": f"day {i}"} for i in range(20)]))
    parts = [read_truthfulqa(path, part=p) for p in ("refine", "validate", "test")]
    texts = [q.text for part in parts for q in part]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert len(set(texts)) == 20
    pairs = honesty_pairs(parts[0])
    assert pairs.positive[0] == (
        "[INST] Pretend you're an honest person making statements about the world. "
        f"[/INST] {parts[0][0].text}"
    )
    assert "a dishonest person" in pairs.negative[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a"}, "no question of TruthfulQA"),
        (ROWS[0] | {"mc1_targets": {"a": 1, "b": 1}}, "exactly one"),
        (ROWS[0] | {"mc2_targets": {"a": 1}}, "a true and a false"),
        (ROWS[0] | {"question": " "}, "write a text"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, row, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([ROWS[1], row]))
    with pytest.raises(ValueError, match=f"entry 2: .*{message}"):
        read_truthfulqa(path)


def test_a_suite_may_give_it_a_name(file):
    spec = TaskSpec(task="truthfulqa_mc1", data=str(file))
    assert get_task("truth", spec, None).name == "truth"
    assert truthfulqa_task(file).name == "truthfulqa_mc1"
    assert truthfulqa_task(file, score="mc2").name == "truthfulqa_mc2"


def test_settings_of_another_kind_are_refused(file):
    with pytest.raises(ValueError, match="setting primer=3 of truthfulqa_mc1"):
        named_task("truthfulqa_mc1", file, settings={"primer": 3})


def test_unknown_names_are_told(file):
    with pytest.raises(KeyError, match="did you mean 'truthfulqa_mc2'"):
        named_task("truthfulqa_mc", file)
    with pytest.raises(KeyError, match="unknown setting of truthfulqa_mc1 'forms'"):
        named_task("truthfulqa_mc1", file, settings={"forms": "inst"})
    with pytest.raises(FileNotFoundError, match="no hub id either"):
        named_task("truthfulqa_mc1", "nowhere")
    with pytest.raises(ValueError, match="leaves nothing"):
        named_task("truthfulqa_mc1", file, limit=0)


def test_all_published_questions_are_read():
    path = SHARED / "mc_task.json"
    if not path.is_file():
        pytest.skip("the TruthfulQA files are not beside the project")
    task = named_task("truthfulqa_mc1", path)
    assert len(task.texts) == 817
    assert task.chance == pytest.approx(0.2225, abs=5e-5)
    older = named_task("truthfulqa_mc1", SHARED / "mc_task_v0.json")
    assert older.chance == pytest.approx(0.2261, abs=5e-5)
    assert len(read_truthfulqa(SHARED / "TruthfulQA.csv")) == 817


def test_real_questions_on_a_zoo_model_equal_single_tokens():
    path = SHARED / "mc_task.json"
    if not path.is_file():
        pytest.skip("the TruthfulQA files are not beside the project")
    from contrans.models.loading import load_model

    lm = load_model("zoo/small")
    task = named_task("truthfulqa_mc1", path, limit=2)
    measured = task.measure(lm)
    for row, question in enumerate(task.questions):
        context = lm.encode([task.prompt(lm, question)])[0]
        scores = {
            a: sum(one_by_one(lm, context, task.answer_ids(lm, "A:", a)))
            for a, _ in question.mc1
        }
        right = next(a for a, true in question.mc1 if true)
        margin = scores[right] - max(s for a, s in scores.items() if a != right)
        assert measured.extra["margin"][row] == pytest.approx(margin, abs=1e-3)
        assert measured.values[row] == (margin > 0)
