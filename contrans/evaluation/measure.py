"""The one way to measure: a task and texts under controls, cached and resumable.

    measure(task, lm, controls, texts)  ->  one record per control, item by item

Controls that share their lower blocks are measured in one pass. What was measured is
kept by piece of the task and by control, as soon as it is there: an interrupted run goes
on where it was, and whoever asks the same thing again shares the answer.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from contrans.core.cache import Cache, cache_key, described
from contrans.evaluation.fluency import Fluency, Losses, losses_under
from contrans.evaluation.task import (
    Divisible,
    Joining,
    Measurement,
    Sweepable,
    Task,
    joined,
)
from contrans.models.edits import Control, NoControl, shares_lower_blocks
from contrans.models.lm import LM

Measurable = Task | Fluency
Make = Callable[[Sequence[Control]], Sequence[Any]]


def measure(
    task: Task | None,
    lm: LM,
    controls: Sequence[Control],
    texts: Sequence[str] = (),
    *,
    cache: Cache | None = None,
    step: Callable[[], None] | None = None,
) -> list[Measurement]:
    """A task and the perplexity of texts under exactly the same controls.

    Args:
        task: what is asked; None reads the texts only.
        lm: the model.
        controls: what it is measured under, each by itself.
        texts: neutral texts; none leaves perplexity out.
        cache: of finished pieces. A task or control that cannot say what it is (see
            `contrans.core.cache.described`) is measured anew every time.
        step: called after every piece under every control: `steps` times for each.

    Returns:
        One record per control, in their order.
    """
    kept = _Kept(lm, controls, cache, step)
    found = [Measurement(np.zeros(0)) for _ in controls]
    if task is not None:
        parts = [
            kept.get("measure", {"task": _asked(piece)}, _asks(piece, lm))
            for piece in _pieces(task)
        ]
        join = task.joined if isinstance(task, Joining) else joined
        for i, column in enumerate(zip(*parts, strict=True)):
            whole = join([Measurement.from_json(part) for part in column])
            found[i] = replace(whole, metric=whole.metric or task.metric)
    if texts:
        read = kept.get("perplexity", {"texts": list(texts)}, _reads(texts, lm))
        found = [
            replace(one, losses=tuple(map(tuple, losses)), tokenizer=tokenizer)
            for one, (losses, tokenizer) in zip(found, read, strict=True)
        ]
    return found


def steps(task: Task | None, texts: Sequence[str] = ()) -> int:
    """How many pieces `measure` works through under every control."""
    return len(_pieces(task) if task is not None else ()) + bool(texts)


def is_known(
    task: Task, lm: LM, control: Control, texts: Sequence[str], cache: Cache
) -> bool:
    """Whether `measure` has nothing left to do.

    Args:
        task: what is measured.
        lm: the model, as `load_model` returns it.
        control: what edits the model meanwhile.
        texts: for perplexity.
        cache: of finished measurements.
    """
    kept = _Kept(lm, [control], cache)
    asked = [("measure", {"task": _asked(piece)}) for piece in _pieces(task)]
    asked += [("perplexity", {"texts": list(texts)})] if texts else []
    return all(kept.has(stage, parts) for stage, parts in asked)


def continuations(
    lm: LM, prompts: Sequence[str], control: Control, n: int, *, cache: Cache
) -> list[str]:
    """Greedy continuations of prompts under a control, at most `n` tokens each.

    Args:
        lm: the model, as `load_model` returns it.
        prompts: the prompts.
        control: what edits the model meanwhile.
        n: new tokens of each at most.
        cache: of finished measurements.
    """

    def make(some: Sequence[Control]) -> list[list[str]]:
        def write(active: LM) -> list[str]:
            return active.generate(list(prompts), max_new_tokens=n)

        return [_under(lm, each, write) for each in some]

    asked = {"prompts": list(prompts), "tokens": n}
    return _Kept(lm, [control], cache).get("generate", asked, make)[0]


def _pieces(task: Task) -> Sequence[Task]:
    return task.pieces() if isinstance(task, Divisible) else [task]


def _asked(task: Task) -> Any:
    """What identifies a task; None where nothing does. Its name does not count."""
    try:
        about = described(task)
    except TypeError:
        return None
    about.get("fields", {}).pop("name", None)
    return about


def _under(lm: LM, control: Control, ask: Callable[[LM], Any]) -> Any:
    with control.on(lm) as active:  # may be another model, with other tokens
        return ask(active)


def _share(controls: Sequence[Control], lm: LM) -> bool:
    return all(shares_lower_blocks(control, lm) for control in controls)


def _asks(task: Task, lm: LM) -> Make:
    def make(controls: Sequence[Control]) -> list[Any]:
        if isinstance(task, Sweepable) and _share(controls, lm):
            found = task.measure_under(lm, controls)
        else:
            found = [_under(lm, control, task.measure) for control in controls]
        return [one.as_json() for one in found]

    return make


def _reads(texts: Sequence[str], lm: LM) -> Make:
    def read(active: LM) -> tuple[Losses, str]:
        [losses] = losses_under(active, texts, [NoControl()])
        return losses, active.tokenizer_hash

    def make(controls: Sequence[Control]) -> list[tuple[Losses, str]]:
        if _share(controls, lm):
            found = losses_under(lm, texts, controls)
            return [(losses, lm.tokenizer_hash) for losses in found]
        return [_under(lm, control, read) for control in controls]

    return make


@dataclass
class _Kept:
    """What was found under each of several controls, by what was asked."""

    lm: LM
    controls: Sequence[Control]
    cache: Cache | None
    step: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.keys = [self._described(control) for control in self.controls]

    def _described(self, control: Control) -> Any:
        try:
            return described(control)
        except TypeError:
            return None

    def _key(self, stage: str, asked: dict[str, Any], control: Any) -> Any:
        if control is None or None in asked.values():
            return None
        return cache_key(stage, lm=self.lm, control=control, **asked)

    def has(self, stage: str, asked: dict[str, Any]) -> bool:
        """Whether nothing has to be made."""
        keys = [self._key(stage, asked, control) for control in self.keys]
        return all(self._is_kept(key) for key in keys)

    def _is_kept(self, key: Any) -> bool:
        return self.cache is not None and key is not None and self.cache.has_json(key)

    def get(self, stage: str, asked: dict[str, Any], make: Make) -> list[Any]:
        """One value per control; new ones that can share a pass are made together."""
        keys = [self._key(stage, asked, control) for control in self.keys]
        shared = [
            i
            for i, control in enumerate(self.controls)
            if shares_lower_blocks(control, self.lm) and not self._is_kept(keys[i])
        ]
        made: dict[int, Any] = {}

        def value(i: int) -> Any:
            if i not in made:
                batch = shared if i in shared else [i]
                found = make([self.controls[j] for j in batch])
                made.update(zip(batch, found, strict=True))
            return made[i]

        found = []
        for i, key in enumerate(keys):
            if self.cache is None or key is None:
                found.append(value(i))
            else:
                found.append(self.cache.json(key, lambda i=i: value(i)))
            if self.step is not None:
                self.step()
        return found


@dataclass
class Measurements:
    """Measures one thing after another, and counts what was there already."""

    cache: Cache
    progress: Callable[[int, int], None] | None = None
    """Called with (measurements done, measurements in all)."""
    total: int = 0
    measured: int = 0
    """Measurements made now."""
    cached: int = 0
    """Measurements that were there from an earlier run."""
    notes: list[str] = field(default_factory=list)

    def get(self, lm: LM, what: Measurable, control: Control) -> Measurement:
        """One measurement of a model under a control.

        Args:
            lm: the model, as `load_model` returns it.
            what: a task, or texts for perplexity.
            control: what edits the model meanwhile.
        """
        task, texts = (None, what.texts) if isinstance(what, Fluency) else (what, ())
        with self._counted():
            [found] = measure(task, lm, [control], texts, cache=self.cache)
        for note in found.notes:
            line = f"{what.name}: {note}"
            if line not in self.notes:
                self.notes.append(line)
        return replace(
            found,
            metric=found.metric or what.metric,
            tokenizer=found.tokenizer or lm.tokenizer_hash,
            items=items_digest(what),
        )

    def texts(
        self, lm: LM, prompts: Sequence[str], control: Control, n: int
    ) -> list[str]:
        """Greedy continuations of prompts, at most `n` tokens each.

        Args:
            lm: the model, as `load_model` returns it.
            prompts: the prompts.
            control: what edits the model meanwhile.
            n: new tokens of each at most.
        """
        with self._counted():
            return continuations(lm, prompts, control, n, cache=self.cache)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        before = self.cache.misses
        yield
        new = self.cache.misses > before
        self.measured, self.cached = self.measured + new, self.cached + (not new)
        if self.progress is not None:
            done = self.measured + self.cached
            self.progress(done, max(self.total, done))


def check_finite(found: Measurement, what: str) -> None:
    """Refuse a measurement of which nothing can be said.

    Raises:
        ValueError: when a number is NaN or infinite, naming `what` was measured.
    """
    numbers = [*found.values, *(loss for loss, _ in found.losses)]
    wrong = sum(not math.isfinite(number) for number in numbers)
    if wrong:
        raise ValueError(
            f"{what}: {wrong} of {len(numbers)} numbers are NaN or infinite; look at "
            "the model's logits there, a smaller strength or float32 may do"
        )


def items_digest(what: Measurable) -> str:
    """A hash of everything that is asked; the name does not count."""
    plain: Any = what
    bare = replace(plain, name="")
    return hashlib.sha256(repr(bare).encode()).hexdigest()[:20]
