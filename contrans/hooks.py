"""The only hooks in contrans: read and edit the residual stream.

Layer `l` is the output of block `l`, after both residual additions and before the
final norm. A block returns a tensor or a tuple, depending on the library version and
family: `split_output` is the one place that knows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrans.models import LM

Edit = Callable[[Float[Tensor, "batch tokens hidden"]], Tensor]
"""Takes the residual stream, returns a new one; never changes its argument."""


def split_output(output: Any) -> tuple[Tensor, tuple[Any, ...] | None]:
    """The hidden state in a block's output, and what came with it (None: nothing)."""
    if isinstance(output, Tensor):
        return output, None
    return output[0], tuple(output[1:])


def join_output(hidden: Tensor, rest: tuple[Any, ...] | None) -> Any:
    """Put a hidden state back into the form that `split_output` found."""
    return hidden if rest is None else (hidden, *rest)


class _Stop(Exception):
    """Raised by the deepest block that is read, to skip what lies above."""


@contextmanager
def read_residual(
    lm: LM, layers: Iterable[int], sink: Callable[[int, Tensor], None]
) -> Iterator[None]:
    """Hand the output of each of `layers` to `sink(layer, hidden)` on every forward."""

    def reader(layer: int) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            sink(layer, split_output(output)[0])

        return hook

    with ExitStack() as stack:
        for layer in layers:
            handle = lm.blocks[layer].register_forward_hook(reader(layer))
            stack.callback(handle.remove)
        yield


@torch.no_grad()
def run_until(
    lm: LM,
    layers: Iterable[int],
    sink: Callable[[int, Tensor], None],
    **inputs: Tensor,
) -> None:
    """One forward of the body, stopped after the deepest of `layers`; no `lm_head`."""
    wanted = sorted(layers)

    def stopping(layer: int, hidden: Tensor) -> None:
        sink(layer, hidden)
        if layer == wanted[-1]:
            raise _Stop

    with read_residual(lm, wanted, stopping):
        try:
            lm.body(**inputs, use_cache=False)
        except _Stop:
            return


@dataclass
class TokenTracker:
    """What the tokens of the current forward are: prompt or generated, BOS, padding.

    A block sees states only. The tracker listens to the body's inputs and works with
    and without a key-value cache: tokens of a forward that brings no past, and does
    not extend the one before by one token, are prompt.
    """

    bos: int | None
    ids: Tensor | None = None
    mask: Tensor | None = None
    past: int = 0
    _prompt: int = 0
    _last: Tensor | None = field(default=None, repr=False)

    def observe(self, _module: Any, args: tuple[Any, ...], inputs: dict) -> None:
        """A forward pre-hook of the model's body."""
        ids = inputs.get("input_ids", args[0] if args else None)
        self.ids = ids if isinstance(ids, Tensor) else None
        mask = inputs.get("attention_mask")
        self.mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        past = inputs.get("past_key_values")
        self.past = int(past.get_seq_length()) if past is not None else 0
        if self.ids is None or self.past:
            return
        last, now = self._last, self.ids
        grown = (
            last is not None
            and now.shape[0] == last.shape[0]
            and now.shape[1] == last.shape[1] + 1
            and torch.equal(now[:, : self._prompt], last[:, : self._prompt])
        )
        if not grown:
            self._prompt = now.shape[1]
        self._last = now

    def select(
        self, hidden: Tensor, positions: str, skip_bos: bool
    ) -> Bool[Tensor, "batch tokens 1"] | None:
        """Which tokens to edit; None means all of them."""
        if positions == "all" and not skip_bos:
            return None
        batch, tokens = hidden.shape[:2]
        keep = torch.ones(batch, tokens, dtype=torch.bool, device=hidden.device)
        index = torch.arange(self.past, self.past + tokens, device=hidden.device)
        generated = index >= (self.past or self._prompt)
        if positions == "prompt":
            keep &= ~generated
        elif positions == "generated":
            keep &= generated
        if self.mask is not None:
            keep &= self.mask[:, -tokens:].to(hidden.device, torch.bool)
        if skip_bos and not self.past:
            keep &= ~self._is_first(hidden)
        return keep[..., None]

    def _is_first(self, hidden: Tensor) -> Tensor:
        """The first real token of each row, where the model puts a BOS there."""
        batch, tokens = hidden.shape[:2]
        found = torch.zeros(batch, tokens, dtype=torch.bool, device=hidden.device)
        if self.bos is None or self.ids is None:
            return found
        start = torch.zeros(batch, dtype=torch.long, device=hidden.device)
        if self.mask is not None:
            start = self.mask.to(hidden.device).long().argmax(1)
        rows = torch.arange(batch, device=hidden.device)
        found[rows, start] = self.ids.to(hidden.device)[rows, start] == self.bos
        return found


@contextmanager
def edit_residual(
    lm: LM,
    edits: Mapping[int, Edit],
    *,
    positions: str = "all",
    skip_bos: bool = False,
) -> Iterator[LM]:
    """Replace the output of some blocks while the context lasts.

    Args:
        lm: the model.
        edits: for each layer, a function from the old stream to the new one.
        positions: "all" tokens, those of the "prompt", or "generated" ones.
        skip_bos: leave a leading BOS token alone.

    The hooks run before those that transformers installs for `output_hidden_states`,
    so recorded states are the edited ones. All hooks are gone after the context, also
    when setting up or the body of the context fails.
    """
    prefix = lm.special_affixes[0]
    tracker = TokenTracker(bos=prefix[0] if prefix else None)
    tracked = positions != "all" or skip_bos

    def editor(edit: Edit) -> Callable[..., Any]:
        def hook(_module: Any, _args: Any, output: Any) -> Any:
            hidden, rest = split_output(output)
            edited = edit(hidden)
            keep = tracker.select(hidden, positions, skip_bos) if tracked else None
            if keep is not None:
                edited = torch.where(keep, edited, hidden)
            return join_output(edited, rest)

        return hook

    with ExitStack() as stack:
        if tracked:
            handle = lm.body.register_forward_pre_hook(
                tracker.observe, with_kwargs=True
            )
            stack.callback(handle.remove)
        for layer, edit in edits.items():
            block = lm.blocks[lm.layer(layer)]
            handle = block.register_forward_hook(editor(edit), prepend=True)
            stack.callback(handle.remove)
        yield lm
