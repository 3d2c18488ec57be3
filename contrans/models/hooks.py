"""The residual stream: read it, and edit it.

Layer `l` is the output of block `l`, after both residual additions and before the
final norm. A block returns a tensor or a tuple, depending on the library version and
family: `split_output` is the one place that knows.

Reading uses forward hooks. Editing replaces the block's `forward`, because releases of
transformers before 5 record `output_hidden_states` between the forward and the hooks:
so every reader, ours or theirs, sees the edited stream.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrans.models.calls import Call, Calls, watching
from contrans.models.lm import LM
from contrans.models.patching import (
    After,
    Stop,
    changed_by_token,
    hooked,
    replaced,
    stoppable,
)

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


@contextmanager
def read_residual(
    lm: LM, layers: Iterable[int], sink: Callable[[int, Tensor], None]
) -> Iterator[None]:
    """Hand the output of each of `layers` to `sink(layer, hidden)` on every forward.

    Args:
        lm: the model, as `load_model` returns it.
        layers: blocks that are read, counted from 0.
        sink: called with (layer, hidden), hidden of [batch, tokens, hidden].
    """

    def reader(layer: int) -> After:
        def hook(_module: Any, _args: Any, _options: Any, output: Any) -> None:
            sink(layer, split_output(output)[0])

        return hook

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(hooked(lm.blocks[layer], after=reader(layer)))
        yield


@torch.no_grad()
def run_until(
    lm: LM,
    layers: Iterable[int],
    sink: Callable[[int, Tensor], None],
    **inputs: Tensor,
) -> None:
    """One forward of the body, stopped after the deepest of `layers`; no `lm_head`.

    Args:
        lm: the model, as `load_model` returns it.
        layers: blocks that are read, counted from 0.
        sink: called with (layer, hidden), hidden of [batch, tokens, hidden].
        **inputs: of the forward, such as input_ids and attention_mask.
    """
    wanted = sorted(layers)

    def stopping(layer: int, hidden: Tensor) -> None:
        sink(layer, hidden)
        if layer == wanted[-1]:
            raise Stop

    with stoppable(), read_residual(lm, wanted, stopping):
        lm.body(
            **inputs,
            use_cache=False,
            output_hidden_states=False,  # transformers 4 would stay patched
            output_attentions=False,
        )


def _chosen(
    call: Call, hidden: Tensor, positions: str, skip_bos: bool, bos: frozenset[int]
) -> Bool[Tensor, "batch tokens 1"]:
    """Which tokens of a call to edit."""
    if hidden.shape[:2] != (call.rows, call.columns):
        raise ValueError(
            f"a block was given states of {tuple(hidden.shape[:2])} rows and tokens in a "
            f"call with {(call.rows, call.columns)}, so their positions cannot be "
            "known; edit all positions"
        )
    keep = call.real(hidden.device)
    if positions != "all":
        generated = call.generated(hidden.device)
        keep = keep & (generated if positions == "generated" else ~generated)
    if skip_bos:
        keep = keep & ~call.begins(bos, hidden.device)
    return keep[..., None]


@contextmanager
def edit_residual(
    lm: LM,
    edits: Mapping[int, Edit],
    *,
    positions: str = "all",
    skip_bos: bool = False,
    by_token: bool = False,
) -> Iterator[LM]:
    """Replace the output of some blocks while the context lasts.

    Args:
        lm: the model.
        edits: for each layer, a function from the old stream to the new one.
        positions: "all" tokens, those of the "prompt", or "generated" ones. A text that
            is read in one call without a cache is all prompt; in a loop by hand, one
            token after a cache is generated (see `contrans.models.calls`).
        skip_bos: leave a leading BOS token alone.
        by_token: the edits look at one token at a time and not at where it stands, so
            a text may be read in pieces (see `reads_in_pieces`).

    Contexts nest: an inner one edits what the outer one made. Every edit is gone after
    its context, also when setting up or the body of the context fails. A backward pass
    with gradient checkpointing runs blocks again, so keep it inside the context.
    """
    named = [*lm.special_affixes[0][:1], lm.tokenizer.bos_token_id]
    bos = frozenset(i for i in named if isinstance(i, int))
    tracked = positions != "all" or skip_bos

    def editor(edit: Edit, calls: Calls | None) -> Callable[..., Any]:
        def around(inner: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **options: Any) -> Any:
                hidden, rest = split_output(inner(*args, **options))
                edited = edit(hidden)
                if calls is not None:
                    keep = _chosen(calls.call, hidden, positions, skip_bos, bos)
                    edited = torch.where(keep, edited, hidden)
                return join_output(edited, rest)

            return forward

        return around

    with ExitStack() as stack:
        calls = stack.enter_context(watching(lm)) if tracked else None
        for layer, edit in edits.items():
            block = lm.blocks[lm.layer(layer)]
            wrap = editor(edit, calls)
            free = by_token and not tracked
            stack.enter_context(replaced(block, "forward", wrap, by_token=free))
        yield lm


def reads_in_pieces(lm: LM) -> bool:
    """Whether a text may now be read in pieces with a cache, to the same result.

    So it is for the model itself and under edits that declared themselves `by_token`.
    Hooks, replaced forwards and blocks that contrans does not know may look at whole
    texts.
    """
    if any(not type(b).__module__.startswith("transformers") for b in lm.blocks):
        return False
    return all(map(changed_by_token, lm.model.modules()))
