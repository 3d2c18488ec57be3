"""The stages of the main job, each cached by the content of everything it depends on.

An interrupted run therefore goes on where it was, and a second run does no work twice.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from contrans.core.cache import Cache, cache_key
from contrans.core.files import digest
from contrans.core.results import (
    Change,
    DoseInfo,
    EffectRow,
    FineScore,
    Kind,
    RowPerplexity,
)
from contrans.core.types import HiddenStates, LinearMap, PairedStates, PromptPairs
from contrans.evaluation import Measurement, Task, bootstrap, paired_difference
from contrans.evaluation.dose import TOLERANCE, Dose, doses, strengths_for
from contrans.evaluation.measure import is_known, measure
from contrans.evaluation.task import Sweepable
from contrans.models.collect import ResidualNorms, collect, measure_norms
from contrans.models.edits import Control
from contrans.models.lm import LM
from contrans.vectors.maps import Fits

CHUNK = 512
"""Texts per cached piece of a collection: what an interruption can lose at most."""
StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
STRONGEST = "strongest draw"
"""Under this name a control's row keeps its most effective draw, beside the mean."""


@dataclass
class Stages:
    """Cached stages with progress, timing and a list of warnings."""

    cache: Cache
    progress: StageProgress | None = None
    notify: Callable[[str], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _fits: Fits | None = None
    """Of the states that a map was last asked for."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; times of the same name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)

    def step(self, stage: str, done: int, total: int) -> None:
        """Tell the caller how far a stage is.

        Args:
            stage: its name.
            done: pieces done.
            total: pieces in all.
        """
        if self.progress is not None:
            self.progress(stage, done, total)

    def warn(self, message: str) -> None:
        """Remember a warning for the report, and say it now."""
        if message not in self.warnings:
            self.warnings.append(message)
            if self.notify is not None:
                self.notify(message)

    def states(
        self, lm: LM, texts: Sequence[str], layers: Sequence[int], stage: str
    ) -> HiddenStates:
        """Last-token states, in cached pieces.

        Args:
            lm: the model, as `load_model` returns it.
            texts: the texts.
            layers: blocks, counted from 0.
            stage: name of the stage, for progress.
        """
        pieces = []
        for start in range(0, len(texts), CHUNK):
            piece = list(texts[start : start + CHUNK])
            key = cache_key("collect", lm=lm, layers=list(layers), texts=piece)

            def make(piece: list[str] = piece, start: int = start) -> HiddenStates:
                return collect(
                    lm,
                    piece,
                    layers=layers,
                    progress=lambda done, _: self.step(stage, start + done, len(texts)),
                )

            pieces.append(self.cache.artefact(key, make))
            self.step(stage, min(start + CHUNK, len(texts)), len(texts))
        first = pieces[0]
        return replace(
            first,
            values=torch.cat([p.values for p in pieces]),
            provenance=dict(first.provenance)
            | {"data": digest(list(texts)), "n": len(texts)},
        )

    def pair_states(
        self, lm: LM, pairs: PromptPairs, layers: Sequence[int], stage: str
    ) -> PairedStates:
        """Last-token states of both sides of pairs.

        Args:
            lm: the model, as `load_model` returns it.
            pairs: the prompt pairs.
            layers: blocks, counted from 0.
            stage: name of the stage, for progress.
        """
        both = self.states(lm, [*pairs.positive, *pairs.negative], layers, stage)
        n = len(pairs)
        return PairedStates(
            both.rows(range(n)), both.rows(range(n, 2 * n)), concept=pairs.concept
        )

    def norms(self, lm: LM, texts: Sequence[str]) -> dict[int, float]:
        """Mean residual norms per layer (H9)."""
        return self.measured_norms(lm, texts).means

    def measured_norms(self, lm: LM, texts: Sequence[str]) -> ResidualNorms:
        """The same with what was left out."""
        key = cache_key("norms", lm=lm, texts=list(texts))
        found = self.cache.json(key, lambda: asdict(measure_norms(lm, texts)))
        means, left_out = (
            {int(layer): value for layer, value in found[name].items()}
            for name in ("means", "left_out")
        )
        return ResidualNorms(means, found["tokens"], left_out)

    def link(
        self,
        x: HiddenStates,
        y: HiddenStates,
        layers: tuple[int, int],
        method: str,
        *,
        seed: int,
        shuffle: int | None = None,
    ) -> LinearMap:
        """A fitted map; the key is the states themselves.

        Maps that follow each other share what they can, above all the factorisation of
        the source layer: ask in the order of source layers.

        Args:
            x: states of the source.
            y: states of the target, same rows.
            layers: (source, target) blocks.
            method: of fitting the map, see `fit_linear_map`.
            seed: of the held-out share.
            shuffle: a seed that shuffles the pairing, for a control; None keeps it.
        """
        s, t = layers
        key = cache_key(
            "map",
            x=x.at(s),
            y=y.at(t),
            layers=layers,
            models=(x.model, y.model),
            method=method,
            seed=seed,
            shuffle=shuffle,
        )

        def make() -> LinearMap:
            return self.fits(x, y, seed).map(s, t, method=method, shuffle=shuffle)

        return self.cache.artefact(key, make)

    def fits(self, x: HiddenStates, y: HiddenStates, seed: int) -> Fits:
        """Maps between two models that are not kept, but share what they can.

        Args:
            x: states of the source.
            y: states of the target, same rows.
            seed: of the held-out share.
        """
        known, asked = self._fits, (x, y, seed)
        if known is None or (known.source, known.target, known.seed) != asked:
            known = self._fits = Fits(x, y, seed=seed)
        return known

    def outcome(
        self, lm: LM, task: Task, control: Control, texts: Sequence[str]
    ) -> Measurement:
        """The task and the perplexity under exactly the same edit.

        Args:
            lm: the model, as `load_model` returns it.
            task: what is measured.
            control: what edits the model meanwhile.
            texts: for perplexity.
        """
        return measure(task, lm, [control], texts, cache=self.cache)[0]

    def doses(
        self, lm: LM, controls: Sequence[Control], texts: Sequence[str]
    ) -> list[Dose]:
        """How far each control moves the predictions on neutral texts.

        Args:
            lm: the model, as `load_model` returns it.
            controls: edits of the residual stream, each applied alone.
            texts: the neutral texts.
        """
        key = cache_key("doses", lm=lm, controls=list(controls), texts=list(texts))
        found = self.cache.json(
            key, lambda: list(map(asdict, doses(lm, texts, controls)))
        )
        return [Dose(**dose) for dose in found]

    def strengths(
        self,
        lm: LM,
        control: Callable[[float], Control],
        texts: Sequence[str],
        kls: Sequence[float],
        *,
        start: float,
        tolerance: float = TOLERANCE,
    ) -> list[tuple[float, Dose]]:
        """The strengths at which a control has some doses, and the doses there.

        Args:
            lm: the model, as `load_model` returns it.
            control: makes the control of a strength.
            texts: the neutral texts.
            kls: the doses, in nats per token.
            start: a first guess of a strength.
            tolerance: relative error of the doses that is good enough.
        """
        key = cache_key(
            "strengths",
            lm=lm,
            control=control(start),
            texts=list(texts),
            kls=list(kls),
            tolerance=tolerance,
        )

        def make() -> list[Any]:
            found = strengths_for(
                lm, texts, control, kls, start=start, tolerance=tolerance
            )
            return [[strength, asdict(dose)] for strength, dose in found]

        return [(raw, Dose(**dose)) for raw, dose in self.cache.json(key, make)]

    def first(
        self,
        lm: LM,
        task: Task,
        controls: Sequence[Control],
        texts: Sequence[str],
    ) -> Measurement:
        """The outcome of the first control; if it is new, the others come with it.

        Strengths that follow cost little in the same pass, where the task allows it.

        Args:
            lm: the model, as `load_model` returns it.
            task: what is measured.
            controls: the controls, each applied alone.
            texts: for perplexity.
        """
        known = is_known(task, lm, controls[0], texts, self.cache)
        some = controls if isinstance(task, Sweepable) and not known else controls[:1]
        return measure(task, lm, some, texts, cache=self.cache)[0]


def row(
    name: str,
    kind: Kind,
    draws: Sequence[Measurement],
    base: Measurement,
    *,
    higher_is_better: bool,
    raw: float | None = None,
    relative: float | None = None,
    doses: Sequence[Dose] = (),
) -> EffectRow:
    """One line of the effect table.

    Of several draws of a control it holds the mean, item by item, and beside it the
    value of the strongest draw, which a method has to beat.

    Args:
        name: of the line.
        kind: "base", "method", "reference" or "control".
        draws: what was measured under it, of one or several draws.
        base: what was measured without an edit.
        higher_is_better: says which draw is the strongest.
        raw: strength, as a multiple of the vector.
        relative: strength, as a share of the residual norm.
        doses: of the draws, where they are edits of the model itself; their means count.
    """
    extra = {
        name: float(np.mean([draw.extra[name].mean() for draw in draws]))
        for name in draws[0].extra
    }
    perplexity = float(np.mean([draw.perplexity for draw in draws]))
    better = max if higher_is_better else min
    score = _level([draw.values for draw in draws], base.values, kind, better)
    fine = None
    if base.fine is not None:
        found = [draw.extra[base.fine] for draw in draws]
        level = _level(found, base.extra[base.fine], kind, better)
        fine = FineScore(name=base.fine, **level)
    return EffectRow(
        name=name,
        kind=kind,
        raw=raw,
        relative=relative,
        dose=_mean_dose(doses),
        **score | {"extra": extra | score["extra"]},
        fine=fine,
        perplexity=RowPerplexity(
            value=perplexity,
            stderr=float(np.mean([draw.perplexity_stderr for draw in draws])),
            ratio=perplexity / base.perplexity,
        ),
    )


def _mean_dose(doses: Sequence[Dose]) -> DoseInfo | None:
    if not doses:
        return None
    parts = [asdict(dose) for dose in doses]
    means = {n: float(np.mean([p[n] for p in parts])) for n in ("kl", "p95", "stderr")}
    return DoseInfo(**means, tokens=doses[0].tokens)


def _level(
    draws: Sequence[np.ndarray],
    base: np.ndarray,
    kind: str,
    better: Callable[[Iterable[float]], float],
) -> dict[str, Any]:
    """A score and its change, with their intervals, and the strongest of the draws."""
    values = np.mean(draws, axis=0)
    mean, low, high = bootstrap(values)
    difference, extra = None, {}
    if kind != "base":
        d, d_low, d_high = paired_difference(values, base)
        difference = Change(value=d, low=d_low, high=d_high)
    if len(draws) > 1:
        extra[STRONGEST] = better(float(draw.mean()) for draw in draws)
    parts = {"value": mean, "low": low, "high": high, "difference": difference}
    return parts | {"extra": extra}
