"""A concept as data: pairs of texts in three splits, and how its effect is measured."""

from dataclasses import dataclass

from contrans.core.registry import unknown
from contrans.core.types import PromptPairs
from contrans.data.catalogue import SPLITS, Kind


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a task."""

    id: str
    prompt: str
    choices: tuple[str, ...] = ()
    """Options, each with its leading space."""
    answer: int | None = None
    """Index of the right option."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """How the effect of a concept is measured."""

    kind: Kind
    validate: tuple[Item, ...] = ()
    test: tuple[Item, ...] = ()
    marked: tuple[str, ...] = ()
    """For continuations: word stems or regular expressions."""
    label: str = ""
    """For continuations: what a marked one is called."""
    higher_is_better: bool = True
    """Whether more of what the task counts means more of the concept."""


@dataclass(frozen=True, slots=True)
class Concept:
    """Prompt pairs of one concept in three disjoint splits, and its task."""

    name: str
    title: str
    refine: PromptPairs
    validate: PromptPairs
    test: PromptPairs
    answer: str | None
    """The word that names the concept, for emotion tasks."""
    task: TaskSpec
    origin: str
    """Where the data came from: a built-in pack, or a file."""
    digest: str

    def split(self, name: str) -> PromptPairs:
        """The pairs of one split.

        Raises:
            KeyError: for an unknown split.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        return getattr(self, name)
