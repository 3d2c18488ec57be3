"""From the names in a suite to models, vectors and tasks."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrans.control.steer import Steer, with_norms
from contrans.core.parsing import parse_layers
from contrans.core.types import ConceptVector, PromptPairs
from contrans.data import load_corpus
from contrans.evaluation import (
    ChoicesTask,
    ContinuationsTask,
    EmotionTask,
    LikelihoodTask,
    make_task,
)
from contrans.evaluation.dose import neutral_texts, strength_for
from contrans.evaluation.fluency import Fluency
from contrans.evaluation.measure import Measurable
from contrans.evaluation.registry import named_task
from contrans.evaluation.tasks.questions import question_task, read_questions
from contrans.experiments.cached import Stages
from contrans.experiments.checks.suite import ModelSpec, TaskSpec, VectorSpec
from contrans.export.open_vector import find_vector
from contrans.library.concepts import load_concept
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.vectors.concepts import concept_vector

PERPLEXITY_TEXTS = 200
"""Texts that perplexity is measured on without a limit."""
NORM_TEXTS = 64
"""Texts on which the residual norm of a model is measured."""


def find(name: str, folder: Path | None) -> str:
    """A path as written in a suite: from the suite's folder, else from here."""
    return _beside(name, folder, Path.exists)


def find_file(name: str, folder: Path | None) -> str:
    """The same for what is a file or a name, and never a folder: a concept."""
    return _beside(name, folder, Path.is_file)


def _beside(name: str, folder: Path | None, fits: Callable[[Path], bool]) -> str:
    if folder is None or Path(name).is_absolute() or not fits(folder / name):
        return name
    return str(folder / name)


def load_spec(spec: ModelSpec, *, trust_remote_code: bool = False) -> LM:
    """The model of a suite."""
    return load_model(
        spec.name,
        dtype=spec.dtype,
        device_map=spec.device_map,
        quantize=spec.quantize,
        revision=spec.revision,
        blocks=spec.blocks,
        trust_remote_code=trust_remote_code,
    )


def make_steer(spec: VectorSpec, vector: ConceptVector, lm: LM) -> Steer:
    """The control of a vector, checked against its model.

    Args:
        spec: what the suite says of the vector.
        vector: the concept vector.
        lm: the model, as `load_model` returns it.
    """
    layers = None
    if spec.layers is not None:
        layers = [lm.layer(layer) for layer in parse_layers(str(spec.layers)) or ()]
    strength = spec.strength
    if strength is None:
        strength = vector.strength
    steer = Steer(
        vector,
        layers=layers or None,
        strength=strength,
        unit=spec.unit,
        positions=spec.positions,
        any_model=spec.any_model,
    )
    with steer.on(lm):  # whatever is wrong, it is wrong now
        pass
    if spec.kl is None:
        return steer
    raw, _ = strength_for(
        lm,
        neutral_texts(),
        lambda strength: replace(steer, strength=strength),
        spec.kl,
        start=abs(strength) or 1.0,
    )
    return replace(steer, strength=raw)


def get_vector(
    spec: VectorSpec, lm: LM, stages: Stages, folder: Path | None
) -> ConceptVector:
    """The vector of a suite: read, or refined in the model itself (cached).

    Args:
        spec: what the suite says of the vector.
        lm: the model, as `load_model` returns it.
        stages: where finished stages are kept.
        folder: where the suite lies.
    """
    if spec.refine is None:
        vector = find_vector(find(str(spec.file), folder))
    else:
        concept = load_concept(find_file(spec.refine, folder))
        states = stages.pair_states(lm, concept.refine, range(lm.layers), "refine")
        vector = concept_vector(states, method=spec.method)
    if spec.unit == "relative" and vector.norms is None:
        texts = list(load_corpus().texts[:NORM_TEXTS])
        vector = with_norms(vector, stages.norms(lm, texts))
    return vector


def get_task(
    name: str, spec: TaskSpec, folder: Path | None, *, seed: int = 0
) -> Measurable:
    """The task of a suite, under its name there.

    Args:
        name: in tables.
        spec: what is measured.
        folder: where the suite is; its files are looked for there first.
        seed: by which a concept's pairs are split.

    Raises:
        FileNotFoundError, KeyError, ValueError: when its data cannot be used.
    """
    if spec.perplexity is not None:
        builtin = spec.perplexity == "builtin"
        corpus = load_corpus(None if builtin else find(spec.perplexity, folder))
        rows = _drawn(len(corpus.texts), spec.limit or PERPLEXITY_TEXTS, spec.seed)
        return Fluency(tuple(corpus.texts[i] for i in rows), name=name)
    if spec.questions is not None:
        found = read_questions(
            find(spec.questions, folder), subset=spec.subset, split=spec.split
        )
        return question_task(
            found,
            name=name,
            limit=spec.limit,
            seed=spec.seed,
            shots=spec.shots,
            style=spec.style,
        )
    if spec.task is not None:
        named: Any = named_task(
            spec.task,
            find(str(spec.data), folder),
            limit=spec.limit,
            seed=spec.seed or 0,
            settings=spec.settings,
        )
        return replace(named, name=name)
    concept = load_concept(find_file(str(spec.concept), folder), seed=seed)
    split: Any = spec.split or "test"
    if spec.measure == "likelihood":
        task: Any = LikelihoodTask(concept.split(split))
    else:
        task = make_task(concept, split, fewshot=spec.fewshot)
    return replace(shorten(task, spec.limit, spec.seed), name=name)


def _drawn(n: int, limit: int | None, seed: int | None) -> list[int]:
    """Rows to keep: the first, or drawn at random where a seed is given."""
    rows = list(range(n))
    if seed is not None:
        random.Random(seed).shuffle(rows)
    return sorted(rows[:limit])


def shorten(task: Any, limit: int | None, seed: int | None) -> Any:
    """The task with fewer items, the first ones or drawn by a seed.

    Args:
        task: a task of one of our classes.
        limit: so many items at most; None takes all.
        seed: by which items are drawn; None takes the first.

    Raises:
        ValueError: when a task of its kind cannot be parted.
    """
    if limit is None:
        return task

    def some(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[i] for i in _drawn(len(values), limit, seed))

    if isinstance(task, EmotionTask):
        return replace(task, prompts=some(task.prompts), positives=some(task.positives))
    if isinstance(task, ChoicesTask):
        return replace(task, items=some(task.items))
    if isinstance(task, ContinuationsTask):
        return replace(task, prompts=some(task.prompts))
    if isinstance(task, LikelihoodTask):
        pairs = task.pairs
        kept = PromptPairs(some(pairs.positive), some(pairs.negative), pairs.concept)
        return replace(task, pairs=kept)
    raise ValueError(
        f"no way to take a part of a {type(task).__name__}; leave limit and seed out"
    )
