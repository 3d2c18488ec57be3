"""The main job, whole: on strange tiny models, on the zoo, and on the paper's files."""

import json
import os
import random
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import contrans as ct
from contrans.core.artifacts import load
from contrans.core.cache import Cache
from contrans.core.results import DoseInfo, EffectRow
from contrans.core.types import PromptPairs
from contrans.evaluation.dose import doses
from contrans.experiments import cached as stages_module
from contrans.experiments.cached import STRONGEST, Stages
from contrans.experiments.paper.concept_tasks import honesty
from contrans.experiments.paper.effect_table import (
    from_controls,
    from_planted,
    measure_group,
)
from contrans.experiments.paper.plan import Data, Model, Plan, Series, Target
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.search import Budget
from contrans.experiments.transplant import prepare as job_module
from contrans.experiments.transplant.compare import wrecked_controls
from contrans.experiments.transplant.prepare import split_corpus, split_fluent
from contrans.experiments.transplant.samples import opening_prompts
from contrans.experiments.transplant.settings import Settings
from contrans.experiments.transplant.verdict import verdict
from contrans.library.concepts import load_concept
from contrans.models import zoo
from tests.conftest import byte_tokenizer, character_tokenizer, tiny_model
from tests.result_parts import effect_row, fine_score

BUDGET, TIGHT = Budget(1.15, "perplexity"), Budget(1.05, "perplexity")
SHARED = Path(__file__).parents[3] / "shared" / "data"
PAPER = SHARED / "emotions" / "contrans"
WIKI = SHARED / "wiki_split" / "wiki_split_input.txt"
needs_paper = pytest.mark.skipif(
    not (PAPER.is_dir() and WIKI.is_file()),
    reason="the published emotion files and WikiSplit are not beside the project",
)
needs_zoo = pytest.mark.skipif(not zoo.names(), reason="no weights in this checkout")


def keep(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, to: Path) -> str:
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    return str(to)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> dict[str, str]:
    """Two models as a user may bring them: other widths, tokenizers and families."""
    folder = tmp_path_factory.mktemp("models")
    drawn = random.Random(1)
    nouns = ["dog", "house", "rain", "letter", "garden", "teacher", "train", "bread"]
    good = ["lovely", "kind", "bright", "warm"]
    bad = ["awful", "cruel", "dark", "cold"]
    pairs: list[dict[str, str]] = []
    seen: set[tuple[str, ...]] = set()
    while len(pairs) < 30:
        noun, other, place = drawn.sample(nouns, 3)
        frame = f"the {noun} near the {place} and the {other} were"
        runs = {(noun, "near", place), (place, "and", other)}
        if not runs & seen:  # no two pairs share six words: nothing leaks
            seen |= runs
            i = drawn.randrange(4)
            pairs.append(
                {
                    "positive": f"{frame} {good[i]}",
                    "negative": f"{frame} {bad[i]}",
                }
            )
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(p) for p in pairs))
    texts = {
        " ".join(drawn.choices(nouns + good + bad, k=drawn.randint(2, 40)))
        for _ in range(140)
    }
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(sorted(texts)) + "\n12345 67890\n")
    return {
        "source": keep(
            tiny_model("llama", bos_token_id=None), character_tokenizer(), folder / "a"
        ),
        "target": keep(
            tiny_model("gpt2", n_embd=48), byte_tokenizer(pad=False), folder / "b"
        ),
        "pairs": str(path),
        "corpus": str(corpus),
    }


def run(models: dict[str, str], out: Path, cache: Path, **options):
    return ct.run_transplant(
        models["source"],
        models["target"],
        concept=models["pairs"],
        corpus=models["corpus"],
        out=out,
        cache=cache,
        **options,
    )


@pytest.fixture(scope="module")
def whole(strangers, tmp_path_factory) -> tuple[Path, dict, list]:
    """One run with everything chosen: its folder, its results and its progress."""
    folder, events = tmp_path_factory.mktemp("whole"), []
    results = run(
        strangers,
        folder / "out",
        folder / "cache",
        progress=lambda *event: events.append(event),
    )
    return folder, results, events


def test_runs_whole_on_models_with_nothing_in_common(strangers, whole):
    folder, results, events = whole
    out = folder / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {
        "vector.safetensors",
        "report.md",
        "report.html",
        "results.json",
        "contrans.json",
    }
    kinds = [row["kind"] for row in results["rows"]]
    assert kinds == ["base", "method", "method", "reference", "control", "control"]
    assert results["concept"]["task"] == "likelihood"
    assert results["verdict"]
    assert results["corpus"]["truncated"]["target"] > 0
    assert any("lost their beginning" in text for text in results["warnings"])
    assert all(done <= total for _, done, total in events)
    vector = load(out / "vector.safetensors", "concept-vector")
    target = ct.load_model(strangers["target"])
    assert vector.model == target.fingerprint
    assert vector.provenance["strength"] == results["strength"]["raw"]
    with ct.Steer(vector, strength=results["strength"]["raw"]).on(target):
        assert isinstance(target.generate("the dog", max_new_tokens=3), str)
    written = json.loads((out / "results.json").read_text())
    assert written == json.loads(json.dumps(results))


def test_the_dose_that_is_told_is_that_of_the_edit(strangers, whole):
    _, results, _ = whole
    vector = load(whole[0] / "out" / "vector.safetensors", "concept-vector")
    target, raw = ct.load_model(strangers["target"]), results["strength"]["raw"]
    _, fluent = split_corpus(ct.data.load_corpus(strangers["corpus"]))
    choosing, judging = split_fluent(fluent)
    told = (results["strength"]["dose"], results["rows"][1]["dose"])
    for texts, dose in zip((choosing, judging), told, strict=True):
        [found] = doses(target, texts, [ct.Steer(vector, strength=raw)])
        assert dose == pytest.approx(asdict(found), rel=1e-5, abs=1e-12)
    assert vector.provenance["dose"] == results["strength"]["dose"]
    assert results["rows"][0]["dose"] is None
    assert all(row["dose"]["kl"] > 0 for row in results["rows"][1:])
    assert results["strength"]["budget_unit"] == "nats"
    for point in results["layers"]["tried"]:
        assert point["dose"]["kl"] <= results["strength"]["budget"]
        assert point["perplexity"] is None


def test_the_reported_perplexity_is_of_texts_that_chose_nothing(strangers, whole):
    _, results, _ = whole
    _, fluent = split_corpus(ct.data.load_corpus(strangers["corpus"]))
    choosing, judging = split_fluent(fluent)
    assert set(choosing).isdisjoint(judging)
    assert results["perplexity_texts"] == {
        "validate": len(choosing),
        "test": len(judging),
        "shared": False,
    }
    target = ct.load_model(strangers["target"])
    expected = ct.evaluation.perplexity(target, judging).value
    assert results["rows"][0]["perplexity"]["value"] == pytest.approx(expected)
    report = (whole[0] / "out" / "report.md").read_text()
    assert f"perplexity on {len(judging)} texts; {len(choosing)} others" in report


def test_a_corpus_that_holds_test_texts_is_told(strangers, tmp_path, monkeypatch):
    concept = load_concept(strangers["pairs"])
    lines = Path(strangers["corpus"]).read_text().splitlines()
    lines.insert(1, f"they say that {concept.test.positive[0]} all day")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(lines))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job_module, "_source_side", stop)
    stages = Stages(Cache(tmp_path / "cache"))
    models = {k: strangers[k] for k in ("source", "target")}
    for place, told in (
        (strangers["corpus"], []),
        (str(corpus), ["1 of 12 test texts"]),
    ):
        settings = Settings(**models, concept=strangers["pairs"], corpus=place)
        with pytest.raises(KeyboardInterrupt):
            job_module.prepare(settings, stages)
        assert [w[:18] for w in stages.warnings] == told


def test_few_texts_for_perplexity_are_not_parted():
    assert split_fluent("abcd") == (list("abcd"), list("abcd"))
    assert split_fluent("abcde") == (list("ad"), list("bce"))


def test_no_prompt_is_shown_twice():
    pack = ct.data.load_concept("politeness")
    task = ct.evaluation.make_task(pack, "test")
    frame = PromptPairs(
        ("one two a b", "one two c d", *pack.test.positive),
        ("one two e f", "one two g h", *pack.test.negative),
    )
    repeated = replace(pack, test=frame)
    shown = opening_prompts(repeated, task, 5)
    assert len(set(shown)) == len(shown) == 5
    assert shown[0] == "one two"


def test_a_second_run_does_no_work(strangers, whole, monkeypatch):
    folder, first, _ = whole

    def refuse(*_args, **_options):
        raise AssertionError("work was done twice")

    monkeypatch.setattr(job_module, "load_model", refuse)
    again = run(strangers, folder / "out", folder / "cache")
    assert again == json.loads(json.dumps(first))


def test_an_interrupted_run_goes_on(strangers, tmp_path, monkeypatch):
    asked = {"layers": "1:1"}
    expected = run(strangers, None, tmp_path / "other-cache", **asked)

    def interrupt(stage: str, _done: int, _total: int) -> None:
        if stage == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            strangers, tmp_path / "out", tmp_path / "cache", progress=interrupt, **asked
        )
    assert not (tmp_path / "out").exists()

    def refuse(*_args, **_options):
        raise AssertionError("states were collected twice")

    monkeypatch.setattr(stages_module, "collect", refuse)
    monkeypatch.setattr(stages_module, "Fits", refuse)
    resumed = run(strangers, tmp_path / "out", tmp_path / "cache", **asked)
    assert resumed["rows"] == expected["rows"]


def test_nothing_is_overwritten_silently(strangers, whole, tmp_path):
    cache, out = whole[0] / "cache", tmp_path / "out"
    run(strangers, out, cache, layers="1:1", strength=1.0)
    before = (out / "results.json").read_bytes()
    with pytest.raises(FileExistsError, match="--force"):
        run(strangers, out, cache, layers="1:1", strength=2.0)
    assert (out / "results.json").read_bytes() == before
    run(strangers, out, cache, layers="1:1", strength=2.0, force=True)
    assert (out / "results.json").read_bytes() != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        run(strangers, mine, cache)


def test_other_weights_in_the_same_folder_are_another_run(strangers, whole, tmp_path):
    cache, out = whole[0] / "cache", tmp_path / "out"
    mine = tmp_path / "mine"
    shutil.copytree(strangers["target"], mine)
    models = strangers | {"target": str(mine)}
    first = run(models, out, cache, layers="1:1", strength=1.0)
    assert run(models, out, cache, layers="1:1", strength=1.0)["rows"] == first["rows"]
    weights = mine / "model.safetensors"
    os.utime(weights, (0, 0))
    with pytest.raises(FileExistsError, match="--force"):
        run(models, out, cache, layers="1:1", strength=1.0)


def test_given_layers_and_strength_are_used(strangers, whole):
    cache = whole[0] / "cache"
    results = run(strangers, None, cache, layers="-1:1", strength=0.5)
    assert (results["layers"]["source"], results["layers"]["target"]) == (2, 1)
    assert results["strength"]["raw"] == 0.5
    assert results["strength"]["how"] == "given"
    with pytest.raises(ValueError, match="does not exist"):
        run(strangers, None, cache, layers="0:17")


@pytest.mark.parametrize(
    ("method", "label"), [("procrustes", "Procrustes"), ("low_rank", "low rank")]
)
def test_every_map_method_runs(strangers, whole, method, label):
    asked = {"method": method, "layers": "1:1", "strength": 1.0}
    results = run(strangers, None, whole[0] / "cache", **asked)
    names = [row["name"] for row in results["rows"][1:4]]
    assert names == [label, "ConTrans", "ridge"]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "rigde"}, KeyError, "did you mean 'ridge'"),
        ({"protocol": "published"}, ValueError, "'heldout'"),
        ({"layers": "24-30"}, ValueError, "SOURCE:TARGET"),
        ({"strength": "strong"}, ValueError, "give a number"),
        ({"budget": 0.5}, ValueError, "allows no edit"),
        ({"kl": 0.0}, ValueError, "is no dose"),
        ({"kl_budget": -1.0}, ValueError, "kl_budget -1.0 is no dose"),
        ({"kl": 0.3, "strength": 1.0}, ValueError, "give one of them"),
        ({"grid": "kls"}, ValueError, "'kl' \\(doses in nats"),
        ({"limit": 1}, ValueError, "at least 2"),
        ({"protocol": "paper"}, FileNotFoundError, "--eval-file"),
    ],
)
def test_settings_that_cannot_work(strangers, tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        run(strangers, None, tmp_path, **options)


def test_a_short_corpus_is_an_error(strangers, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(f"text {i}" for i in range(10)))
    with pytest.raises(ValueError, match="needs at least 50"):
        run({**strangers, "corpus": str(short)}, None, tmp_path)


def test_the_base_of_the_source_must_have_its_shape(strangers, tmp_path):
    with pytest.raises(ValueError, match="--map-source"):
        run(strangers, None, tmp_path, map_source=strangers["target"])


def test_a_recipe_gives_the_numbers_of_the_main_job(strangers, whole):
    """The same concept, models and settings, asked through a plan."""
    folder, _, _ = whole
    asked = {"grid": "relative", "budget": BUDGET.most}
    results = run(strangers, None, folder / "cache", **asked)
    assert results["strength"]["budget_unit"] == "perplexity"
    source, target = (Model(name=strangers[side]) for side in ("source", "target"))
    plan = Plan(
        title="the same",
        series=(
            Series(weak=source, weak_aligned=source, targets=(Target(model=target),)),
        ),
        data=Data(
            honesty=strangers["pairs"],
            corpus=strangers["corpus"],
            perplexity_texts=200,
        ),
        method="ridge",
    )
    lab = Lab(plan, Stages(Cache(folder / "cache")))
    subject, route = honesty(plan, None), Route(source, target)
    planted = best(lab, route, subject)
    assert planted.layers == (results["layers"]["source"], results["layers"]["target"])
    assert planted.raw == pytest.approx(results["strength"]["raw"])
    assert planted.relative == pytest.approx(results["strength"]["relative"])
    tries = [
        from_planted("ridge", planted),
        *from_controls(controls(lab, route, subject, planted)),
    ]
    group = measure_group(lab, "", target, subject.test_task, tries)
    rows = {row["name"]: row for row in results["rows"]}
    for line in group.lines:
        row = rows[line.name]
        assert line.found.mean == pytest.approx(row["value"], abs=1e-12)
        if line.kind == "control":
            assert line.strongest.mean == pytest.approx(row["extra"][STRONGEST])
        else:
            assert line.found.perplexity == pytest.approx(
                row["perplexity"]["value"], rel=1e-6
            )
    assert len(group.lines) == 4


# The verdict


def rows(main: tuple[float, float, float], control: float) -> list[EffectRow]:
    spread = (control, control - 0.05, control + 0.05)
    return [
        effect_row("ridge", "method", *main, base=0.1),
        effect_row("random", "control", *spread, base=0.1),
    ]


@pytest.mark.parametrize(
    ("main", "control", "said"),
    [
        ((0.9, 0.8, 1.0), 0.1, "Transplanted"),
        ((0.2, 0.05, 0.3), 0.1, "Undecided"),
        ((0.05, 0.0, 0.09), 0.1, "No effect"),
        ((0.5, 0.4, 0.6), 0.5, "Not beyond the controls"),
    ],
)
def test_the_verdict_reads_the_controls(main, control, said):
    text = verdict(
        rows(main, control), "accuracy", higher_is_better=True, budget=BUDGET
    )
    assert text.startswith(said)


def test_one_strong_draw_of_a_control_is_enough_to_doubt():
    table = rows((0.9, 0.8, 1.0), 0.1)
    table[1] = replace(table[1], extra={"strongest draw": 0.95})
    text = verdict(table, "accuracy", higher_is_better=True, budget=BUDGET)
    assert text.startswith("Not beyond the controls")


def test_a_verdict_on_a_stuck_metric_reads_the_finer_score():
    stuck, fine = rows((0.0, 0.0, 0.06), 0.0), rows((4.0, 3.5, 4.5), 0.1)
    table = [
        replace(row, fine=fine_score(finer))
        for row, finer in zip(stuck, fine, strict=True)
    ]
    said = {"higher_is_better": True, "budget": BUDGET}
    text = verdict(table, "accuracy", **said)
    assert text.startswith("No effect")
    assert "The finer score says more: margin moved by +3.900" in text
    assert text.endswith("beyond every control.")
    text = verdict(table, "margin", stuck=True, **said)
    assert text.startswith("Transplanted: ridge moved margin by +3.900")
    assert "The metric itself is stuck at 0.000" in text


def test_a_verdict_says_what_the_diagnosis_and_the_budget_said():
    table = rows((0.9, 0.8, 1.0), 0.1)
    said = {"higher_is_better": True}
    text = verdict(table, "accuracy", budget=BUDGET, refused=True, **said)
    assert text.startswith("No-go: the diagnosis said no")
    text = verdict(table, "accuracy", budget=TIGHT, over_budget=True, **said)
    assert "No strength stayed within the budget of 1.05 times the perplexity" in text
    dosed = replace(table[0], dose=DoseInfo(0.62, 2.0, 0.03, 500))
    text = verdict([dosed, *table[1:]], "accuracy", budget=Budget(), **said)
    assert "at 0.62 nats per token and 1.10 times the perplexity" in text
    assert (
        "The texts that chose it were within the budget of 0.5 nats per token" in text
    )
    text = verdict(table, "accuracy", budget=TIGHT, **said)
    assert "chose it were within the budget of 1.05 times the perplexity" in text


def test_the_decision_is_told_with_the_layers_that_were_chosen(whole):
    _, results, _ = whole
    decision, layers = results["decision"], results["layers"]
    pair = f"{layers['source']}:{layers['target']}"
    assert decision["how"] in ("validation", "diagnosis", "no-go", "over budget")
    assert decision["fine"] == "margin"
    told = [w for w in results["warnings"] if w.startswith("layers ")]
    assert all(w.startswith(f"layers {pair}: ") for w in told)
    if decision["how"] != "validation":
        assert decision["why"] in results["warnings"]
    tried = {(p["source"], p["target"]) for p in layers["tried"]}
    assert {(c["source"], c["target"]) for c in decision["candidates"]} <= tried
    assert (layers["source"], layers["target"]) in tried


def test_settings_know_their_layers():
    settings = Settings(source="a", target="b", concept="c", layers="1:2,3:4")
    assert settings.layer_pairs() == [(1, 2), (3, 4)]


# The zoo, and the paper's own files


@needs_zoo
def test_the_zoo_receives_anger_beyond_every_control(tmp_path):
    results = ct.run_transplant(
        "zoo/small-aligned",
        "zoo/large",
        map_source="zoo/small",
        concept="anger",
        cache=tmp_path,
        limit=40,
    )
    by_name = {row["name"]: row["value"] for row in results["rows"]}
    controls = [r["value"] for r in results["rows"] if r["kind"] == "control"]
    assert by_name["ridge"] >= by_name["no edit"] + 0.3
    assert by_name["ridge"] >= max(controls) + 0.3
    assert results["verdict"].startswith("Transplanted")
    chosen = results["strength"]
    assert chosen["dose"]["kl"] <= chosen["budget"] == 0.5
    assert results["rows"][1]["dose"]["kl"] == pytest.approx(
        chosen["dose"]["kl"], rel=0.25
    )  # on other texts


@needs_zoo
@needs_paper
def test_the_published_files_run_whole_and_are_called_in_sample(tmp_path):
    results = ct.run_transplant(
        "zoo/small",
        "zoo/large",
        concept=str(PAPER / "refine_anger.json"),
        corpus=str(WIKI),
        method="contrans",
        protocol="paper",
        limit=8,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    assert results["concept"]["pairs"]["refine"] == 200
    assert "in-sample" in results["task"]["metric"]
    assert any("in-sample" in text for text in results["warnings"])
    assert "in-sample" in (tmp_path / "out" / "report.md").read_text()


@needs_zoo
@needs_paper
def test_the_published_pairs_run_held_out(tmp_path):
    results = ct.run_transplant(
        "zoo/small",
        "zoo/large",
        concept=str(PAPER / "refine_anger.json"),
        corpus=str(WIKI),
        layers="2:3",
        limit=8,
        cache=tmp_path,
    )
    assert results["task"]["protocol"] == "heldout"
    assert results["concept"]["answer"] == "anger"


def test_a_control_that_wrecks_the_model_is_told():
    def dosed(name, kind, kl: float) -> EffectRow:
        line = effect_row(name, kind, 0.5, 0.4, 0.6, base=0.1)
        return replace(line, dose=DoseInfo(kl=kl, p95=kl, stderr=0.01, tokens=500))

    table = [dosed("ridge", "method", 0.45), dosed("shuffled", "control", 0.63)]
    assert wrecked_controls(table) == []
    [said] = wrecked_controls([*table, dosed("random", "control", 16.1)])
    assert "'random' moves the target by 16 nats per token" in said
    assert "the transplant by 0.45" in said
