"""The first half of the main job: data, models, states; what the comparison needs."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrans.control.steer import with_norms
from contrans.core.files import digest
from contrans.core.types import (
    ConceptVector,
    HiddenStates,
    LinearMap,
    PairedStates,
    PromptPairs,
)
from contrans.data import (
    Concept,
    Corpus,
    check_disjoint,
    concept_leaks,
    load_corpus,
)
from contrans.evaluation import Task, make_task, paper_emotion_task
from contrans.experiments.cached import Stages
from contrans.experiments.planting import Bench, Passage
from contrans.experiments.search import candidates
from contrans.experiments.transplant.settings import Settings
from contrans.library.concepts import load_concept
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.vectors.concepts import concept_vector
from contrans.vectors.sinks import left_out
from contrans.vectors.transplant import paper_layer

PERPLEXITY_SHARE, PERPLEXITY_TEXTS = 0.1, 200
"""Share of the corpus kept out of the map for perplexity, and at most so many texts."""
SPLIT_FROM = 5
"""Fewer texts than this cannot be parted into two halves of two and more."""
NORM_TEXTS = 64
"""Texts on which the residual norm is measured."""
MINIMUM_CORPUS = 50
"""Fewer texts than this cannot carry a map and a perplexity estimate."""


@dataclass(frozen=True, slots=True)
class SourceSide:
    """What the source models leave behind when they are gone from memory."""

    refine: PairedStates
    validate: PairedStates
    corpus: HiddenStates
    rows: list[int]
    """Which corpus texts the source could read."""
    layers: int
    truncated: int


@dataclass(frozen=True, slots=True)
class Job:
    """Everything the comparison needs."""

    settings: Settings
    concept: Concept
    corpus: Corpus
    refine_pairs: PromptPairs
    map_texts: tuple[str, ...]
    """Texts of the map, in the order of the states."""
    fluent_validate: tuple[str, ...]
    """Texts for norms, and for perplexity while choosing; never those of the map."""
    fluent_test: tuple[str, ...]
    """Others, for the perplexity that is reported."""
    validate_task: Task
    test_task: Task
    source: SourceSide
    target: LM
    target_corpus: HiddenStates
    target_validate: PairedStates
    norms: dict[int, float]
    pairs: tuple[tuple[int, int], ...]
    """Pairs of (source, target) layers to consider."""
    vector: ConceptVector
    """The concept in the source."""
    reference: tuple[str, ConceptVector]
    """Name and vector of what the target could do by itself (Self-Align)."""
    models: dict[str, Any]
    truncated: dict[str, int]

    @property
    def way(self) -> Passage:
        """The concept, and the states between which maps are fitted."""
        return Passage(
            vector=self.vector,
            source=self.source.corpus,
            target=self.target_corpus,
            model=self.target.fingerprint,
            name=self.target.name,
            norms=self.norms,
            validate=self.target_validate,
            method=self.settings.method,
            seed=self.settings.seed,
        )

    def bench(self, stages: Stages) -> Bench:
        """The target, and what layers and strength are chosen on."""
        grid, unit = self.settings.strengths()
        return Bench(
            stages=stages,
            lm=self.target,
            task=self.validate_task,
            texts=self.fluent_validate,
            budget=self.settings.spending(),
            grid=grid,
            unit=unit,
        )


def prepare(settings: Settings, stages: Stages) -> Job:
    """Load the data and the models, and collect all states, one model at a time."""
    concept = load_concept(settings.concept, answer=settings.answer, seed=settings.seed)
    corpus = load_corpus(settings.corpus)
    map_texts, fluent = split_corpus(corpus)
    if settings.perplexity is not None:
        fluent = list(load_corpus(settings.perplexity, limit=PERPLEXITY_TEXTS).texts)
    choosing, judging = split_fluent(fluent)
    if choosing == judging:
        stages.warn(
            f"{len(fluent)} texts for perplexity are too few to part: the strength is "
            f"chosen and judged on the same; give at least {SPLIT_FROM}"
        )
    refine, validate = _pairs(settings, concept)
    validate_task, test_task = _tasks(settings, stages, concept, refine)
    if settings.protocol == "heldout":
        for count in concept_leaks(concept, map_texts):
            stages.warn(str(count))
    models: dict[str, Any] = dict.fromkeys(
        ("source", "target", "map_source", "aligned_target")
    )
    source = _source_side(settings, stages, models, refine, validate, map_texts)
    lm = _load(settings, stages, models, "target")
    pairs = _layer_pairs(settings, source.layers, lm)
    layers = sorted({t for _, t in pairs})
    with stages.stage("reformulate"):
        rows = readable(lm, map_texts)
        target_corpus = stages.states(
            lm, [map_texts[i] for i in rows], layers, "corpus, target"
        )
        source, target_corpus = _common_rows(source, target_corpus, rows)
        lost = len(map_texts) - len(target_corpus)
        if lost:
            stages.warn(
                f"{lost} of {len(map_texts)} corpus texts have no token that both "
                "tokenizers know and were left out"
            )
        measured = stages.measured_norms(lm, choosing[:NORM_TEXTS])
        norms = measured.means
        odd = max(measured.left_out[layer] for layer in layers)
        if odd:
            stages.warn(
                f"up to {odd} of {measured.tokens} tokens at a layer were left out of "
                "the residual norms: massive activations, far longer than the others"
            )
    with stages.stage("diagnose"):
        own = stages.pair_states(lm, refine, layers, "target, own vector")
        target_validate = stages.pair_states(lm, validate, layers, "target, validate")
    truncated = {"source": source.truncated, "target": count_truncated(lm, map_texts)}
    for side, count in truncated.items():
        if count:
            stages.warn(
                f"{count} corpus texts are longer than the context of the {side} and "
                "lost their beginning"
            )
    return Job(
        settings=settings,
        concept=concept,
        corpus=corpus,
        refine_pairs=refine,
        map_texts=tuple(map_texts[i] for i in source.rows),
        fluent_validate=tuple(choosing),
        fluent_test=tuple(judging),
        validate_task=validate_task,
        test_task=test_task,
        source=source,
        target=lm,
        target_corpus=target_corpus,
        target_validate=target_validate,
        norms=norms,
        pairs=tuple(pairs),
        vector=concept_vector(source.refine),
        reference=_reference(settings, stages, models, lm, refine, own, norms),
        models=models,
        truncated=truncated,
    )


def _pairs(settings: Settings, concept: Concept) -> tuple[PromptPairs, PromptPairs]:
    """Refinement and validation pairs; the published protocol uses all for both."""
    if settings.protocol == "heldout":
        return concept.refine, concept.validate
    parts = (concept.refine, concept.validate, concept.test)
    everything = PromptPairs(
        tuple(t for p in parts for t in p.positive),
        tuple(t for p in parts for t in p.negative),
        concept=concept.name,
    )
    return everything, everything


def _tasks(
    settings: Settings, stages: Stages, concept: Concept, refine: PromptPairs
) -> tuple[Task, Task]:
    """The validation and the test task; overlap with the refinement is an error."""
    if settings.protocol == "paper":
        path = settings.eval_file or _published_eval(settings.concept)
        task = paper_emotion_task(path, limit=settings.limit, in_sample=True)
        stages.warn(
            "protocol 'paper': the vector is refined and evaluated on the same "
            "scenarios, as published; the numbers are in-sample and flatter"
        )
        return task, task
    validate_task = make_task(concept, "validate", limit=settings.limit)
    test_task = make_task(concept, "test", limit=settings.limit)
    seen = [*refine.positive, *refine.negative]
    check_disjoint(seen, validate_task.texts)
    check_disjoint(seen, test_task.texts)
    check_disjoint(validate_task.texts, test_task.texts)
    return validate_task, test_task


def _published_eval(concept: str) -> str:
    path = Path(concept)
    guess = path.with_name(path.name.replace("refine_", "eval_", 1))
    if guess == path or not guess.is_file():
        raise FileNotFoundError(
            "protocol 'paper' needs the published evaluation prompts: pass --eval-file "
            f"eval_<emotion>.json (looked for {guess})"
        )
    return str(guess)


def _load(settings: Settings, stages: Stages, models: dict[str, Any], role: str) -> LM:
    """Load the model of a role and note what it is."""
    of_source = role in ("source", "map_source")
    with stages.stage("load models"):
        lm = load_model(
            getattr(settings, role),
            dtype=settings.dtype,
            device_map=settings.device_map,
            quantize=settings.quantize,
            blocks=settings.blocks_source if of_source else settings.blocks_target,
            trust_remote_code=settings.trust_remote_code,
        )
    models[role] = {
        "name": lm.name,
        "fingerprint": lm.fingerprint,
        "layers": lm.layers,
        "hidden": lm.hidden,
        "context": lm.context,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "tokenizer": lm.tokenizer_hash,
    }
    return lm


def _same_shape(option: str, given: LM, wanted: LM, why: str) -> None:
    if (given.layers, given.hidden) != (wanted.layers, wanted.hidden):
        raise ValueError(
            f"{option} {given.name!r} ({given.layers} blocks, width {given.hidden}) is "
            f"not of the shape of {wanted.name!r} ({wanted.layers} blocks, width "
            f"{wanted.hidden}); {why}"
        )


def _source_side(
    settings: Settings,
    stages: Stages,
    models: dict[str, Any],
    refine: PromptPairs,
    validate: PromptPairs,
    map_texts: Sequence[str],
) -> SourceSide:
    """Refine in the aligned source; corpus states from the model of the map."""
    lm = _load(settings, stages, models, "source")
    every = range(lm.layers)
    with stages.stage("refine"):
        refined = stages.pair_states(lm, refine, every, "refine")
        validated = stages.pair_states(lm, validate, every, "refine, validate")
    if settings.map_source is not None:
        base = _load(settings, stages, models, "map_source")
        _same_shape(
            "--map-source",
            base,
            lm,
            "it must be the base model that the source was made from",
        )
        lm = base
    with stages.stage("reformulate"):
        layers = _source_layers(settings, lm)
        rows = readable(lm, map_texts)
        texts = [map_texts[i] for i in rows]
        states = stages.states(lm, texts, layers, "corpus, source")
    found = SourceSide(
        refined, validated, states, rows, lm.layers, count_truncated(lm, map_texts)
    )
    del lm
    gc.collect()
    return found


def _source_layers(settings: Settings, lm: LM) -> list[int]:
    given = settings.layer_pairs()
    if given is not None:
        return sorted({lm.layer(s) for s, _ in given})
    if settings.protocol == "paper":
        return [paper_layer(lm.layers)]
    return list(range(lm.layers))


def _layer_pairs(settings: Settings, source: int, lm: LM) -> list[tuple[int, int]]:
    given = settings.layer_pairs()
    if given is not None:
        return [(s % source, lm.layer(t)) for s, t in given]
    if settings.protocol == "paper":
        return [(paper_layer(source), paper_layer(lm.layers))]
    return candidates(source, lm.layers)


def _reference(
    settings: Settings,
    stages: Stages,
    models: dict[str, Any],
    target: LM,
    refine: PromptPairs,
    own: PairedStates,
    norms: dict[int, float],
) -> tuple[str, ConceptVector]:
    """Self-Align (A.7): the vector of an aligned model of the target's size.

    Without one, the target's own vector: what it could refine by itself.
    """
    if settings.aligned_target is None:
        return "target's own vector", with_norms(concept_vector(own), norms)
    aligned = _load(settings, stages, models, "aligned_target")
    _same_shape(
        "--aligned-target",
        aligned,
        target,
        "Self-Align needs an aligned model of the target's own shape",
    )
    with stages.stage("refine"):
        states = stages.pair_states(aligned, refine, own.layers, "self-align")
    vector = replace(concept_vector(states), model=target.fingerprint, name=target.name)
    return "Self-Align", with_norms(vector, norms)


def split_corpus(corpus: Corpus) -> tuple[list[str], list[str]]:
    """Texts for the map, and every k-th text for perplexity and norms.

    Raises:
        ValueError: when the corpus is too short.
    """
    texts = list(corpus.texts)
    if len(texts) < MINIMUM_CORPUS:
        raise ValueError(
            f"corpus {corpus.name!r} has {len(texts)} texts; a map needs at least "
            f"{MINIMUM_CORPUS}, and sensibly a few thousand (the paper: 2,000)"
        )
    wanted = min(int(PERPLEXITY_SHARE * len(texts)), PERPLEXITY_TEXTS)
    step = len(texts) // wanted
    held = set(range(0, step * wanted, step))
    return (
        [text for i, text in enumerate(texts) if i not in held],
        [text for i, text in enumerate(texts) if i in held],
    )


def split_fluent(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Texts for perplexity while choosing (a third), and others for what is reported.

    A perplexity that chose a strength flatters it. Too few texts serve for both.

    Example:
        >>> split_fluent("abcdef")
        (['a', 'd'], ['b', 'c', 'e', 'f'])
    """
    if len(texts) < SPLIT_FROM:
        return list(texts), list(texts)
    return list(texts[0::3]), [text for i, text in enumerate(texts) if i % 3]


def readable(lm: LM, texts: Sequence[str]) -> list[int]:
    """Rows of texts in which the tokenizer finds at least one token."""
    tokenize = lm.tokenizer
    return [
        i
        for i, text in enumerate(texts)
        if tokenize(text, add_special_tokens=False).input_ids
    ]


def _common_rows(
    source: SourceSide, target: HiddenStates, rows: list[int]
) -> tuple[SourceSide, HiddenStates]:
    """Keep the texts that both models could read."""
    both = set(source.rows) & set(rows)
    if len(both) == len(source.rows) == len(rows):
        return source, target

    def common(states: HiddenStates, known: Sequence[int]) -> HiddenStates:
        kept = states.rows(i for i, row in enumerate(known) if row in both)
        data = digest(sorted(both))  # the same texts on both sides, by construction
        return replace(kept, provenance={**kept.provenance, "data": data})

    corpus = common(source.corpus, source.rows)
    return replace(source, corpus=corpus, rows=sorted(both)), common(target, rows)


def sinks_left_out(job: Job, link: LinearMap) -> list[str]:
    """What to tell the user of texts that took no part in the map and the vector."""
    pairs, layer = job.refine_pairs, str(link.source.layer)
    found = (
        left_out(
            "corpus texts were left out of the map", link.report.left_out, job.map_texts
        ),
        left_out(
            "pairs were left out of the concept",
            job.vector.provenance["left_out"].get(layer, ()),
            pairs.positive,
        ),
    )
    return [message for message in found if message is not None]


def count_truncated(lm: LM, texts: Sequence[str]) -> int:
    """How many texts are longer than the context."""
    room = lm.context - len(lm.special_affixes[0])
    if max(len(text.encode()) for text in texts) <= room:
        return 0  # no tokenizer makes more tokens than there are bytes
    return sum(
        len(lm.tokenizer(text, add_special_tokens=False).input_ids) > room
        for text in texts
    )
