"""Evaluate: what a control did, on texts that did not make it, with intervals."""

from contrans.evaluation.fluency import Perplexity, perplexity
from contrans.evaluation.registry import make_task, named_task
from contrans.evaluation.results import Interval, Results, Row, evaluate
from contrans.evaluation.statistics import bootstrap, paired_difference
from contrans.evaluation.task import Measurement, Task
from contrans.evaluation.tasks.choices import ChoicesTask
from contrans.evaluation.tasks.continuations import ContinuationsTask
from contrans.evaluation.tasks.emotions import EmotionTask, paper_emotion_task
from contrans.evaluation.tasks.likelihood import LikelihoodTask

__all__ = [
    "ChoicesTask",
    "ContinuationsTask",
    "EmotionTask",
    "Interval",
    "LikelihoodTask",
    "Measurement",
    "Perplexity",
    "Results",
    "Row",
    "Task",
    "bootstrap",
    "evaluate",
    "make_task",
    "named_task",
    "paired_difference",
    "paper_emotion_task",
    "perplexity",
]
