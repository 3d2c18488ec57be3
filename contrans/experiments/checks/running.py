"""Run a suite: measure what is asked, once, one model in memory at a time, then judge."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrans.control.steer import random_like
from contrans.core.cache import Cache, cache_folder
from contrans.core.verdicts import Case, Report
from contrans.data.leaks import LeakCount, find_leaks
from contrans.evaluation import Measurement
from contrans.evaluation.measure import Measurable, Measurements, check_finite
from contrans.experiments.cached import Stages
from contrans.experiments.checks.baseline import (
    Key,
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
from contrans.experiments.checks.resolve import (
    find,
    find_file,
    get_task,
    get_vector,
    load_spec,
    make_steer,
)
from contrans.experiments.checks.suite import Better, Check, Suite, TaskSpec
from contrans.export.open_vector import find_vector
from contrans.library.concepts import load_concept
from contrans.models.edits import Control, NoControl

Arm = tuple[str | None, int | None]
"""A vector and the seed of a random one in its place; (None, None) is no edit."""
Job = tuple[str, Arm, str]
"""Model, arm and task."""


@dataclass
class _Run:
    """What a run holds while it goes."""

    suite: Suite
    folder: Path | None
    tasks: Mapping[str, Measurable]
    measurements: Measurements
    stages: Stages
    trust_remote_code: bool
    found: dict[Job, Measurement] = field(default_factory=dict)


def run_suite(
    suite: Suite,
    *,
    folder: str | Path | None = None,
    baseline: str | Path | None = None,
    update_baseline: bool = False,
    cache: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Measure and judge a suite.

    Every measurement is cached by model, vector and task, so that an interrupted run
    goes on where it was.

    Args:
        suite: from `read_suite`.
        folder: where relative paths of the suite start; those that are not there are
            looked for in the working folder.
        baseline: a file of earlier scores; a significant change for the worse fails.
        update_baseline: write that file with the scores of now, instead of comparing.
        cache: folder of finished measurements; None uses `$CONTRANS_CACHE` or
            `~/.cache/contrans`.
        trust_remote_code: run code that comes with the models.
        progress: called with (stage, done, total).

    Raises:
        FileNotFoundError, KeyError, ValueError: when a model, vector or task cannot be
            used, or a measurement is not finite.
        FileExistsError: when the baseline to be written is a file of another kind.
    """
    start = time.perf_counter()
    if update_baseline and baseline is None:
        raise ValueError("nothing to update; name the baseline file with --baseline")
    if update_baseline and baseline is not None:
        check_place(baseline)
    known = read_baseline(baseline) if baseline and not update_baseline else None
    folder = None if folder is None else Path(folder)
    jobs = plan(suite)
    for vector in suite.vectors.values():  # before any model is loaded
        if vector.file is not None:
            find_vector(find(vector.file, folder))
    asked = {name for _, _, name in jobs}
    tasks = {name: get_task(name, suite.tasks[name], folder) for name in asked}
    notes = leaks(suite, tasks, folder)
    store = Cache(cache or cache_folder())
    report = None if progress is None else lambda d, n: progress("measure", d, n)
    run = _Run(
        suite,
        folder,
        tasks,
        Measurements(store, report, total=len(jobs), notes=notes),
        Stages(Cache(store.folder), progress),
        trust_remote_code,
    )
    for model in dict.fromkeys(model for model, _, _ in jobs):
        _measure_model(run, model, [job for job in jobs if job[0] == model])
        gc.collect()
    kept: dict[Key, Measurement] = {
        (model, vector, task): measured
        for (model, (vector, draw), task), measured in run.found.items()
        if draw is None
    }
    cases = [case for check in suite.checks for case in _judge(run, check)]
    if known is not None:
        cases += _against(run, kept, known)
    if update_baseline and baseline is not None:
        write_baseline(baseline, suite.name, kept)
    return Report(
        suite.name,
        tuple(cases),
        suite.undecided,
        suite.confidence,
        tuple(run.measurements.notes),
        measured=run.measurements.measured,
        cached=run.measurements.cached,
        seconds=round(time.perf_counter() - start, 2),
    )


def plan(suite: Suite) -> list[Job]:
    """Every measurement that the checks need, once, in the order of the file."""
    found: dict[Job, None] = {}
    for check in suite.checks:
        for name in check.model or []:
            for task in check.task:
                found[name, (None, None), task] = None
        for vector in check.vector or []:
            model = suite.vectors[vector].model
            draws = check.controls.draws if check.controls else 0
            seed = check.controls.seed if check.controls else 0
            for task in check.task:
                if check.effect or check.ratio or check.controls:
                    found[model, (None, None), task] = None
                found[model, (vector, None), task] = None
                for draw in range(seed, seed + draws):
                    found[model, (vector, draw), task] = None
    return list(found)


def leaks(
    suite: Suite, tasks: Mapping[str, Measurable], folder: Path | None
) -> list[str]:
    """A warning for each task with texts that also refine a vector of the suite.

    Args:
        suite: with its vectors.
        tasks: name to task, as `get_task` makes them.
        folder: where the suite lies.
    """
    notes: list[str] = []
    for label, spec in suite.vectors.items():
        if spec.refine is None:
            continue
        pairs = load_concept(find_file(spec.refine, folder)).refine
        for name, task in tasks.items():
            found = find_leaks(task.texts, (*pairs.positive, *pairs.negative))
            if found:
                judged, source = f"texts of {name}", f"pairs that make {label}"
                count = LeakCount(judged, source, len(task.texts), tuple(found))
                notes.append(f"{name}: {count}")
    return notes


def _measure_model(run: _Run, model: str, jobs: list[Job]) -> None:
    lm = load_spec(run.suite.models[model], trust_remote_code=run.trust_remote_code)
    controls: dict[Arm, Control] = {(None, None): NoControl()}
    vectors: dict[str, Any] = {}
    for _, (label, draw), task in jobs:
        if label is not None and (label, draw) not in controls:
            spec = run.suite.vectors[label]
            if label not in vectors:
                vectors[label] = get_vector(spec, lm, run.stages, run.folder)
            vector = vectors[label]
            if draw is not None:
                vector = _random(vector, draw)
            controls[label, draw] = make_steer(spec, vector, lm)
        what, control = run.tasks[task], controls[label, draw]
        found = run.measurements.get(lm, what, control)
        check_finite(found, f"{task} under {label or 'no edit'} in {model}")
        run.found[model, (label, draw), task] = found


def _random(vector: Any, seed: int) -> Any:
    """A random vector of the same length, used at the same strength."""
    from dataclasses import replace

    drawn = random_like(vector, seed=seed)
    strength = vector.provenance.get("strength")
    if strength is None:
        return drawn
    return replace(drawn, provenance={**drawn.provenance, "strength": strength})


def _sign(spec: TaskSpec, task: Measurable) -> float:
    if spec.better is None:
        return 1.0 if task.higher_is_better else -1.0
    return -1.0 if spec.better == "lower" else 1.0


def _place(run: _Run, model: str, vector: str | None, task: str) -> Place:
    sign = _sign(run.suite.tasks[task], run.tasks[task])
    return Place(model, vector, task, sign, run.suite.confidence)


def _judge(run: _Run, check: Check) -> Iterator[Case]:
    """The cases of one check."""
    arms = [(run.suite.vectors[v].model, v) for v in check.vector or []]
    arms += [(m, None) for m in check.model or []]
    for model, vector in arms:
        for task in check.task:
            place = _place(run, model, vector, task)
            now = run.found[model, (vector, None), task]
            base = run.found.get((model, (None, None), task))
            bounds = (
                ("effect", check.effect),
                ("score", check.score),
                ("ratio", check.ratio),
            )
            for kind, bound in bounds:
                if bound is not None:
                    yield from judge_bound(place, kind, bound, now, base)
            if check.controls is not None and base is not None:
                seed = check.controls.seed
                draws = [
                    run.found[model, (vector, draw), task]
                    for draw in range(seed, seed + check.controls.draws)
                ]
                yield from judge_controls(place, check.controls, now, base, draws)


def _against(
    run: _Run, now: Mapping[Key, Measurement], known: Mapping[Key, Measurement]
) -> list[Case]:
    """Everything measured under a vector, against the baseline."""
    checked = {
        (m, None, t)
        for check in run.suite.checks
        for m in check.model or []
        for t in check.task
    }
    keys = [key for key in now if key[1] is not None or key in checked]
    either: Better = "neither"
    return judge_baseline(
        [(_place(run, *key), run.suite.tasks[key[2]].better == either) for key in keys],
        [now[key] for key in keys],
        [known.get(key) for key in keys],
        tolerance=run.suite.tolerance,
    )
