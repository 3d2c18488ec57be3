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
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrans.models import LM


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
    """What an editor has to know, gathered on the way to each forward pass."""

    announced: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)
    full: tuple[Tensor, Tensor | None] | None = None
    """Ids and mask that `generate()` is about to go on from."""
    depth: int = 0
    """How many calls of `generate()` are running."""
    now: tuple[Tensor, Tensor, int] | None = None
    """Ids and mask from the beginning, and how many columns the pass itself has."""

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

    def begin(self, _module: nn.Module, args: tuple[Any, ...], inputs: dict) -> None:
        """Before a forward pass: the rows from their beginning."""
        full, self.full, self.now = self.full, None, None
        ids = inputs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise ValueError(
                "an edit of logits needs token ids, but the model was called with "
                "embeddings; pass input_ids"
            )
        past = inputs.get("past_key_values")
        past = 0 if past is None else int(past.get_seq_length())
        mask = inputs.get("attention_mask")
        columns = ids.shape[1]
        if past or full is not None:
            if full is None or full[0].shape[1] != past + columns:
                raise ValueError(
                    f"the model was called with {past} cached tokens that an edit of "
                    "its logits has not seen; use generate() (without chunked "
                    "prefill), or call the model without a cache"
                )
            ids, mask = full
        if mask is None:
            mask = torch.ones_like(ids)
        if mask.dim() != 2:
            raise ValueError(
                f"an edit of logits needs a mask of rows and tokens, got one of shape "
                f"{tuple(mask.shape)}; pass the tokenizer's attention_mask"
            )
        self.now = ids, mask.to(ids.device), columns

    def reading(self, inputs: dict[str, Any], kept: int) -> Reading:
        """After a forward pass that made `kept` columns of logits."""
        if self.now is None:
            raise RuntimeError("an edit of logits ran without a forward pass")
        ids, mask, columns = self.now
        real = mask.bool()
        rows = [row[keep].tolist() for row, keep in zip(ids, real, strict=True)]
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
            [self.prompt_length(row) for row in rows],
            self.depth > 0,
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
def _replaced(
    model: nn.Module, name: str, wrap: Callable[[Any], Any]
) -> Iterator[None]:
    """Put `wrap(method)` in the place of a method of one model for a while."""
    own, inner = vars(model).get(name), getattr(model, name)
    setattr(model, name, wrap(inner))
    try:
        yield
    finally:
        if own is None:
            delattr(model, name)
        else:
            setattr(model, name, own)


@contextmanager
def edit_logits(lm: LM, edit: LogitEdit) -> Iterator[LM]:
    """Pass the logits of every forward pass through `edit` while the context lasts.

    Contexts nest: an inner one edits what the outer one made. Calls with a cache work
    inside `generate()` only and are refused elsewhere, because their rows cannot be
    known.
    """
    listener, model = _Listener(), lm.model

    def prepare(inner: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(inner)  # transformers reads its signature
        def prepared(input_ids: Tensor, *args: Any, **inputs: Any) -> Any:
            listener.full = input_ids, inputs.get("attention_mask")
            return inner(input_ids, *args, **inputs)

        return prepared

    def generating(inner: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(inner)
        def generate(*args: Any, **inputs: Any) -> Any:
            ids = inputs.get("input_ids", inputs.get("inputs", *args[:1]))
            if isinstance(ids, Tensor):
                mask = inputs.get("attention_mask")
                real = torch.ones_like(ids) if mask is None else mask.to(ids.device)
                rows = zip(ids, real.bool(), strict=True)
                listener.announce([row[keep].tolist() for row, keep in rows])
            listener.depth += 1
            try:
                return inner(*args, **inputs)
            finally:
                listener.depth -= 1
                listener.full = None

        return generate

    def after(_module: nn.Module, _args: Any, inputs: dict, output: Any) -> Any:
        reading = listener.reading(inputs, output.logits.shape[1])
        output.logits = edit(output.logits, reading)
        return output

    with ExitStack() as stack:
        stack.enter_context(_replaced(model, "generate", generating))
        stack.enter_context(_replaced(model, "prepare_inputs_for_generation", prepare))
        for handle in (
            model.register_forward_pre_hook(listener.begin, with_kwargs=True),
            model.register_forward_hook(after, with_kwargs=True),
        ):
            stack.callback(handle.remove)
        known = _listening.setdefault(model, [])
        known.append(listener)
        stack.callback(known.remove, listener)
        yield lm
