"""The A/B test, where users look for it; it lies in `contrans.experiments.ab`."""

from contrans.core.verdicts import Comparison as Comparison, Outcome as Outcome
from contrans.experiments.ab import Arm as Arm, compare_ab as compare_ab
