"""Methods beyond the transplant: one file each, all of them controls.

They run through the same `evaluate` as a transplanted vector, so that intervals and
paired differences compare like with like.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "ProxyTuning": "proxy_tuning",
    "InstAlign": "inst_align",
    "AlignTraining": "align_training",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.control.methods.align_training import AlignTraining as AlignTraining
    from contrans.control.methods.inst_align import InstAlign as InstAlign
    from contrans.control.methods.proxy_tuning import ProxyTuning as ProxyTuning


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.control.methods.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.control.methods' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
