"""The lab of a run: the models of a plan, their states, maps and scores.

Everything is cached by the content of what it depends on, so that an interrupted run
goes on where it was and recipes that ask the same thing share the answer.
"""

import gc
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from contrans.core.cache import cache_key
from contrans.core.files import digest
from contrans.core.types import ConceptVector, HiddenStates, PairedStates, PromptPairs
from contrans.data import load_corpus
from contrans.evaluation import Measurement, Task
from contrans.evaluation.measure import continuations, measure
from contrans.experiments.cached import Stages
from contrans.experiments.paper.plan import Model, Plan
from contrans.experiments.search import candidates
from contrans.experiments.transplant.prepare import (
    NORM_TEXTS,
    readable,
    split_corpus,
    split_fluent,
)
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.models.zoo import world
from contrans.vectors.concepts import concept_vector
from contrans.vectors.transplant import paper_layer


class Lab:
    """Models, states, maps and scores of one plan, made when asked for."""

    def __init__(self, plan: Plan, stages: Stages, *, limit: int | None = None) -> None:
        """Open a lab; nothing is loaded yet.

        Args:
            plan: models, data and choices.
            stages: the cached stages of the main job.
            limit: at most so many items per task, pairs and texts; a trial.

        Raises:
            ValueError: for a limit under two.
        """
        if limit is not None and limit < 2:
            raise ValueError(f"limit {limit} is too small; use at least 2 items")
        self.plan, self.stages, self.limit = plan, stages, limit
        self._models: OrderedDict[Model, LM] = OrderedDict()
        self._corpus: OrderedDict[Any, tuple[list[int], HiddenStates]] = OrderedDict()
        self._sides: tuple[Any, tuple[HiddenStates, ...]] = (None, ())
        self._vectors: dict[Any, ConceptVector] = {}
        self._norms: dict[str, dict[int, float]] = {}

    # ---------------------------------------------------------------- models

    def lm(self, model: Model) -> LM:
        """A model, loaded on first use; the one not used for longest makes room.

        Raises:
            FileNotFoundError: when it cannot be had; the message names it.
        """
        key = Model(name=model.name, revision=model.revision)
        if key not in self._models:
            while len(self._models) >= self.plan.in_memory:
                self._models.popitem(last=False)
                gc.collect()
            self._models[key] = load_model(
                model.name,
                revision=model.revision,
                dtype=self.plan.dtype,
                device_map=self.plan.device_map,
                quantize=self.plan.quantize,
            )
        self._models.move_to_end(key)
        return self._models[key]

    def layers(self, lm: LM) -> list[int]:
        """The layers of a model that are looked at."""
        if self.plan.choice.layers == "depth":
            return [paper_layer(lm.layers)]
        return list(range(lm.layers))

    def pairs(self, source: LM, target: LM) -> list[tuple[int, int]]:
        """Pairs of layers to consider."""
        if self.plan.choice.layers == "depth":
            return [(paper_layer(source.layers), paper_layer(target.layers))]
        return candidates(source.layers, target.layers)

    # ---------------------------------------------------------------- texts

    @cached_property
    def _texts(self) -> tuple[list[str], list[str]]:
        data, limit = self.plan.data, self.limit
        map_texts, fluent = split_corpus(load_corpus(data.corpus))
        if data.perplexity == "world":
            drawn = itertools.islice(world.documents(-2), 2 * data.perplexity_texts)
            fluent = list(dict.fromkeys(drawn))
        elif data.perplexity is not None:
            fluent = list(load_corpus(data.perplexity, at_least=9).texts)
        fluent = fluent[: data.perplexity_texts]
        map_texts = map_texts[: data.map_texts]
        if limit is not None:
            fluent = fluent[: max(2 * limit, 9)]
            map_texts = map_texts[: max(20 * limit, 160)]
        return map_texts, fluent

    @property
    def fluent_validate(self) -> list[str]:
        """Texts for perplexity and residual norms while choosing."""
        return split_fluent(self._texts[1])[0]

    @property
    def fluent_test(self) -> list[str]:
        """Other texts for the perplexity that is reported."""
        return split_fluent(self._texts[1])[1]

    # ---------------------------------------------------------------- states

    def norms(self, lm: LM) -> dict[int, float]:
        """Mean residual norm per layer (H9)."""
        if lm.fingerprint not in self._norms:
            texts = self.fluent_validate[:NORM_TEXTS]
            self._norms[lm.fingerprint] = self.stages.norms(lm, texts)
        return self._norms[lm.fingerprint]

    def states(self, model: Model) -> tuple[list[int], HiddenStates]:
        """States of the corpus, and which of its texts the model could read."""
        lm = self.lm(model)
        if lm.fingerprint not in self._corpus:
            texts = self._texts[0]
            rows = readable(lm, texts)
            found = self.stages.states(
                lm, [texts[i] for i in rows], self.layers(lm), f"corpus, {model}"
            )
            while len(self._corpus) >= self.plan.in_memory:
                self._corpus.popitem(last=False)
            self._corpus[lm.fingerprint] = (rows, found)
        self._corpus.move_to_end(lm.fingerprint)
        return self._corpus[lm.fingerprint]

    def common(self, source: Model, target: Model) -> tuple[HiddenStates, ...]:
        """States of the same texts on both sides; the last pair is remembered."""
        key = (source.name, source.revision, target.name, target.revision)
        if self._sides[0] != key:
            sides = [self.states(source), self.states(target)]
            both = sorted(set(sides[0][0]) & set(sides[1][0]))
            texts = digest([self._texts[0][i] for i in both])
            common = tuple(_only(rows, found, both, texts) for rows, found in sides)
            self._sides = (key, common)
        return self._sides[1]

    def vector(self, model: Model, pairs: PromptPairs) -> ConceptVector:
        """The mean difference of some pairs in a model (A1)."""
        lm = self.lm(model)
        key = (lm.fingerprint, pairs)
        if key not in self._vectors:
            self._vectors[key] = concept_vector(self.pair_states(model, pairs))
        return self._vectors[key]

    def pair_states(self, model: Model, pairs: PromptPairs) -> PairedStates:
        """States of both sides of some pairs."""
        lm = self.lm(model)
        return self.stages.pair_states(lm, pairs, self.layers(lm), f"pairs, {model}")

    # ---------------------------------------------------------------- scores

    def measure(
        self,
        model: Model,
        task: Task,
        control: Control | None = None,
        *,
        texts: Sequence[str] = (),
    ) -> Measurement:
        """A task and the perplexity of texts, under exactly the same control.

        Args:
            model: the model.
            task: what is measured.
            control: None edits nothing.
            texts: for perplexity.
        """
        controls = [control or NoControl()]
        lm, cache = self.lm(model), self.stages.cache
        return measure(task, lm, controls, texts, cache=cache)[0]

    def kept(
        self, stage: str, model: Model, make: Callable[[LM], Any], **asked: Any
    ) -> Any:
        """Anything else that JSON can hold, made by a model and cached.

        Args:
            stage: what makes it; see `contrans.core.cache.SCHEMAS`.
            model: that makes it.
            make: called with the model where it is new.
            **asked: everything else that it depends on.
        """
        lm = self.lm(model)
        key = cache_key(stage, lm=lm, **asked)
        return self.stages.cache.json(key, lambda: make(lm))

    def write(
        self, model: Model, prompts: Sequence[str], control: Control, tokens: int
    ) -> list[str]:
        """Greedy continuations under a control.

        Args:
            model: the model.
            prompts: the prompts.
            control: what edits the model meanwhile.
            tokens: new tokens of each at most.
        """
        lm, cache = self.lm(model), self.stages.cache
        return continuations(lm, prompts, control, tokens, cache=cache)


def _only(
    rows: list[int], states: HiddenStates, both: list[int], texts: str
) -> HiddenStates:
    place = {row: i for i, row in enumerate(rows)}
    found = states if rows == both else states.rows(place[row] for row in both)
    return replace(found, provenance={**found.provenance, "data": texts})
