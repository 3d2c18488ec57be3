"""What a control is, for those who apply, share and cache one without knowing its name.

A control has `on(lm)` and no more. Two further methods let it take part in what the
built-in ones take part in, wherever it was written:

- `residual_edits(lm)`: measured together with others, the blocks below its lowest edit
  run once for all of them (`contrans.models.partial_forward`);
- `cache_key`: what was measured under it is kept, and found again; a dataclass needs
  none where its fields say everything.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from contrans.models.hooks import Edit
from contrans.models.lm import LM


@runtime_checkable
class Control(Protocol):
    """Something that changes what a model does while a context lasts."""

    def on(self, lm: LM) -> AbstractContextManager[LM]:
        """Apply to a model; everything is undone when the context ends.

        The context gives the model to use: most often `lm` itself, edited in place.
        """
        ...


class ResidualControl(Control, Protocol):
    """A control that may be no more than edits of the residual stream."""

    def residual_edits(self, lm: LM) -> Mapping[int, Edit] | None:
        """What `on(lm)` does to the stream after each block, if it does nothing else.

        Each edit looks at one token at a time, at all tokens alike, and not at where
        they stand. None: it does more, and is measured by itself.

        Raises:
            ValueError: when the control does not fit the model.
        """
        ...


class KeyedControl(Control, Protocol):
    """A control under which measurements may be kept."""

    @property
    def cache_key(self) -> Any:
        """Everything that the control does; see `contrans.core.cache.described`."""
        ...


@dataclass(frozen=True, slots=True)
class NoControl:
    """The unedited model."""

    cache_key = "none"

    def on(self, lm: LM) -> AbstractContextManager[LM]:
        """Nothing happens."""
        return nullcontext(lm)

    def residual_edits(self, lm: LM) -> Mapping[int, Edit]:
        """No edit at all."""
        del lm
        return {}

    def additions(self) -> tuple[()]:
        """It adds no vector, and does nothing else."""
        return ()

    def __str__(self) -> str:
        return "none"


def residual_edits(control: Control, lm: LM) -> Mapping[int, Edit] | None:
    """The edits that a control consists of on a model; None where it does not say."""
    edits = getattr(control, "residual_edits", None)
    return None if edits is None else edits(lm)


def shares_lower_blocks(control: Control, lm: LM) -> bool:
    """Whether a control can be measured together with others in one pass."""
    return residual_edits(control, lm) is not None
