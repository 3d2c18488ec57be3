"""The only hooks in contrans: read and edit the residual stream.

Layer `l` is the output of block `l`, after both residual additions and before the
final norm. A block returns a tensor or a tuple, depending on the library version and
family: `split_output` is the one place that knows.

Reading uses forward hooks. Editing replaces the block's `forward`, because releases of
transformers before 5 record `output_hidden_states` between the forward and the hooks:
so every reader, ours or theirs, sees the edited stream.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

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
            lm.body(
                **inputs,
                use_cache=False,
                output_hidden_states=False,  # transformers 4 would stay patched
                output_attentions=False,
            )
        except _Stop:
            return


def _past_length(past: Any) -> int:
    """Tokens in a key-value cache, also in the old form of tuples."""
    if past is None:
        return 0
    if isinstance(past, tuple):
        return int(past[0][0].shape[-2]) if past else 0
    return int(past.get_seq_length())


def _grown(last: Tensor | None, now: Tensor) -> bool:
    """Whether `now` is `last` plus one token a row; beams may have changed places."""
    if last is None or now.dim() != last.dim() or now.shape[0] != last.shape[0]:
        return False
    if now.shape[1] != last.shape[1] + 1:
        return False
    old = now[:, :-1].flatten(1)
    same = (old[:, None] == last.flatten(1)[None]).all(-1)
    return bool(same.any(1).all())


@dataclass
class TokenTracker:
    """What the tokens of the current forward are: prompt or generated, BOS, padding.

    A block sees states only. The tracker listens to the inputs of the modules around
    the blocks and works with and without a key-value cache: tokens of a forward that
    brings no past, and does not extend the one before by one token, are prompt.
    """

    bos: frozenset[int] = frozenset()
    """Ids that count as BOS at the beginning of a text."""
    ids: Tensor | None = None
    mask: Tensor | None = None
    past: int = 0
    _seen: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _prompt: int = 0
    _last: Tensor | None = field(default=None, repr=False)

    @contextmanager
    def listening(self, lm: LM) -> Iterator[None]:
        """Follow the forwards of a model while the context lasts.

        The module that holds the blocks is the one that always runs; ids and the flat
        mask may be known further out only, as in multimodal models.
        """
        parent = lm.model.get_submodule(lm.blocks_path.rpartition(".")[0])
        with ExitStack() as stack:
            for module in {lm.model, lm.body, parent}:
                hook = self._begin if module is parent else self._note
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            yield

    def _note(self, _module: Any, args: tuple[Any, ...], inputs: dict) -> None:
        """Remember ids and mask where a module is given them."""
        ids = inputs.get("input_ids", args[0] if args else None)
        for name, value in (("ids", ids), ("mask", inputs.get("attention_mask"))):
            if isinstance(value, Tensor) and value.dim() == 2:
                self._seen[name] = value

    def _begin(self, module: Any, args: tuple[Any, ...], inputs: dict) -> None:
        """A forward reaches the module of the blocks."""
        self._note(module, args, inputs)
        self.ids, self.mask = self._seen.pop("ids", None), self._seen.pop("mask", None)
        self.past = _past_length(inputs.get("past_key_values"))
        now = self.ids if self.ids is not None else inputs.get("inputs_embeds")
        if now is None or self.past:
            return
        if not _grown(self._last, now):
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
        """The first real token of each row, where the text puts a BOS there."""
        batch, tokens = hidden.shape[:2]
        found = torch.zeros(batch, tokens, dtype=torch.bool, device=hidden.device)
        if self.ids is None:
            return found
        ids = self.ids.to(hidden.device)
        start = torch.zeros(batch, dtype=torch.long, device=hidden.device)
        if self.mask is not None:
            start = self.mask.to(hidden.device).long().argmax(1)
        rows = torch.arange(batch, device=hidden.device)
        known = torch.tensor(sorted(self.bos), dtype=ids.dtype, device=hidden.device)
        found[rows, start] = torch.isin(ids[rows, start], known)
        return found


class _EditedForward:
    """A block's forward, and the changes made to what it returns."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.inner = block.forward
        self.own = "forward" in vars(block)
        self.changes: list[Callable[[Any], Any]] = []
        self.by_token: list[bool] = []

        @wraps(self.inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            output = self.inner(*args, **kwargs)
            for change in self.changes:
                output = change(output)
            return output

        self.forward = forward
        forward.edited = self  # type: ignore[attr-defined]
        block.forward = forward

    def remove(self, change: Callable[[Any], Any]) -> None:
        """Take one change back; after the last, the block is as it was."""
        kept = [c is not change for c in self.changes]
        self.by_token = [t for t, keep in zip(self.by_token, kept, strict=True) if keep]
        self.changes = [c for c, keep in zip(self.changes, kept, strict=True) if keep]
        if self.changes or vars(self.block).get("forward") is not self.forward:
            return
        if self.own:
            self.block.forward = self.inner
        else:
            del self.block.forward


@contextmanager
def _changed_output(
    block: nn.Module, change: Callable[[Any], Any], by_token: bool
) -> Iterator[None]:
    """Pass what a block returns through `change`, after the changes already there."""
    edited = getattr(vars(block).get("forward"), "edited", None)
    if not isinstance(edited, _EditedForward) or edited.block is not block:
        edited = _EditedForward(block)
    edited.changes = [*edited.changes, change]
    edited.by_token = [*edited.by_token, by_token]
    try:
        yield
    finally:
        edited.remove(change)


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
        positions: "all" tokens, those of the "prompt", or "generated" ones.
        skip_bos: leave a leading BOS token alone.
        by_token: the edits look at one token at a time and not at where it stands, so
            a text may be read in pieces (see `reads_in_pieces`).

    Contexts nest: an inner one edits what the outer one made. Every edit is gone after
    its context, also when setting up or the body of the context fails. A backward pass
    with gradient checkpointing runs blocks again, so keep it inside the context.
    """
    bos = [*lm.special_affixes[0][:1], lm.tokenizer.bos_token_id]
    tracker = TokenTracker(bos=frozenset(i for i in bos if isinstance(i, int)))
    tracked = positions != "all" or skip_bos

    def editor(edit: Edit) -> Callable[[Any], Any]:
        def change(output: Any) -> Any:
            hidden, rest = split_output(output)
            edited = edit(hidden)
            keep = tracker.select(hidden, positions, skip_bos) if tracked else None
            if keep is not None:
                edited = torch.where(keep, edited, hidden)
            return join_output(edited, rest)

        return change

    with ExitStack() as stack:
        if tracked:
            stack.enter_context(tracker.listening(lm))
        for layer, edit in edits.items():
            block = lm.blocks[lm.layer(layer)]
            free = by_token and not tracked
            stack.enter_context(_changed_output(block, editor(edit), free))
        yield lm


def reads_in_pieces(lm: LM) -> bool:
    """Whether a text may now be read in pieces with a cache, to the same result.

    So it is for the model itself and under edits that declared themselves `by_token`.
    Hooks, replaced forwards and blocks that contrans does not know may look at whole
    texts.
    """
    if any(not type(b).__module__.startswith("transformers") for b in lm.blocks):
        return False
    for module in lm.model.modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if any(not _is_reader(hook) for hook in hooks):
            return False
        forward = vars(module).get("forward")
        if is_own(forward, module) or hasattr(module, "_hf_hook"):  # accelerate's
            continue
        edited = getattr(forward, "edited", None)
        if not isinstance(edited, _EditedForward) or not all(edited.by_token):
            return False
    return True


def is_own(forward: Any, module: nn.Module) -> bool:
    """Whether a module's `forward` is that of its class; transformers 4 may set it anew."""
    return forward is None or getattr(forward, "__func__", None) is type(module).forward


def _is_reader(hook: Any) -> bool:
    """Transformers' own hooks, which record and never change a state."""
    function = getattr(hook, "func", hook)
    return str(getattr(function, "__module__", "")).startswith("transformers.")
