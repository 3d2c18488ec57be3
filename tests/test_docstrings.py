"""Public functions with three or more parameters say what they take and raise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import contrans

ROOT = Path(contrans.__file__).parent
FEWEST = 3
"""Parameters from which a function needs its sections."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Public functions of a module, and public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, f"{prefix}{node.name}.")
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node


def parameters(function: Function) -> list[str]:
    """Names of what a caller gives."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def raises(function: Function) -> bool:
    """Whether the function itself raises an error that is new to the caller."""
    inner = [n for n in ast.walk(function) if isinstance(n, Function) and n != function]
    hidden = {node for one in inner for node in ast.walk(one)}
    return any(
        isinstance(node, ast.Raise) and node.exc is not None and node not in hidden
        for node in ast.walk(function)
    )


def missing(source: str) -> dict[str, list[str]]:
    """Functions of a module, and what their docstrings lack.

    Every parameter is to be named under `Args:`, where they are not those of a command
    (whose help stands beside each) or of an overload.
    """
    found: dict[str, list[str]] = {}
    for name, function in functions(ast.parse(source).body):
        decorated = [ast.unparse(d) for d in function.decorator_list]
        names = parameters(function)
        if len(names) < FEWEST or any(
            "overload" in d or "override" in d for d in decorated
        ):
            continue
        text = ast.get_docstring(function) or ""
        told = text.partition("Args:\n")[2]
        told = re.split(r"\n(?=\S)", told)[0]
        lacking = [
            p for p in names if not re.search(rf"^ +(\w+, )*\*?{p}\b", told, re.M)
        ]
        if "Annotated" in ast.unparse(function.args):
            continue
        if raises(function) and "Raises:\n" not in text:
            lacking.append("Raises")
        if lacking:
            found[name] = lacking
    return found


MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.py")
    if not any(part.startswith("_") for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("module", MODULES)
def test_functions_with_many_parameters_are_documented(module: str):
    assert missing((ROOT / module).read_text("utf-8")) == {}


def test_what_is_missing_is_found():
    source = '''
def whole(a, b, *, c):
    """Do it.

    Args:
        a: [batch, hidden].
        b, c: in nats.

    Raises:
        ValueError: when it cannot be.
    """
    raise ValueError("no")

def few(a, b): "Do it."

def part(a, b, c):
    """Do it.

    Args:
        a: one.
    """
    raise ValueError("no")
'''
    assert missing(source) == {"part": ["b", "c", "Raises"]}
