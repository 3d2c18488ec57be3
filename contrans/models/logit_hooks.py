"""Edit logits: the third place to act, beside the residual stream and the neurons.

An editor sees the logits of every forward pass together with what they are logits *of*:
each row of tokens from its beginning, wherever a cache hides it. So a method that needs
more than the last tokens (such as other models beside this one) works in `generate()`
with its cache, with batches of unequal length, with beams that change rows, and in
scoring.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrans.models.calls import Call, Calls, watching
from contrans.models.lm import LM
from contrans.models.patching import hooked


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One forward pass, as an editor of its logits sees it."""

    rows: list[list[int]]
    """The tokens of every row from its first one, without padding."""
    wanted: Int[Tensor, "rows columns"]
    """For every column of the logits, the token in its row that they follow; -1 where
    that is padding."""
    prompts: list[int]
    """How many tokens of each row are a prompt that was announced; 0 where none was."""
    growing: bool
    """Inside `generate()`: the next pass holds these rows, one token longer."""


LogitEdit = Callable[[Float[Tensor, "rows columns vocabulary"], Reading], Tensor]
"""Takes logits and what they belong to, returns new logits."""


@dataclass(eq=False)
class _Listener:
    """The prompts that were announced, and what each call of the model is."""

    announced: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)

    def announce(self, rows: Sequence[Sequence[int]]) -> None:
        """Remember which rows are prompts, in place of those known before."""
        self.announced = {}
        for row in rows:
            self.announced.setdefault(len(row), set()).add(tuple(row))

    def prompt_length(self, row: Sequence[int]) -> int:
        """Length of the longest announced prompt that the row begins with."""
        for length in sorted(self.announced, reverse=True):
            if length <= len(row) and tuple(row[:length]) in self.announced[length]:
                return length
        return 0

    def reading(self, calls: Calls, inputs: dict[str, Any], kept: int) -> Reading:
        """After a forward pass that made `kept` columns of logits."""
        call = calls.call
        if call.full is None:
            raise ValueError(_unknown(call))
        ids = call.full
        if not call.known:
            raise ValueError(
                "an edit of logits needs a mask of rows and tokens, but the model was "
                "given one for attention alone; pass the tokenizer's attention_mask"
            )
        mask = torch.ones_like(ids) if call.mask is None else call.mask
        real = mask.to(ids.device).bool()
        columns = call.columns
        rows = [row[keep].tolist() for row, keep in zip(ids, real, strict=True)]
        if call.prompt is None:
            prompts = [self.prompt_length(row) for row in rows]
        else:
            prompts = real[:, : call.prompt].sum(1).tolist()
        keep = inputs.get("logits_to_keep")
        if isinstance(keep, Tensor) and keep.numel() == kept:
            index = keep.to(ids.device) % columns
        else:
            index = torch.arange(columns - kept, columns, device=ids.device)
        index = index + ids.shape[1] - columns
        place = torch.where(real, real.long().cumsum(1) - 1, -1)
        return Reading(
            rows,
            place[:, index],
            prompts,
            call.prompt is not None,
        )


def _unknown(call: Call) -> str:
    if call.ids is None:
        return (
            "an edit of logits needs token ids, but the model was called with "
            "embeddings; pass input_ids"
        )
    return (
        f"the model was called with {call.past} cached tokens that an edit of its logits "
        "has not seen; use generate() on whole texts, or call the model without a cache"
    )


_listening: WeakKeyDictionary[nn.Module, list[_Listener]] = WeakKeyDictionary()


def encode_prompts(lm: LM, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, as `lm.encode`, announced as prompts to editors of logits.

    An expert model that was tuned for dialogue sees its own template around a prompt,
    so it has to know where the prompt ends.
    """
    rows = lm.encode(texts)
    for listener in _listening.get(lm.model, []):
        listener.announce(rows)
    return rows


@contextmanager
def edit_logits(lm: LM, edit: LogitEdit) -> Iterator[LM]:
    """Pass the logits of every forward pass through `edit` while the context lasts.

    Contexts nest: an inner one edits what the outer one made. Calls with a cache work
    inside `generate()` only and are refused elsewhere, because their rows cannot be
    known.
    """
    listener, model = _Listener(), lm.model

    with ExitStack() as stack:
        calls = stack.enter_context(watching(lm))

        def after(_module: nn.Module, _args: Any, inputs: dict, output: Any) -> Any:
            reading = listener.reading(calls, inputs, output.logits.shape[1])
            output.logits = edit(output.logits, reading)
            return output

        stack.enter_context(hooked(model, after=after))
        known = _listening.setdefault(model, [])
        known.append(listener)
        stack.callback(known.remove, listener)
        yield lm
