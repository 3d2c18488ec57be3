"""What a model is really given in a call: its cache, and what each token of the call is.

Releases of transformers before 5.24 call the cache `past_key_values`, later ones
`cache`; this file is the one place that knows. Where the tokens of a call stand, which
of them are padding, which begin a text and which were generated is read off the call
itself (mask, position ids, length of the cache) and off the `generate()` that makes it.
A call of which it cannot be known is an error, never a guess.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from contrans.models.lm import LM
from contrans.models.patching import hooked, replaced

CACHE_NAMES = ("cache", "past_key_values")
"""What transformers calls the cache: from 5.24 on, and before."""


def takes(module: nn.Module) -> tuple[str, ...]:
    """The names of what a module's forward takes, in their order."""
    if "forward" in vars(module):  # somebody's own
        return tuple(signature(module.forward).parameters)
    return _takes(type(module))


@lru_cache(maxsize=128)
def _takes(kind: type[nn.Module]) -> tuple[str, ...]:
    return tuple(signature(kind.forward).parameters)[1:]


def arguments(
    module: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a module is called with, by name.

    Args:
        module: the module that is called.
        args: by place.
        options: by name.
    """
    return dict(zip(takes(module), args, strict=False)) | dict(options)


def with_cache(model: nn.Module, cache: Any) -> dict[str, Any]:
    """The keyword under which a model takes a cache; none for None."""
    if cache is None:
        return {}
    known = takes(model)
    return {next((n for n in CACHE_NAMES if n in known), CACHE_NAMES[0]): cache}


def cache_given(options: Mapping[str, Any]) -> Any:
    """The cache that a model is called with, under either name."""
    found = (options.get(name) for name in CACHE_NAMES)
    return next((cache for cache in found if cache is not None), None)


def cache_made(output: Any) -> Any:
    """The cache that a model gives back, under either name; None without one."""
    for name in CACHE_NAMES:
        if hasattr(type(output), name):
            return getattr(output, name)
    return None


def cached_tokens(cache: Any) -> int:
    """How many tokens a cache holds, padding included.

    Raises:
        ValueError: for a cache that does not tell.
    """
    if cache is None:
        return 0
    if isinstance(cache, tuple):  # the old form, a pair of tensors for each block
        return int(cache[0][0].shape[-2]) if cache else 0
    if not hasattr(cache, "get_seq_length"):
        raise ValueError(
            f"a cache of type {type(cache).__name__} does not say how many tokens it "
            "holds, so the positions of a call with it cannot be known; use one of "
            "transformers' caches with `get_seq_length`, or edit all positions"
        )
    return int(cache.get_seq_length())


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a model. Columns count from the beginning of the texts, padding too."""

    ids: Tensor | None
    """Token ids of the call, [rows, columns]; None where it was given embeddings."""
    mask: Tensor | None
    """1 for real tokens, [rows, past + columns]; None: all are."""
    position_ids: Tensor | None
    """As given, [rows or 1, columns]."""
    rows: int
    columns: int
    past: int
    """Columns before those of the call, which are in the cache."""
    prompt: int | None = None
    """Columns of the prompt, in a call that `generate()` makes."""
    full: Tensor | None = None
    """Token ids from the beginning, [rows, past + columns], where they are known."""
    known: bool = True
    """Whether padding can be told: not from a mask made for attention alone."""

    def real(self, device: torch.device) -> Bool[Tensor, "rows columns"]:
        """Which tokens of the call are no padding.

        Raises:
            ValueError: when the call does not tell.
        """
        if not self.known:
            raise ValueError(
                "the model was called with an attention mask that is not of rows and "
                "tokens, so which tokens are padding cannot be known; pass the "
                "tokenizer's attention_mask, or edit all positions"
            )
        if self.mask is None:
            return torch.ones(self.rows, self.columns, dtype=torch.bool, device=device)
        end = self.past + self.columns
        if self.mask.shape[1] < end:
            raise ValueError(
                f"the attention mask covers {self.mask.shape[1]} tokens, but the model "
                f"was called with {self.columns} after {self.past} in its cache; pass "
                f"a mask of all {end}"
            )
        return self.mask[:, self.past : end].to(device, torch.bool)

    def generated(self, device: torch.device) -> Bool[Tensor, " columns"]:
        """Which columns of the call `generate()` has written, or a loop like it.

        In a call by hand, a text without a cache is read, not written; one token after
        a cache is the next one that was generated.

        Raises:
            ValueError: for several tokens after a cache outside `generate()`: the rest
                of a long prompt, or candidates.
        """
        index = torch.arange(self.past, self.past + self.columns, device=device)
        if self.prompt is not None:
            return index >= self.prompt
        if self.past and self.columns > 1:
            raise ValueError(
                f"the model was called with {self.columns} tokens after {self.past} in "
                "its cache, outside generate(); whether they are prompt or generated "
                "cannot be known: use generate(), give generated tokens one at a time, "
                "or edit all positions"
            )
        return index >= (self.past or self.columns)

    def begins(self, bos: frozenset[int], device: torch.device) -> Tensor:
        """Which tokens are a BOS where a text begins, [rows, columns].

        A text begins at the first real token of a row and, where several stand in a
        row, wherever positions begin again.

        Raises:
            ValueError: when the call holds the beginning of a text, but no token ids.
        """
        first = torch.zeros(self.rows, self.columns, dtype=torch.bool, device=device)
        real = self.real(device)
        if not bos:
            return first
        mask = self.mask
        if mask is None:
            start = torch.zeros(self.rows, dtype=torch.long, device=device)
        else:
            start = mask.to(device).long().argmax(1)
        here = start - self.past
        seen = (here >= 0) & (here < self.columns)
        rows = torch.arange(self.rows, device=device)
        first[rows[seen], here[seen]] = True
        if self.position_ids is not None:
            first |= self.position_ids.to(device) == 0
        first &= real
        if self.ids is None:
            if bool(first.any()):
                raise ValueError(
                    "the model was called with embeddings, so whether a text begins "
                    "with BOS cannot be known; pass input_ids, or leave skip_bos out"
                )
            return first
        known = torch.tensor(sorted(bos), dtype=self.ids.dtype, device=device)
        return first & torch.isin(self.ids.to(device), known)


@dataclass(eq=False)
class _Prepared:
    """What `generate()` is about to call the model with."""

    inputs: Mapping[str, Any]
    ids: Tensor
    mask: Tensor | None


@dataclass(eq=False)
class Calls:
    """Follows the calls of a model while a `watching` context lasts."""

    now: Call | None = None
    """The call that runs, or ran last."""
    depth: int = 0
    """How many calls of `generate()` are running."""
    users: int = 0
    _prompt: int | None = None
    _prepared: _Prepared | None = None
    _seen: dict[str, Any] = field(default_factory=dict)
    _level: int = 0
    _read: Tensor | None = None
    """Ids of the chunks of a prompt that were read."""

    @property
    def call(self) -> Call:
        """The call that runs.

        Raises:
            RuntimeError: outside of one.
        """
        if self.now is None:
            raise RuntimeError("no call of the model was seen; edit inside a forward")
        return self.now

    def note(
        self, level: int, module: nn.Module, args: tuple[Any, ...], options: dict
    ) -> None:
        """A module is called; those further in may be given less.

        Args:
            level: how far in the module lies, 0 is the outermost.
            module: the module.
            args: by place.
            options: by name.
        """
        given = arguments(module, args, options)
        if level <= self._level:  # a new call
            self._seen = {}
        self._level = level
        new = {k: v for k, v in given.items() if v is not None}
        mask = new.get("attention_mask")
        flat = isinstance(mask, Tensor) and mask.dim() == 2
        if not flat and "attention_mask" in self._seen:
            new.pop("attention_mask", None)  # made of the one seen further out
        self._seen |= new

    def begin(
        self, level: int, module: nn.Module, args: tuple[Any, ...], options: dict
    ) -> None:
        """The innermost of the modules is called: all of the call is known.

        Args:
            level: how far in the module lies, 0 is the outermost.
            module: the module.
            args: by place.
            options: by name.
        """
        self.note(level, module, args, options)
        given, self._seen, self._level = self._seen, {}, 0
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        prepared, self._prepared = self._prepared, None
        if prepared is not None and not _same(prepared.inputs, given):
            prepared = None
        shown = embeds if embeds is not None else ids
        if shown is None:
            self.now = None
            return
        rows, columns = shown.shape[:2]
        ids = ids if ids is not None and ids.shape == (rows, columns) else None
        start = given.get("cache_position")  # transformers 4
        past = (
            cached_tokens(cache_given(given))
            if start is None or not len(start)
            else int(start[0])
        )
        mask = given.get("attention_mask")
        if prepared is not None:
            mask = prepared.mask
        flat = mask is None or (isinstance(mask, Tensor) and mask.dim() == 2)
        position_ids = given.get("position_ids")
        if position_ids is not None and position_ids.dim() != 2:
            position_ids = None
        self.now = Call(
            ids,
            mask if flat else None,
            position_ids,
            rows,
            columns,
            past,
            None if prepared is None else self._prompt,
            self._full(ids, prepared, past, columns),
            flat,
        )

    def _full(
        self, ids: Tensor | None, prepared: _Prepared | None, past: int, columns: int
    ) -> Tensor | None:
        """Token ids from the beginning, also where a prompt is read in chunks."""
        if ids is None or not past:
            full = ids
        elif prepared is None:
            return None
        elif prepared.ids.shape[1] == past + columns:
            full = prepared.ids
        elif self._read is not None and self._read.shape == (len(ids), past):
            full = torch.cat([self._read, ids], dim=1)
        else:
            return None
        self._read = full if prepared is not None else None
        return full

    def generating(self, inner: Any) -> Any:
        """`generate()`, its prompt remembered; a compiled forward would skip hooks."""

        def generate(*args: Any, **options: Any) -> Any:
            if self.depth == 0:
                self._prompt = _prompt_columns(args, options)
            self.depth += 1
            try:
                return inner(*args, **{"disable_compile": True} | options)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self._prompt = self._prepared = self._read = None

        return generate

    def preparing(self, inner: Any) -> Any:
        """What `generate()` makes the inputs of each call with."""

        def prepare(input_ids: Tensor, *args: Any, **options: Any) -> Any:
            made = inner(input_ids, *args, **options)
            if self.depth:
                mask = options.get("attention_mask")
                self._prepared = _Prepared(made, input_ids, mask)
            return made

        return prepare


def _prompt_columns(args: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    """Columns of the prompt that `generate()` is called with, padding included.

    A mask covers it all, also where the ids are those that a cache does not hold yet.
    """
    ids = options.get("input_ids", options.get("inputs", *args[:1]))
    given = (options.get("attention_mask"), options.get("inputs_embeds"), ids)
    shown = next((x for x in given if x is not None), None)
    return 1 if shown is None else int(shown.shape[1])  # a BOS alone


def _same(prepared: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a call is given what was prepared for it."""
    for name in ("inputs_embeds", "input_ids"):
        one, other = prepared.get(name), given.get(name)
        if one is not None:
            return other is one or (
                isinstance(other, Tensor)
                and other.shape == one.shape
                and torch.equal(other.to(one.device), one)
            )
    return False


_WATCHED: WeakKeyDictionary[nn.Module, tuple[Calls, ExitStack]] = WeakKeyDictionary()


@contextmanager
def watching(lm: LM) -> Iterator[Calls]:
    """Follow the calls of a model while the context lasts.

    The module that holds the blocks is the one that always runs; ids and the flat mask
    may be known further out only, as in multimodal models. All who watch a model share
    one `Calls`.
    """
    if lm.model not in _WATCHED:
        calls = Calls()
        parent = lm.model.get_submodule(lm.blocks_path.rpartition(".")[0])
        modules = list(dict.fromkeys((lm.model, lm.body, parent)))
        with ExitStack() as stack:
            for name, wrap in (
                ("generate", calls.generating),
                ("prepare_inputs_for_generation", calls.preparing),
            ):
                if hasattr(lm.model, name):
                    stack.enter_context(replaced(lm.model, name, wrap, by_token=True))
            for level, module in enumerate(modules, start=1):
                follow = calls.begin if module is parent else calls.note
                hook = partial(follow, level)
                stack.enter_context(hooked(module, before=hook))
            _WATCHED[lm.model] = calls, stack.pop_all()
    calls, stack = _WATCHED[lm.model]
    calls.users += 1
    try:
        yield calls
    finally:
        calls.users -= 1
        if not calls.users:
            del _WATCHED[lm.model]
            stack.close()
