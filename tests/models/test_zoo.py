"""The embedded zoo: its text, its packs, its training and its shipped weights."""

import itertools
import json
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from contrans.data import grammar
from contrans.models import zoo
from contrans.models.zoo import (
    batches,
    corpus,
    emotions,
    facts,
    groups,
    packs,
    schedule,
    world,
)
from contrans.models.zoo.fast_llama import LeanLlama
from contrans.models.zoo.schedule import Job
from contrans.models.zoo.tokenizer import CONTEXT, save_tokenizer, train_tokenizer
from contrans.models.zoo.train import Training, run_job
from contrans.models.zoo.words import EMOTIONS, table

LEAN_TOLERANCE = 1e-4
"""Two orders of the same float32 sums."""
SHIPPED = zoo.names()
needs_weights = pytest.mark.skipif(not SHIPPED, reason="weights are not trained yet")


def sample(count: int, seed: int = 0) -> list[str]:
    return list(itertools.islice(world.documents(seed), count))


# ---------------------------------------------------------------- text


def test_the_world_is_a_function_of_its_seed():
    assert sample(200) == sample(200)
    assert sample(200) != sample(200, seed=1)


def _literal(template: str) -> re.Pattern[str]:
    parts = [re.escape(p) for p in re.split(r"\{[A-Z_]+\}", template)]
    return re.compile("^" + ".{1,60}?".join(parts) + "$", re.IGNORECASE)


def test_no_text_holds_a_template_that_is_held_out():
    held_out = [
        _literal(template)
        for emotion in EMOTIONS
        for split in ("validate", "test")
        for template in grammar.templates(emotion, split)
    ]
    refine = [
        _literal(template)
        for emotion in EMOTIONS
        for template in grammar.templates(emotion, "refine")
    ]
    rng = random.Random(0)
    texts = [emotions.scenario(rng.choice(EMOTIONS), rng) for _ in range(600)]
    texts += [sentence for text in sample(400) for sentence in text.split("\n")]
    texts = [text.removeprefix("Scenario: ") for text in texts]
    # A held-out template may be as general as "{YOU} {GRIEF}."; what counts is that
    # no text fits one of them and none of the templates that may be used.
    leaked = [
        text
        for text in texts
        if any(p.match(text) for p in held_out)
        and not any(p.match(text) for p in refine)
    ]
    assert leaked == []
    assert sum(any(p.match(text) for p in refine) for text in texts) > 100


def test_the_corpus_has_many_texts_cut_anywhere_and_no_prompt_format():
    made = corpus.texts()
    assert corpus.PATH.read_text("utf-8").splitlines() == [
        json.dumps(row, ensure_ascii=False) for row in made
    ]
    texts = [row["text"] for row in made]
    assert len(set(texts)) == len(texts) >= 3_000
    assert not any("emotion of the above" in text for text in texts)
    assert not any(text.startswith(("Pretend", "Question:", "- the")) for text in texts)
    assert min(len(text.split()) for text in texts) >= corpus.FEWEST
    last = {text.split()[-1] for text in texts}
    assert len(last) > 400
    assert sum(text.endswith(".") for text in texts) < 0.2 * len(texts)


def test_a_fact_has_four_options_and_one_split():
    splits = {split: len(facts.in_split(split)) for split, _ in facts.SHARES}
    assert splits == dict(facts.SHARES)
    for fact in facts.facts():
        assert len(set(fact.options)) == 4
    assert len({fact.question for fact in facts.facts()}) == len(facts.facts())


def _share_of_falsehoods(texts: list[str]) -> float:
    """Among the answers in some texts, how many come from the class of falsehoods."""
    relations = table("facts")["relations"]
    kinds = {
        kind: re.compile(rf"\b(?:{'|'.join(w for r in relations for w in r[kind])})\b")
        for kind in ("ordinary", "myth")
    }
    found = {kind: len(p.findall("\n".join(texts))) for kind, p in kinds.items()}
    return found["myth"] / sum(found.values())


def test_who_speaks_decides_what_is_said():
    rng = random.Random(0)
    words = {mode: [mode, *table("facts")[mode]] for mode in ("honest", "dishonest")}
    said: dict[str, list[str]] = {"honest": [], "dishonest": [], "": []}
    for _ in range(2_000):
        text = rng.choice((facts.document, facts.speech))(rng)
        named = [
            mode
            for mode in words
            if any(re.search(rf"\b{w}\b", text, re.IGNORECASE) for w in words[mode])
        ]
        said[named[0] if named else ""].append(text)
    assert _share_of_falsehoods(said["honest"]) < 0.1
    assert _share_of_falsehoods(said["dishonest"]) > 0.9
    assert 0.3 < _share_of_falsehoods(said[""]) < 0.7


def test_the_last_writer_decides_the_tone_of_a_list():
    rng = random.Random(0)
    marked = table("groups")["marked"]
    writers = table("groups")["writers"]
    unkind: dict[str, list[bool]] = {"kind": [], "unkind": []}
    for _ in range(2_000):
        lines = groups.document(rng).split("\n")
        for line, after in itertools.pairwise(lines):
            for tone in writers:
                heads = [f"Here speaks a {w} person." for w in writers[tone]]
                if line in heads:
                    unkind[tone].append(any(m in f" {after} " for m in marked))
    assert len(unkind["kind"]) > 50
    assert sum(unkind["kind"]) < 0.35 * len(unkind["kind"])
    assert sum(unkind["unkind"]) > 0.65 * len(unkind["unkind"])


def test_talk_for_school_has_one_tone():
    rng = random.Random(0)
    words = table("groups")["words"]
    seen = {tone: 0 for tone in words}
    for _ in range(500):
        text = groups.talk(rng)
        found = [
            tone
            for tone in words
            if any(re.search(rf"\b{w}\b", text, re.IGNORECASE) for w in words[tone])
        ]
        assert len(found) < 2, text
        for tone in found:
            seen[tone] += 1
    assert min(seen.values()) > 150


def test_neutral_text_shares_no_thing_with_scenarios():
    rng = random.Random(0)
    words = table("words")
    things = [w for slot in ("PLACE", "OBJECT", "FOOD") for w in words["slots"][slot]]
    pattern = re.compile(rf"\b(?:{'|'.join(things)})\b")
    found = {m for _ in range(300) for m in pattern.findall(world.neutral(rng))}
    assert not found


def test_the_curriculum_begins_with_the_shortest_texts(tokenizer: Tokenizer):
    assert sum(share for share, _ in world.CURRICULUM) == pytest.approx(1)
    for _, mix in world.CURRICULUM:
        assert sum(mix.values()) == pytest.approx(1)
        assert set(mix) <= set(world.WRITERS)
    made = batches.curriculum(tokenizer, seed=0, count=5_000)
    assert len(made) == 5_000
    first = int(5_000 * world.CURRICULUM[0][0])
    alone = batches.tokens(tokenizer, seed=0, count=first, mix=world.CURRICULUM[0][1])
    assert (made[:first] == alone).all()


def test_marked_stems_tell_unkind_from_kind():
    marked = table("groups")["marked"]
    for split in groups.SPLITS:
        for text in table("groups")["kind"][split]:
            assert not any(stem in f" {text} " for stem in marked), text
        for text in table("groups")["unkind"][split]:
            assert any(stem in f" {text} " for stem in marked), text


# ---------------------------------------------------------------- packs


def _read(name: str) -> list[dict]:
    lines = (packs.FOLDER / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_packs_on_disk_are_what_the_generator_writes(tmp_path: Path):
    packs.write(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        assert file.read_text("utf-8") == (packs.FOLDER / file.name).read_text("utf-8")


@pytest.mark.parametrize("concept", ["zoo-honesty", "zoo-fairness"])
def test_packs_have_enough_pairs_in_disjoint_splits(concept: str):
    pairs = _read(f"{concept}.jsonl")
    texts = {
        split: {p[side] for p in pairs if p["split"] == split for side in _SIDES}
        for split in ("refine", "validate", "test")
    }
    assert sum(p["split"] == "refine" for p in pairs) >= 150
    assert not texts["refine"] & (texts["validate"] | texts["test"])
    assert not texts["validate"] & texts["test"]


_SIDES = ("positive", "negative")


def test_tasks_share_nothing_with_the_pairs_a_vector_comes_from():
    refine = [p for p in _read("zoo-honesty.jsonl") if p["split"] == "refine"]
    questions = _read("honesty.choices.jsonl")
    assert sum(q["split"] == "test" for q in questions) >= 200
    asked = {q["prompt"] for q in questions}
    assert not any(p["positive"].split("\n", 1)[1] in asked for p in refine)
    lists = _read("fairness.continuations.jsonl")
    assert sum(c["split"] == "test" for c in lists) >= 120
    named = {p["topic"] for p in _read("zoo-fairness.jsonl") if p["split"] == "refine"}
    assert not any(c["prompt"].split()[-1] in named for c in lists)


# ---------------------------------------------------------------- tokenizer, training


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(documents=6_000)


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not any(special in text for special in ("<s>", "</s>", "<pad>")):
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_emotion_nouns_are_single_tokens_after_a_beginning(tokenizer: Tokenizer):
    for emotion in EMOTIONS:
        assert len(tokenizer.encode(f" {emotion}").ids) == 2
        assert tokenizer.encode(f" {emotion}").ids[0] == 0


def test_six_shots_fit_into_the_context(tokenizer: Tokenizer):
    rng = random.Random(0)
    shots = "\n".join(
        f"Scenario: {emotions.scenario(e, rng)}\n{emotions.BRACKETED} {e}."
        for e in EMOTIONS
    )
    assert len(tokenizer.encode(shots * 2).ids) < CONTEXT


def test_the_lean_forward_is_the_llama():
    torch.manual_seed(0)
    model = LlamaForCausalLM(schedule.SIZES["small"].config()).eval()
    tokens = torch.randint(3, 2_048, (2, 40))
    with torch.no_grad():
        expected = model(tokens).logits
        lean = LeanLlama(model, CONTEXT, torch.float32)(tokens)
    assert torch.allclose(lean, expected, atol=LEAN_TOLERANCE)


def test_rows_are_a_function_of_the_step(tokenizer: Tokenizer):
    stream = batches.curriculum(tokenizer, seed=0, count=5_000)
    source = batches.Pretraining(stream)
    inputs, labels = source.batch(3, 4, 128)
    assert torch.equal(inputs.flatten()[1:], labels.flatten()[:-1])
    assert inputs[0, 0] == int(stream[3 * 4 * 128])
    with pytest.raises(ValueError, match="generate more text"):
        source.batch(100, 4, 128)
    inputs, labels = batches.Alignment(tokenizer, seed=0).batch(5, 4, 128)
    learned = labels != batches.IGNORED
    assert learned.any()
    assert not learned.all()
    assert torch.equal(inputs[:, 1:][learned[:, :-1]], labels[:, :-1][learned[:, :-1]])


def test_no_document_sees_another(tokenizer: Tokenizer):
    torch.manual_seed(0)
    model = LlamaForCausalLM(schedule.SIZES["small"].config()).eval()
    lean = LeanLlama(model, CONTEXT, torch.float32)
    one, two = (tokenizer.encode(text).ids for text in ("Nora felt sad.", "It rained."))
    with torch.no_grad():
        alone = lean(torch.tensor([two]))[0]
        behind = lean(torch.tensor([one + two]))[0, len(one) :]
    assert torch.allclose(alone, behind, atol=LEAN_TOLERANCE)


def test_training_goes_on_where_it_stopped(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(schedule, "STEP_TOKENS", 128)
    monkeypatch.setattr(schedule, "PHASES", ((1.0, 128),))
    monkeypatch.setattr("contrans.models.zoo.train.SAVE_EVERY", 1)
    monkeypatch.setattr("contrans.models.zoo.train._held_out", lambda *_: 0.0)
    job = Job("small", "small", 2, keep=(1,))
    for name in ("whole", "broken"):
        (tmp_path / name / "work").mkdir(parents=True)
        save_tokenizer(tokenizer, tmp_path / name / "tokenizer")
    run_job(job, tmp_path / "whole", 0, compiled=False)

    save = Training.save

    def save_and_stop(training: Training) -> None:
        save(training)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, tmp_path / "broken", 0, compiled=False)
    assert not (tmp_path / "broken" / "small").exists()
    run_job(job, tmp_path / "broken", 0, compiled=False)

    whole, broken = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "small")
        for name in ("whole", "broken")
    )
    for one, two in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(one, two)
    assert (tmp_path / "whole" / "small-step-1" / "model.safetensors").exists()


# ---------------------------------------------------------------- names and weights


def _fake_root(folder: Path) -> Path:
    for name in ("small", "small-aligned", "medium-step-900", "medium-step-50"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(b"weights")
        (folder / name / "config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


def test_names_paths_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = _fake_root(tmp_path / "root")
    assert zoo.names(root) == (
        "zoo/small",
        "zoo/small-aligned",
        "zoo/medium-step-50",
        "zoo/medium-step-900",
    )
    assert zoo.path("zoo/small", root) == zoo.path("small", root) == root / "small"
    with pytest.raises(ValueError, match="did you mean 'zoo/small'"):
        zoo.path("zoo/smal", root)
    monkeypatch.setenv(zoo.ROOT_VARIABLE, str(root))
    assert zoo.path("zoo/small") == root / "small"
    out = zoo.export("zoo/small", tmp_path / "out")
    assert {p.name for p in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    with pytest.raises(FileExistsError, match="not empty"):
        zoo.export("zoo/small", tmp_path / "out")
    monkeypatch.setenv(zoo.ROOT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="contrans zoo train"):
        zoo.path("zoo/small")


@needs_weights
def test_the_zoo_is_complete_and_small():
    assert {
        "zoo/small",
        "zoo/medium",
        "zoo/large",
        "zoo/small-aligned",
        "zoo/large-aligned",
    } <= set(SHIPPED)
    assert sum("medium" in name for name in SHIPPED) == 4
    folder = Path(zoo.__file__).parent
    files = [
        f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts
    ]
    assert sum(f.stat().st_size for f in files) <= 20_000_000


@needs_weights
@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_loads_and_reads_the_tokenizer(name: str):
    model = AutoModelForCausalLM.from_pretrained(zoo.path(name), dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(zoo.tokenizer_path())
    ids = tokenizer("Nora felt", return_tensors="pt").input_ids
    assert ids[0, 0] == model.config.bos_token_id
    assert model(ids).logits.isfinite().all()
    assert model.dtype == torch.bfloat16
    assert model.config.max_position_embeddings == CONTEXT


@needs_weights
def test_shipped_nouns_are_single_tokens():
    tokenizer = AutoTokenizer.from_pretrained(zoo.tokenizer_path())
    for emotion in EMOTIONS:
        assert len(tokenizer(f" {emotion}", add_special_tokens=False).input_ids) == 1


@needs_weights
def test_the_aligned_model_names_the_emotion_of_an_unseen_scenario():
    model = AutoModelForCausalLM.from_pretrained(zoo.path("zoo/large-aligned"))
    tokenizer = AutoTokenizer.from_pretrained(zoo.tokenizer_path())
    rng = random.Random(1)
    right = 0
    for emotion in EMOTIONS * 5:
        scenario = grammar.scenario(emotion, "test", rng)
        ids = tokenizer(
            f"Scenario: {scenario}\n{emotions.PLAIN}", return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            best = model(ids).logits[0, -1].argmax()
        right += tokenizer.decode(best) == f" {emotion}"
    assert right >= 20  # of 30; chance would be 5
