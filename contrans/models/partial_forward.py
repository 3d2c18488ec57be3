"""Run a model from a block upwards, on a residual stream that was kept.

Blocks below an edit do not depend on it. So the stream after block `l` is computed
once, and for every strength only what lies above runs: blocks below `l` hand on what
they are given, block `l` returns the kept stream, and the model itself does the rest.
Cutting the list of blocks instead is silently wrong in families whose attention masks,
caches or scales go by the index of a block.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from contrans.models.anatomy import anatomy_of
from contrans.models.hooks import join_output, split_output
from contrans.models.lm import LM
from contrans.models.patching import After, Stop, Wrap, hooked, replaced, stoppable


@dataclass
class Stream:
    """The residual stream of one forward after some blocks, and the form of outputs."""

    at: dict[int, Tensor] = field(default_factory=dict)
    forms: dict[int, tuple[Any, ...] | None] = field(default_factory=dict)
    """What each block returned beside the stream; it differs by version and family."""

    @contextmanager
    def recording(
        self, lm: LM, layers: Iterable[int], *, stop: bool = False
    ) -> Iterator[None]:
        """Keep the stream after `layers` on every forward in the context.

        Args:
            lm: the model.
            layers: blocks after which to keep it.
            stop: end the forward after the deepest of them, with nothing returned.
        """
        wanted = set(layers)
        deepest = max(wanted, default=-1)

        def reader(layer: int) -> After:
            def hook(_module: Any, _args: Any, _options: Any, output: Any) -> None:
                hidden, rest = split_output(output)
                self.forms[layer] = rest and tuple(
                    None if isinstance(value, Tensor) else value for value in rest
                )
                if layer in wanted:
                    self.at[layer] = hidden
                if stop and layer == deepest:
                    raise Stop

            return hook

        with ExitStack() as stack:
            for layer in range(deepest + 1):
                stack.enter_context(hooked(lm.blocks[layer], after=reader(layer)))
            stack.enter_context(stoppable())
            yield

    @contextmanager
    def resumed(self, lm: LM, layer: int, hidden: Tensor) -> Iterator[None]:
        """Let forwards in the context begin after block `layer`, with `hidden`.

        Edits entered inside the context act on `hidden`, as they would on the output
        of the block.

        Args:
            lm: the model, as `load_model` returns it.
            layer: a block, counted from 0.
            hidden: output of that block, [batch, tokens, hidden].
        """

        def given(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
            return args[0] if args else options["hidden_states"]

        def skipping(below: int) -> Wrap:
            def forward(*args: Any, **options: Any) -> Any:
                return join_output(given(args, options), self.forms[below])

            return lambda _inner: forward

        def returning(*_args: Any, **_options: Any) -> Any:
            return join_output(hidden, self.forms[layer])

        with ExitStack() as stack:
            for below in range(layer):
                block = lm.blocks[below]
                stack.enter_context(replaced(block, "forward", skipping(below)))
            block = lm.blocks[layer]
            stack.enter_context(replaced(block, "forward", lambda _inner: returning))
            yield


FEW = 0.5
"""Share of the tokens up to which picking them out is worth it."""


def narrow(
    lm: LM, layer: int, rows: Tensor, columns: Tensor, tokens: int
) -> AbstractContextManager[None]:
    """Run what a block has above its attention at some tokens only, if that is worth it.

    What the block returns elsewhere is not to be used, nor what lies above it. Exact
    where no hook looks at other tokens (`contrans.models.hooks.reads_in_pieces`).

    Args:
        lm: the model.
        layer: that block, the last of the pass.
        rows: row of each wanted token of the batch.
        columns: its column.
        tokens: tokens of the whole batch.
    """
    if len(rows) > FEW * tokens or not can_narrow(lm, layer):
        return nullcontext()
    return _narrowed(lm, layer, rows, columns)


def can_narrow(lm: LM, layer: int) -> bool:
    """Whether it is known which modules of a block may be narrowed, and they are there."""
    return bool(_modules(lm, layer))


def _modules(lm: LM, layer: int) -> list[nn.Module]:
    known = anatomy_of(lm.model.config.get_text_config()).by_token
    try:
        return [lm.blocks[layer].get_submodule(path) for path in known]
    except AttributeError:  # another library has put its own module in between
        return []


@contextmanager
def _narrowed(lm: LM, layer: int, rows: Tensor, columns: Tensor) -> Iterator[None]:
    with ExitStack() as stack:
        for module in _modules(lm, layer):
            stack.enter_context(replaced(module, "forward", _at_some(rows, columns)))
        yield


def _at_some(rows: Tensor, columns: Tensor) -> Wrap:
    """What a module makes of some tokens; zeros elsewhere."""

    def around(inner: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(hidden: Tensor) -> Tensor:
            here = rows.to(hidden.device), columns.to(hidden.device)
            made = inner(hidden[here][None])[0]
            out = made.new_zeros(*hidden.shape[:2], made.shape[-1])
            out[here] = made
            return out

        return forward

    return around
