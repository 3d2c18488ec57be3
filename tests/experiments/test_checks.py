"""Checks: reading a suite, judging numbers, reports for machines and people."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from contrans.core.artifacts import save
from contrans.core.cache import Cache
from contrans.core.types import ConceptVector
from contrans.core.verdicts import Report
from contrans.data import load_concept
from contrans.evaluation import EmotionTask, Measurement, make_task
from contrans.evaluation.measure import Measurements, check_finite
from contrans.experiments.checks.baseline import (
    check_place,
    read_baseline,
    write_baseline,
)
from contrans.experiments.checks.judging import (
    Place,
    judge_baseline,
    judge_bound,
    judge_controls,
)
from contrans.experiments.checks.resolve import find, find_file, get_task
from contrans.experiments.checks.running import leaks, plan, run_suite
from contrans.experiments.checks.suite import Bound, Controls
from contrans.experiments.checks.suite_file import SuiteError, parse_suite
from contrans.export.open_vector import find_vector, read_vector
from contrans.models.edits import NoControl
from contrans.report import checks as pages

GOOD = """
name: mine
models: {m: zoo/large}
vectors:
  v: {model: m, refine: anger, strength: 0.4, unit: relative, layers: 4}
tasks:
  t: {concept: anger}
  text: {perplexity: builtin}
checks:
  - {vector: v, task: t, effect: {min: 0.3}, controls: {draws: 2}}
  - vector: [v]
    task: text
    ratio: {max: 1.2}
  - {model: m, task: [t], score: {max: 0.5}}
"""
LAUGHS = "a0: &a0 [ha]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)
)
PLACE = Place("m", "v", "t", sign=1.0, confidence=0.95)


def measured(values, items="same", **fields) -> Measurement:
    values = np.array(values, dtype=float)
    return Measurement(values, metric="accuracy", items=items, **fields)


def texts_of(losses, **fields) -> Measurement:
    return Measurement(np.zeros(0), metric="perplexity", losses=losses, **fields)


def answers(rate: float, n: int = 100, seed: int = 0) -> Measurement:
    drawn = np.random.default_rng(seed).random(n) < rate
    return measured(drawn, items=f"prompts {seed}")


def test_a_suite_is_read_and_planned_once_each():
    suite = parse_suite(GOOD)
    assert suite.models["m"].name == "zoo/large"
    assert suite.checks[1].vector == ["v"]
    jobs = plan(suite)
    assert len(jobs) == len(set(jobs)) == 6  # t: base, v, two draws; text: base, v
    assert ("m", ("v", 1), "t") in jobs


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: mine", "nmae: mine", r"line 2, nmae: .*did you mean 'name'"),
        (
            "strength: 0.4",
            "strenght: 0.4",
            r"line 5, vectors\.v\.strenght: .*'strength'",
        ),
        (
            "strength: 0.4",
            "strength: high",
            r"line 5, vectors\.v\.strength: 'high' will",
        ),
        (
            "strength: 0.4, ",
            "",
            r"line 5, vectors\.v: unit 'relative' needs a strength",
        ),
        ("model: m, refine", "model: n, refine", r"line 5, vectors\.v\.model: unknown"),
        ("refine: anger", "refine: anger, file: x", "refine are both given|and refine"),
        ("{concept: anger}", "{concept: anger, shots: 2}", "shots is for questions"),
        ("{concept: anger}", "{}", r"line 7, tasks\.t: a task needs one of"),
        ("min: 0.3", "mni: 0.3", r"line 10, checks\[0\]\.effect\.mni: .*'min'"),
        ("{min: 0.3}", "{min: 1, max: 0}", r"checks\[0\]\.effect: min 1\.0 is above"),
        ("draws: 2", "draws: 0", r"line 10, checks\[0\]\.controls\.draws: 0 will not"),
        ("vector: [v]", "vector: [w]", r"line 11, checks\[1\]\.vector: unknown vector"),
        (
            "task: text",
            "task: txet",
            r"line 12, checks\[1\]\.task: .*did you mean 'text'",
        ),
        ("ratio: {max: 1.2}", "effect: {max: 1}", r"line 13.*'text' is a text"),
        ("task: text", "task: t", r"line 13, checks\[1\]\.ratio: 't' is no text"),
        ("score: {max: 0.5}", "effect: {max: 0.5}", "needs a vector"),
        (
            "  - vector: [v]\n    task: text\n    ratio: {max: 1.2}\n",
            "  - task: t\n",
            "needs one of vector, model",
        ),
        ("tasks:\n", "tasks:\n  t: {concept: fear}\n", "line 8, tasks.t: .* twice"),
        ("name: mine", "name: [mine", "not YAML"),
        ("name: mine", "name: 2024-13-45", "line 2: cannot be read .*in quotes"),
        ("name: mine", "name: &a [*a]", "something in it holds itself"),
        (GOOD, "[" * 99999, "nested too deeply"),
        (GOOD, LAUGHS, "once its aliases"),
        (GOOD, "- a\n" * 60_000, "more than 50,000 values"),
        (GOOD, "#" * 1_000_001, "at most 1,000,000"),
        ("draws: 2", "draws: 100000000", "less than or equal to 1000"),
        ("name: mine", f"seed: {10**40}", "less than"),
        (GOOD, "", "the file is empty"),
        (GOOD, "- 1", "the file is a list"),
        ("models: {m: zoo/large}", "", "models: this field is missing"),
        ("min: 0.3", "min: .nan", r"line 10.*effect\.min: nan will.*finite number"),
        ("max: 1.2", "max: .inf", r"line 13.*ratio\.max: inf will not do"),
        (
            "builtin}",
            "builtin, better: higher}",
            "line 8, .*better is not for perplexi",
        ),
    ],
)
def test_mistakes_are_told_with_line_and_field(old, new, said):
    assert old in GOOD
    with pytest.raises(SuiteError, match=said) as caught:
        parse_suite(GOOD.replace(old, new), "s.yaml")
    assert str(caught.value).startswith("s.yaml")
    assert "pydantic" not in str(caught.value)


def test_the_interval_decides():
    base, now = answers(0.2), answers(0.7, seed=0)
    now = replace(now, items=base.items)

    def status(**bound):
        cases = judge_bound(PLACE, "effect", Bound(**bound), now, base)
        return [case.status for case in cases]

    assert status(min=0.2) == ["pass"]
    assert status(min=0.8) == ["fail"]
    assert status(min=0.5) == ["undecided"]
    assert status(max=0.2) == ["fail"]
    assert status(min=0.2, max=0.9) == ["pass", "pass"]
    lower = replace(PLACE, sign=-1.0)
    (case,) = judge_bound(lower, "effect", Bound(max=-0.2), now, base)
    assert case.status == "pass"
    assert case.value == pytest.approx(-np.mean(now.values) + np.mean(base.values))
    (case,) = judge_bound(PLACE, "score", Bound(min=0.9), now, None)
    assert (case.status, case.low <= 0.7 <= case.high) == ("fail", True)


def test_a_side_effect_bound_of_an_untouched_task_passes_with_enough_items():
    few, many = answers(0.5, 20), answers(0.5, 400)
    for same, status in ((few, "undecided"), (many, "pass")):
        (case,) = judge_bound(PLACE, "effect", Bound(min=-0.05), same, same)
        assert case.status == status


def test_ratios_of_perplexity():
    units = np.random.default_rng(0).integers(5, 50, 50)
    base = texts_of(tuple((2.0 * u, float(u)) for u in units))
    now = texts_of(tuple((2.1 * u, float(u)) for u in units))
    (case,) = judge_bound(PLACE, "ratio", Bound(max=1.2), now, base)
    assert case.status == "pass"
    assert case.value == pytest.approx(np.exp(0.1))
    (case,) = judge_bound(PLACE, "ratio", Bound(max=1.05), now, base)
    assert case.status == "fail"
    (case,) = judge_bound(PLACE, "score", Bound(max=8), now, base)
    assert case.value == pytest.approx(np.exp(2.1))
    assert case.status == "fail"


def test_every_random_draw_must_be_beaten():
    base, weak, strong = answers(0.0), answers(0.05), answers(0.6)
    vector = answers(0.9)
    asked = Controls(draws=2, margin=0.3, max=0.3)
    for draws, expected in (
        ([weak, weak], ["pass", "pass"]),
        ([weak, vector], ["fail", "fail"]),
        ([weak, strong], ["undecided", "fail"]),
    ):
        cases = judge_controls(PLACE, asked, vector, base, draws)
        assert [case.status for case in cases] == expected


def test_a_regression_is_caught_and_the_same_again_is_none():
    good, bad = answers(0.8), measured(answers(0.4).values, items="prompts 0")
    places = [(PLACE, False)] * 3
    cases = judge_baseline(places, [good, bad, good], [good] * 3, tolerance=0.0)
    assert [case.status for case in cases] == ["pass", "fail", "pass"]
    (case,) = judge_baseline(places[:1], [bad], [good], tolerance=0.6)
    assert case.status == "pass"
    lower = replace(PLACE, sign=-1.0)
    (case,) = judge_baseline([(lower, False)], [bad], [good], tolerance=0.0)
    assert case.status == "pass"
    (case,) = judge_baseline([(lower, True)], [bad], [good], tolerance=0.0)
    assert case.status == "fail"  # neither way is better


@pytest.mark.parametrize(("tasks", "confidence"), [(1, 0.95), (150, 0.95), (3, 0.999)])
def test_a_clear_regression_fails_however_many_tasks_there_are(tasks, confidence):
    good, bad = measured(np.ones(126)), measured(np.zeros(126))
    texts = tuple((40.0 + i, 20.0) for i in range(30))
    worse = tuple((loss + 20 + i % 3, n) for i, (loss, n) in enumerate(texts))
    place = replace(PLACE, confidence=confidence)
    now = [bad, texts_of(worse), *[good] * (tasks - 1)]
    then = [good, texts_of(texts), *[good] * (tasks - 1)]
    cases = judge_baseline([(place, False)] * len(now), now, then, tolerance=0.0)
    assert [case.status for case in cases] == ["fail"] * 2 + ["pass"] * (tasks - 1)


def test_two_items_are_never_sure_in_a_large_suite():
    good = measured([0.4, 0.6])
    bad = measured([0.3, 0.5])  # the change has no spread at all
    now, then = [bad, *[good] * 149], [good] * 150
    cases = judge_baseline([(PLACE, False)] * 150, now, then, tolerance=0.0)
    assert {case.status for case in cases} == {"pass"}


def test_few_items_are_as_uncertain_where_less_is_better():
    """One of twenty changed: widened for small samples, whichever way is better."""
    then, now = measured([0] * 19 + [1]), measured([0] * 20)
    lower = replace(PLACE, sign=-1.0)
    for old, other in ((then, now), (replace(then, items="other"), now)):
        up, down = (
            judge_baseline([(place, False)], [a], [b], tolerance=0.0)[0]
            for place, a, b in ((lower, other, old), (PLACE, old, other))
        )
        assert (up.low, up.high) == (down.low, down.high)
        assert (up.value, up.low < 0) == (pytest.approx(0.05), True)
    ends = [
        (case.low, case.high)
        for place, a, b in ((lower, now, then), (PLACE, then, now))
        for case in judge_bound(place, "effect", Bound(min=0), a, b)
        + judge_controls(place, Controls(), a, b, [b])
    ]
    assert len(ends) == 4
    assert len(set(ends)) == 1


def test_what_differs_is_not_compared_and_the_reason_is_told():
    good, bad = measured(np.ones(30)), measured(np.zeros(30))
    text = texts_of(((8.0, 4.0),) * 9, tokenizer="a", items="texts")
    for now, then, said in (
        (replace(bad, metric="positive preferred"), good, "holds accuracy, not positi"),
        (text, good, "holds accuracy, not perplexity"),
        (text, replace(text, items="others"), "on other texts"),
        (text, replace(text, losses=text.losses[:8]), "on other texts"),
        (text, replace(text, tokenizer="b"), "another tokenizer"),
        (good, None, "not in the baseline"),
        (good, replace(good, values=good.values[:9]), "holds 9 of 30 scores"),
    ):
        (case,) = judge_baseline([(PLACE, False)], [now], [then], tolerance=0.0)
        assert (case.status, case.value) == ("fail", None)
        assert said in case.said


def test_noise_fails_no_build():
    """Other prompts of the same truth: a suite of eight fails in at most 5% of runs."""
    places, failed = [(PLACE, False)] * 8, 0
    for run in range(60):
        now = [answers(0.7, 60, seed=1000 + 16 * run + i) for i in range(8)]
        then = [answers(0.7, 60, seed=1008 + 16 * run + i) for i in range(8)]
        cases = judge_baseline(places, now, then, tolerance=0.0)
        failed += any(case.status == "fail" for case in cases)
    assert failed / 60 <= 0.025 + 3 * np.sqrt(0.025 / 60)


def test_rounding_on_another_machine_is_no_regression():
    losses = tuple((40.0 + i, 20.0) for i in range(50))
    moved = tuple((loss * (1 + 1e-6), n) for loss, n in losses)
    then, now = (texts_of(x, tokenizer="a") for x in (losses, moved))
    (case,) = judge_baseline([(PLACE, False)], [now], [then], tolerance=0.0)
    assert case.status == "pass"
    other = replace(then, tokenizer="b")
    (case,) = judge_baseline([(PLACE, False)], [now], [other], tolerance=0.0)
    assert (case.status, case.n) == ("fail", 0)
    (case,) = judge_baseline([(PLACE, False)], [now], [None], tolerance=0.0)
    assert "--update-baseline" in case.said


def test_perplexities_of_different_tokenizers_are_compared_by_the_byte():
    from contrans.experiments.ab import _units

    one, two = (
        texts_of(((8.0, count),), tokenizer=name)
        for count, name in ((4.0, "a"), (2.0, "b"))
    )
    assert _units(one, two, [16]) == [[(8.0, 16.0)], [(8.0, 16.0)]]
    assert _units(one, one, [16]) == [[(8.0, 4.0)]] * 2


def test_baselines_come_back_as_they_were(tmp_path):
    found = {
        ("m", "v", "t"): answers(0.3),
        ("m", None, "text"): texts_of(((1 / 3, 4.0),), tokenizer="tok", items="x"),
    }
    write_baseline(tmp_path / "b.json", "mine", found)
    again = read_baseline(tmp_path / "b.json")
    assert {k: m.as_json() for k, m in again.items()} == {
        k: m.as_json() for k, m in found.items()
    }
    assert len((tmp_path / "b.json").read_text().splitlines()) == 4
    with pytest.raises(FileNotFoundError, match="--update-baseline"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match="is no baseline"):
        read_baseline(tmp_path / "b.json")


def test_only_a_baseline_is_written_over(tmp_path):
    suite, before = tmp_path / "suite.yaml", GOOD.encode()
    suite.write_bytes(before)
    for path in (suite, tmp_path):
        with pytest.raises(FileExistsError, match=r"is no baseline .* not overwritten"):
            run_suite(parse_suite(GOOD), baseline=path, update_baseline=True)
    assert suite.read_bytes() == before
    write_baseline(tmp_path / "b.json", "mine", {("m", "v", "t"): answers(0.3)})
    check_place(tmp_path / "b.json")
    check_place(tmp_path / "new.json")


def test_a_baseline_holds_no_nan(tmp_path):
    broken = texts_of(((float("nan"), 4.0), (1.0, 4.0)))
    with pytest.raises(ValueError, match="text under v in m: 1 of 2 numbers are NaN"):
        write_baseline(tmp_path / "b.json", "mine", {("m", "v", "text"): broken})
    assert not (tmp_path / "b.json").exists()
    write_baseline(tmp_path / "b.json", "mine", {("m", "v", "t"): answers(0.3)})
    text = (tmp_path / "b.json").read_text()
    (tmp_path / "b.json").write_text(
        text.replace("[0.0", "[NaN").replace("[1.0", "[NaN")
    )
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_baseline(tmp_path / "b.json")


def test_nan_says_the_same_from_the_cache(tmp_path, monkeypatch, gpt2):
    found = Measurement(np.array([1.0, np.nan, np.inf]))
    task = make_task(load_concept("anger"), "test", limit=3)
    monkeypatch.setattr(EmotionTask, "measure_under", lambda *_: [found])
    for counts in ((1, 0), (0, 1)):
        fresh = Measurements(Cache(tmp_path))
        got = fresh.get(gpt2, task, NoControl())
        assert (fresh.measured, fresh.cached) == counts
        with pytest.raises(ValueError, match="anger: 2 of 3 numbers are NaN"):
            check_finite(got, "anger")


def test_a_folder_of_the_name_does_not_hide_a_concept(tmp_path):
    (tmp_path / "anger").mkdir()
    for task in parse_suite(GOOD).tasks.values():
        assert get_task("t", task, tmp_path).name == "t"
    (tmp_path / "mine.jsonl").touch()
    assert find_file("mine.jsonl", tmp_path) == str(tmp_path / "mine.jsonl")
    assert find_file("anger", tmp_path) == "anger"
    assert find("anger", tmp_path) == str(tmp_path / "anger")


def test_vectors_of_other_tools_are_read(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    from contrans.export.gguf.control_vector import write_control_vector
    from contrans.export.neighbours import write_steering_vectors

    made = ConceptVector(
        torch.ones(1, 4),
        layers=(2,),
        model="m",
        concept="c",
        provenance={"strength": 3},
    )
    save(made, tmp_path / "v.safetensors")
    write_control_vector(made, tmp_path / "v.gguf")
    write_steering_vectors(made, tmp_path / "v.pt")
    for name, strength in (("v.safetensors", 3), ("v.gguf", 1), ("v.pt", 1)):
        found = find_vector(str(tmp_path / name))
        assert found.layers == (2,)
        assert found.provenance.get("strength", 1) == strength
        assert read_vector(tmp_path / name)[1] == strength
    monkeypatch.setenv("CONTRANS_LIBRARY", str(tmp_path / "library"))
    with pytest.raises(KeyError, match="neither a file, nor a folder"):
        find_vector("nothing")


def report(undecided="warn") -> Report:
    base, now = answers(0.2), answers(0.7)
    cases = [
        judge_bound(PLACE, "effect", Bound(min=limit), now, base)[0]
        for limit in (0.2, 0.5, 0.8)
    ]
    odd = replace(cases[0], vector="a|b<&\x07", said="1 < 2 & 3")
    return Report("mine", (*cases, odd), undecided, 0.95, ("a note",), 3, 2, 1.5)


@pytest.mark.parametrize(
    ("undecided", "failures", "skipped", "ok"),
    [("warn", 1, 1, False), ("fail", 2, 0, False), ("pass", 1, 0, False)],
)
def test_junit_is_what_readers_expect(undecided, failures, skipped, ok):
    found = report(undecided)
    root = ElementTree.fromstring(pages.to_junit(found))
    assert root.tag == "testsuites"
    assert [part.tag for part in root] == ["testsuite"] * 2
    cases = list(root.iter("testcase"))
    assert root.get("tests") == str(len(cases)) == "4"
    assert root.get("failures") == str(len(list(root.iter("failure")))) == str(failures)
    assert root.get("skipped") == str(len(list(root.iter("skipped")))) == str(skipped)
    for part in root:
        assert part.get("tests") == str(len(part.findall("testcase")))
        assert float(part.get("time", "")) >= 0
        assert next(child.tag for child in part) == "properties"
    for case in cases:
        assert case.get("name")
        assert case.get("classname", "").startswith("mine.m")
        assert len(case) == 1
    said = [failure.get("message", "") for failure in root.iter("failure")]
    assert any(message.startswith("effect at least 0.8") for message in said)
    assert found.ok is ok


def test_a_suite_without_failures_passes_whatever_is_undecided():
    kept = replace(report(), cases=report().cases[:2])
    assert kept.ok
    assert not replace(kept, undecided="fail").ok
    assert "passed" in pages.verdict(kept)


def test_markdown_puts_failures_first_and_fits():
    text = pages.to_markdown(report())
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    marks = [line.split(" | ")[0].strip("| ") for line in lines]
    assert marks[1:] == ["**FAIL**", "undecided", "pass", "pass"]
    assert "a\\|b" in text
    assert all(line.replace("\\|", "").count("|") == 9 for line in lines)
    case = report().cases[0]
    long = replace(
        report(), cases=tuple(replace(case, said="x" * 500) for _ in range(3000))
    )
    text = pages.to_markdown(long)
    assert len(text.encode()) < 1 << 20
    assert "more cases are left out" in text


def test_json_holds_everything():
    found = json.loads(pages.to_json(report()))
    assert found["ok"] is False
    assert [case["status"] for case in found["cases"][:3]] == [
        "pass",
        "undecided",
        "fail",
    ]


def test_the_examples_are_valid():
    root = Path(__file__).parents[2] / "examples"
    from contrans.evaluation.tasks.questions import read_questions
    from contrans.experiments.checks.suite_file import read_suite

    assert read_suite(root / "zoo-suite.yaml").name == "zoo"
    assert len(read_questions(root / "zoo-questions.jsonl")) == 60
    import yaml

    steps = yaml.safe_load((root / "github-action.yml").read_text())["jobs"]["check"]
    ran = " ".join(step.get("run", "") for step in steps["steps"])
    assert "contrans check" in ran
    assert "--junit checks.xml" in ran


def test_a_task_on_what_refines_a_vector_is_told(tmp_path):
    words = ["storm", "feast", "grave", "gift", "wolf", "prize"]
    splits = ["refine", "refine", "validate", "validate", "test", "test"]

    def pairs(name: str, shift: int) -> None:
        rows = [
            {
                "positive": f"{word} one two three four five",
                "negative": f"five four three two one {word}",
                "split": split,
            }
            for word, split in zip(words[shift:] + words[:shift], splits, strict=True)
        ]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))

    pairs("a.jsonl", 0)
    pairs("b.jsonl", 4)  # its refine pairs are the test pairs of the other
    text = GOOD.replace("refine: anger", "refine: b.jsonl")
    for concept, found in (("a.jsonl", 4), ("b.jsonl", 0)):
        suite = parse_suite(text.replace("concept: anger", f"concept: {concept}"))
        tasks = {"t": get_task("t", suite.tasks["t"], tmp_path)}
        notes = leaks(suite, tasks, tmp_path)
        told = (
            f"t: {found} of 4 texts of t share 6 or more words in a row with the pairs"
        )
        assert [note.startswith(told) for note in notes] == [True] * bool(found)
