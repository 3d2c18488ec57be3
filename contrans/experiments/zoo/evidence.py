"""What the embedded zoo shows: every acceptance figure, on held-out templates.

    contrans zoo evidence [--models FOLDER ...] -o docs/results

Each set of models (the shipped one, and any folder written by `contrans zoo train`) goes
through the same checks. Layers and strength are chosen on validation prompts under a
perplexity budget by the main job itself; test prompts are touched once. The bar stands
beside every figure, and a missed bar is printed as missed.
"""

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from contrans.control.steer import Steer, matched_norm
from contrans.core.cache import Cache
from contrans.core.files import write_text
from contrans.core.results import EffectRow, TransplantResults
from contrans.core.types import ConceptVector
from contrans.data import EMOTIONS
from contrans.evaluation import Measurement
from contrans.experiments.cached import Stages
from contrans.experiments.planting import Planted, plant, with_strength
from contrans.experiments.search import Pair
from contrans.experiments.transplant.compare import compare
from contrans.experiments.transplant.prepare import Job, prepare
from contrans.experiments.transplant.settings import Settings
from contrans.models import zoo
from contrans.models.edits import NoControl
from contrans.models.zoo import world
from contrans.models.zoo.corpus import cut
from contrans.vectors.diagnostics import diagnose

BUDGET = {"emotion": 1.15, "choices": 1.15, "continuations": 1.10}
"""Largest perplexity ratio per kind of task."""
MONOTONE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Relative strengths of the curve."""
SHUFFLES = 4
"""Maps fitted on shuffled pairs, for honesty and fairness."""


@contextmanager
def zoo_of(folder: str | Path | None) -> Iterator[None]:
    """Let `zoo/...` name the models of a folder while the context lasts."""
    before = os.environ.get(zoo.ROOT_VARIABLE)
    if folder is not None:
        os.environ[zoo.ROOT_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(zoo.ROOT_VARIABLE, None)
        else:
            os.environ[zoo.ROOT_VARIABLE] = before


def world_documents(folder: Path, count: int = 200) -> Path:
    """A file of whole documents of the world, never trained on, for perplexity."""
    path = folder / "documents.jsonl"
    drawn = dict.fromkeys(itertools.islice(world.documents(-2), 2 * count))
    lines = [json.dumps({"text": text}) for text in list(drawn)[:count]]
    write_text(path, "\n".join(lines) + "\n", force=True)
    return path


def neutral_corpus(folder: Path, count: int = 3_600) -> Path:
    """A file of encyclopaedia sentences, cut like the built-in corpus."""
    path = folder / "neutral.jsonl"
    rng = random.Random("neutral")
    texts = dict.fromkeys(cut(world.neutral(rng), rng) for _ in range(2 * count))
    lines = [json.dumps({"text": text}) for text in list(texts)[:count]]
    write_text(path, "\n".join(lines) + "\n", force=True)
    return path


def settings(concept: str, documents: Path, **options: Any) -> Settings:
    """The main job on the zoo: aligned small into large base."""
    return Settings(
        **{
            "source": "zoo/small-aligned",
            "target": "zoo/large",
            "map_source": "zoo/small",
            "aligned_target": "zoo/large-aligned",
            "concept": concept,
            "perplexity": str(documents),
            "grid": "relative",
            **options,
        }
    )


def _outcome(
    job: Job, stages: Stages, vector: ConceptVector, raw: float
) -> Measurement:
    control = Steer(vector, strength=raw)
    return stages.outcome(job.target, job.test_task, control, job.fluent_test)


def _planted(results: TransplantResults, vector: ConceptVector) -> Planted:
    pair: Pair = (results.layers.source, results.layers.target)
    strength = results.strength
    return Planted(vector, pair, strength.raw, strength.relative)


def _value(results: TransplantResults, name: str) -> EffectRow:
    return next(r for r in results.rows if r.name.startswith(name))


def emotions(
    stages: Stages,
    neutral: Path,
    documents: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """All figures of the emotion task, one entry per emotion.

    Args:
        stages: where finished stages are kept.
        neutral: a corpus without feelings.
        documents: texts for perplexity.
        progress: called with a line of text.
    """
    done: dict[str, tuple[Job, TransplantResults, Planted]] = {}
    for emotion in EMOTIONS:
        progress(f"{emotion}: the main job")
        job = prepare(settings(emotion, documents, budget=BUDGET["emotion"]), stages)
        results, vector = compare(job, stages)
        done[emotion] = (job, results, _planted(results, vector))
    found: dict[str, dict[str, float]] = {}
    for index, emotion in enumerate(EMOTIONS):
        progress(f"{emotion}: further controls")
        job, results, main = done[emotion]
        entry = {
            "no edit": _value(results, "no edit").value,
            "ridge": _value(results, "ridge").value,
            "ConTrans": _value(results, "ConTrans").value,
            "Self-Align": _value(results, "Self-Align").value,
            "random": _value(results, "random").value,
            "shuffled map": _value(results, "map on shuffled").value,
            "relative strength": main.relative,
            "source layer": float(main.layers[0]),
            "target layer": float(main.layers[1]),
            "perplexity ratio": _value(results, "ridge").perplexity.ratio,
            "n": float(results.task.n),
            "broad map, cosine": results.diagnosis.cosine_own,
            "broad map, warned": float(bool(results.diagnosis.warnings)),
        }
        other_job, _, _ = done[EMOTIONS[(index + 1) % len(EMOTIONS)]]
        crossed = plant(stages, other_job.way, main.layers, method="ridge")
        equal = matched_norm(crossed, main.vector)
        entry["another emotion"] = _outcome(job, stages, equal, main.raw).mean
        entry |= _base_source(stages, job, main)
        entry |= _neutral(stages, job, main, neutral)
        entry["monotone"] = _curve(job, stages, main)
        entry["zero is identical"] = float(_zero(job, main))
        found[emotion] = entry
    return found


def _base_source(stages: Stages, job: Job, main: Planted) -> dict[str, float]:
    """The same with the vector of the base source: at equal raw strength, equal norm."""
    base = prepare(replace(job.settings, source="zoo/small"), stages)
    found: dict[str, float] = {}
    for label, method in (("ridge", "ridge"), ("ConTrans", "contrans")):
        vector = plant(stages, base.way, main.layers, method=method)
        found[f"base source, {label}, same raw"] = _outcome(
            job, stages, vector, main.raw
        ).mean
    vector = plant(stages, base.way, main.layers, method="ridge")
    equal = matched_norm(vector, main.vector)
    found["base source, ridge, equal norm"] = _outcome(
        job, stages, equal, main.raw
    ).mean
    return found


def _neutral(
    stages: Stages, job: Job, main: Planted, neutral: Path
) -> dict[str, float]:
    """The map fitted on neutral text only: no effect, and a warning beforehand."""
    other = prepare(replace(job.settings, corpus=str(neutral)), stages)
    vector = plant(stages, other.way, main.layers, method="ridge")
    link = stages.link(
        other.source.corpus, other.target_corpus, main.layers, "ridge", seed=0
    )
    warned = diagnose(
        other.vector,
        link,
        corpus=other.source.corpus,
        source_pairs=other.source.validate,
        target_pairs=other.target_validate,
    )
    equal = matched_norm(vector, main.vector)
    return {
        "neutral map": _outcome(job, stages, equal, main.raw).mean,
        "neutral map, R2": float(link.report.r2 or 0.0),
        "neutral map, spread": warned.spread,
        "neutral map, cosine": warned.cosine_own,
        "neutral map, warned": float(bool(warned.warnings)),
        "broad map, R2": float(
            stages.link(
                job.source.corpus, job.target_corpus, main.layers, "ridge", seed=0
            ).report.r2
            or 0.0
        ),
    }


def _curve(job: Job, stages: Stages, main: Planted) -> float:
    """Largest fall of the effect from one relative strength to a higher one, up to 1."""
    values = [
        _outcome(
            job,
            stages,
            main.vector,
            with_strength(main.vector, main.layers[1], share) if share else 0.0,
        ).mean
        for share in MONOTONE
    ]
    best, fall = -1.0, 0.0
    for value in values:
        fall = max(fall, best - value)
        best = max(best, value)
    return fall


def _zero(job: Job, main: Planted) -> bool:
    """Whether strength 0 leaves the logits bit-identical."""
    ids = torch.tensor([job.target.encode(job.test_task.texts[:1])[0]])
    with torch.no_grad():
        plain = job.target.model(ids).logits
        with Steer(main.vector, strength=0.0).on(job.target):
            zero = job.target.model(ids).logits
    return torch.equal(plain, zero)


def concept(stages: Stages, documents: Path, name: str, kind: str) -> dict[str, float]:
    """Honesty or fairness: the main job, its controls, and the opposite sign.

    Args:
        stages: where finished stages are kept.
        documents: texts for perplexity.
        name: of the pack.
        kind: of its task.
    """
    job = prepare(settings(name, documents, budget=BUDGET[kind]), stages)
    results, vector = compare(job, stages)
    main = _planted(results, vector)
    base = stages.outcome(job.target, job.test_task, NoControl(), job.fluent_test)
    shuffles = []
    for draw in range(SHUFFLES):
        moved = plant(stages, job.way, main.layers, method="ridge", shuffle=draw)
        equal = matched_norm(moved, main.vector)
        shuffles.append(_outcome(job, stages, equal, main.raw).mean)
    opposite = _outcome(job, stages, -main.vector, main.raw).mean
    ratio = _value(results, "ridge").perplexity.ratio
    found = {
        "no edit": base.mean,
        "ridge": _value(results, "ridge").value,
        "ConTrans": _value(results, "ConTrans").value,
        "Self-Align": _value(results, "Self-Align").value,
        "random": _value(results, "random").value,
        "opposite sign": opposite,
        "relative strength": main.relative,
        "source layer": float(main.layers[0]),
        "target layer": float(main.layers[1]),
        "perplexity ratio": ratio,
        "n": float(len(base.values)),
    }
    best = max(shuffles) if job.test_task.higher_is_better else min(shuffles)
    return found | {f"best of {SHUFFLES} shuffled maps": best}


def measure(
    models: Sequence[str | Path | None],
    cache: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """All figures for each set of models; None is the shipped one.

    Args:
        models: roots of trained zoos.
        cache: folder of finished stages.
        progress: called with a line of text.
    """
    found = []
    neutral = neutral_corpus(cache)
    documents = world_documents(cache)
    for folder in models:
        stages = Stages(Cache(cache))
        label = "shipped" if folder is None else Path(folder).name
        with zoo_of(folder):
            found.append(
                {
                    "models": label,
                    "emotions": emotions(stages, neutral, documents, progress),
                    "honesty": concept(stages, documents, "zoo-honesty", "choices"),
                    "fairness": concept(
                        stages, documents, "zoo-fairness", "continuations"
                    ),
                }
            )
    return found
