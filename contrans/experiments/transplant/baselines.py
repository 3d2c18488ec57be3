"""The paper's baselines beside a transplant: rows of the same table (A.7, A.9).

Self-Align, random vectors and shuffled maps are always there (`compare.py`). These
need other models, or words, and are asked for by name.
"""

from collections.abc import Iterator

from contrans.control.methods import AlignTraining, InstAlign, ProxyTuning
from contrans.control.methods.inst_align import instruction_for
from contrans.core.results import EffectRow
from contrans.evaluation import Measurement
from contrans.experiments.cached import Stages, row
from contrans.experiments.transplant.prepare import Job
from contrans.experiments.transplant.settings import Settings
from contrans.models.edits import Control
from contrans.models.lm import LM
from contrans.models.loading import load_model


def _lm(settings: Settings, name: str, blocks: str | None) -> LM:
    return load_model(
        name,
        dtype=settings.dtype,
        device_map=settings.device_map,
        quantize=settings.quantize,
        blocks=blocks,
        trust_remote_code=settings.trust_remote_code,
    )


def baseline_controls(job: Job) -> Iterator[tuple[str, Control]]:
    """The baselines that the settings ask for, each loaded when its turn comes."""
    settings = job.settings
    for name in settings.baseline_names():
        if name == "align-training":
            aligned = str(settings.aligned_target)
            lm = _lm(settings, aligned, settings.blocks_target)
            yield "Align-Training", AlignTraining(lm)
        elif name == "inst-align":
            words = settings.instruction
            if words is None:
                words = instruction_for(job.concept.name, job.concept.answer)
            yield "Inst-Align", InstAlign(words)
        else:
            expert, anti_expert = (
                _lm(settings, str(model), settings.blocks_source)
                for model in (settings.source, settings.map_source)
            )
            yield "EFT / proxy-tuning", ProxyTuning(expert, anti_expert)


def baseline_rows(job: Job, stages: Stages, base: Measurement) -> list[EffectRow]:
    """A line of the table for each baseline, on the same test prompts.

    Args:
        job: the prepared job.
        stages: for the cache.
        base: the outcome without an edit.
    """
    found = []
    for name, control in baseline_controls(job):
        outcome = stages.outcome(job.target, job.test_task, control, job.fluent_test)
        better = job.test_task.higher_is_better
        found.append(row(name, "reference", [outcome], base, higher_is_better=better))
    return found
