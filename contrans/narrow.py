"""Above the attention of the last block that is needed, only wanted tokens matter.

All of a block but the attention itself looks at one token at a time. So where a pass ends
after a block, and the stream is read at a few tokens, the output of the attention and the
MLP need not be made for the others: three quarters of that block's products.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import Tensor, nn

from contrans.anatomy import anatomy_of
from contrans.models import LM
from contrans.patching import Wrap, replaced

FEW = 0.5
"""Share of the tokens up to which picking them out is worth it."""


def narrow(
    lm: LM, layer: int, rows: Tensor, columns: Tensor, tokens: int
) -> AbstractContextManager[None]:
    """Run what a block has above its attention at some tokens only, if that is worth it.

    What the block returns elsewhere is not to be used, nor what lies above it. Exact
    where no hook looks at other tokens (`contrans.hooks.reads_in_pieces`).

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
