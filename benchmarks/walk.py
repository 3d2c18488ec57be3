"""The walk of a vector through `transplant` and of a prompt through `eval`.

Both commands run on the embedded models while a profiler notes, in order, each file of
contrans as one of its functions is first called. A file's floor is one more than that
of the highest file it imports at its top. A step of the walk to a higher floor is a
climb, one to a lower floor a return: few of both, and the code reads in one go.

    python benchmarks/walk.py            # of this tree
    python benchmarks/walk.py --list     # also the files, in order
"""

import argparse
import ast
import contextlib
import io
import os
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PACKAGE = ROOT / "contrans"
COMPILED_FUNCTION = 1  # CO_OPTIMIZED: bodies of modules and classes have it not


def modules() -> dict[str, Path]:
    """Every file of the package by the name under which it is imported."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


KNOWN = modules()


@cache
def imports(path: Path) -> tuple[Path, ...]:
    """Files that a file imports at its top; the face of the package left out."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            full = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in KNOWN else module for name in full]
        else:
            continue
        found += [KNOWN[n] for n in names if n in KNOWN and n != "contrans"]
    return tuple(dict.fromkeys(found))


_FLOORS: dict[Path, int] = {}


def floor(path: Path, above: tuple[Path, ...] = ()) -> int:
    """How high a file stands on those that it imports; an arrow back counts nothing."""
    if path in _FLOORS:
        return _FLOORS[path]
    below = [floor(p, (*above, path)) for p in imports(path) if p not in above]
    _FLOORS[path] = 1 + max(below, default=0)
    return _FLOORS[path]


def walk(arguments: list[str]) -> list[Path]:
    """The files that a command enters, in order of the first call of a function."""
    from contrans.cli import app

    before = str(PACKAGE) + "/"
    seen: dict[str, None] = {}

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        called = event == "call" and code.co_flags & COMPILED_FUNCTION
        ours = code.co_filename.startswith(before) and code.co_filename.endswith(".py")
        if called and ours:
            seen.setdefault(code.co_filename)

    said = io.StringIO()
    sys.setprofile(note)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            app(arguments)
    except SystemExit as end:
        if end.code:
            sys.setprofile(None)
            raise RuntimeError(
                f"contrans {' '.join(arguments)}: {said.getvalue()}"
            ) from end
    finally:
        sys.setprofile(None)
    return [Path(name) for name in seen]


def main() -> None:
    """Print files, climbs and returns of both walks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="also print the files")
    listed = parser.parse_args().list
    with TemporaryDirectory() as folder:
        os.environ["CONTRANS_CACHE"] = f"{folder}/cache"
        out = f"{folder}/out"
        walks = {
            "transplant": [
                *("transplant", "zoo/small-aligned", "zoo/large"),
                *("--map-source", "zoo/small", "--concept", "anger"),
                *("--limit", "6", "-o", out),
            ],
            "eval": [
                *("eval", "zoo/large", "--concept", "anger", "--steer", out),
                *("--limit", "6", "-o", f"{folder}/eval.json"),
            ],
        }
        print(f"{'walk':12}{'files':>7}{'climbs':>8}{'returns':>9}")
        for name, arguments in walks.items():
            files = walk(arguments)
            steps = [(floor(a), floor(b)) for a, b in pairwise(files)]
            climbs = sum(b > a for a, b in steps)
            returns = sum(b < a for a, b in steps)
            print(f"{name:12}{len(files):7}{climbs:8}{returns:9}")
            if listed:
                for path in files:
                    print(f"  {floor(path):3}  {path.relative_to(PACKAGE)}")
    lines = sum(len(p.read_text("utf-8").splitlines()) for p in KNOWN.values())
    print(
        f"{len(KNOWN)} files, {lines} lines, {max(map(floor, KNOWN.values()))} floors"
    )


if __name__ == "__main__":
    main()
