"""The one door to a model's insides: hooks on its modules, and methods put in place.

Everything of contrans that looks into a model or changes what it does enters here, and
leaves without a trace: after the context, in whatever order contexts end, and also when
setting up or the body of the context fails.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from typing import Any

from torch import nn

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""(module, args, keywords) -> None, or new (args, keywords)."""
After = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Any]
"""(module, args, keywords, output) -> None, or a new output."""
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Takes a method, gives the one to call instead."""


class Stop(Exception):
    """Raised inside a forward to skip what is left of it; see `stoppable`."""


@contextmanager
def stoppable() -> Iterator[None]:
    """A context that `Stop` ends quietly."""
    with suppress(Stop):
        yield


@contextmanager
def hooked(
    module: nn.Module, *, before: Before | None = None, after: After | None = None
) -> Iterator[None]:
    """Call `before` and `after` around every forward of a module in the context.

    Args:
        module: the module.
        before: gets (module, args, options); may return others.
        after: gets (module, args, options, output); may return another output.
    """
    with ExitStack() as stack:
        if before is not None:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
        if after is not None:
            handle = module.register_forward_hook(after, with_kwargs=True)
            stack.callback(handle.remove)
        yield


class _Replaced:
    """A method of one module, and what was wrapped around it, from the inside out."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        self.inner = getattr(module, name)
        self.own = name in vars(module)
        self.wraps: list[tuple[Wrap, bool]] = []
        self.outermost = self.inner

        @wraps(self.inner)  # transformers reads its signature
        def method(*args: Any, **options: Any) -> Any:
            return self.outermost(*args, **options)

        self.method = method
        method.replaced = self  # type: ignore[attr-defined]
        setattr(module, name, method)

    def change(self, wraps: list[tuple[Wrap, bool]]) -> None:
        """Wrap these around the method; after the last, the module is as it was."""
        self.wraps, self.outermost = wraps, self.inner
        for wrap, _ in wraps:
            self.outermost = wrap(self.outermost)
        if wraps or vars(self.module).get(self.name) is not self.method:
            return
        if self.own:
            setattr(self.module, self.name, self.inner)
        else:
            delattr(self.module, self.name)


@contextmanager
def replaced(
    module: nn.Module, name: str, wrap: Wrap, *, by_token: bool = False
) -> Iterator[None]:
    """Put `wrap(method)` in the place of a method of one module for a while.

    Contexts nest: an inner one wraps what the outer one put there.

    Args:
        module: whose method.
        name: such as "forward".
        wrap: what to make of the method.
        by_token: the change looks at one token at a time; see `changed_by_token`.
    """
    found = _found(module, name) or _Replaced(module, name)
    mine = (wrap, by_token)
    found.change([*found.wraps, mine])
    try:
        yield
    finally:
        found.change([other for other in found.wraps if other is not mine])


def _found(module: nn.Module, name: str) -> _Replaced | None:
    """What `replaced` has put there, if nobody else has put something on top."""
    method = vars(module).get(name)
    found = getattr(method, "replaced", None)
    return found if isinstance(found, _Replaced) and found.method is method else None


def changed_by_token(module: nn.Module) -> bool:
    """Whether all that was put around a module looks at one token at a time.

    Hooks are not known to, unless they are transformers' own, which record and never
    change a state; nor is a `forward` that contrans has not put there.
    """
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if not all(map(_is_reader, hooks)):
        return False
    if is_own(vars(module).get("forward"), module) or hasattr(module, "_hf_hook"):
        return True  # the latter: accelerate's
    found = _found(module, "forward")
    return found is not None and all(by_token for _, by_token in found.wraps)


def is_own(forward: Any, module: nn.Module) -> bool:
    """Whether a module's `forward` is that of its class; transformers 4 may set it anew."""
    return forward is None or getattr(forward, "__func__", None) is type(module).forward


def _is_reader(hook: Any) -> bool:
    function = getattr(hook, "func", hook)
    return str(getattr(function, "__module__", "")).startswith("transformers.")
