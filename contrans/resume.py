"""Run a model from a block upwards, on a residual stream that was kept.

Blocks below an edit do not depend on it. So the stream after block `l` is computed
once, and for every strength only what lies above runs: blocks below `l` hand on what
they are given, block `l` returns the kept stream, and the model itself does the rest.
Cutting the list of blocks instead is silently wrong in families whose attention masks,
caches or scales go by the index of a block.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from contrans.hooks import join_output, split_output
from contrans.models import LM
from contrans.patching import After, Stop, Wrap, hooked, replaced, stoppable


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
