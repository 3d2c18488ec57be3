"""The rooms of contrans and their floors: a file imports lower floors or its own room.

Every import counts: at the top, in a function, for type checking, and paths in text
that are imported on first use ("contrans.room.file:name").
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import contrans

FLOORS = (
    {"core"},
    {"data", "vectors", "report"},
    {"models", "library"},
    {"control"},
    {"evaluation", "export"},
    {"experiments"},
    {"cli", "studio", "serve"},
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FACES = {"__init__", "__main__", "ab", "checks", "zoo"}
"""Files outside every room: the face of the package, and doors of documented paths."""
KEPT_FOR_USERS = {
    # a public name that moved up; its old face still finds it, on first use
    ("data/__init__.py", "contrans.library.concepts"),
}


class Arrow(NamedTuple):
    """One import."""

    file: str
    line: int
    to: str
    """The module, such as "contrans.core.files", or "contrans" for the root."""


def modules(root: Path) -> dict[str, Path]:
    """Every file of the package by the name under which it is imported."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(["contrans", *parts])] = path
    return found


def arrows(root: Path) -> Iterator[Arrow]:
    """Every import of one file of the package by another."""
    known = modules(root)
    for path in known.values():
        file = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [n if n in known else str(node.module) for n in names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                module = node.value.partition(":")[0]
                own = f"contrans.{file}".replace("/", ".").startswith(f"{module}.")
                found = [module] if module in known and not own else []
                found = [m for m in found if m != "contrans"]
            else:
                continue
            for to in found:
                if to.partition(".")[0] == "contrans":
                    yield Arrow(file, getattr(node, "lineno", 0), to)


def room(file: str) -> str:
    """The room of a file, or its own name when it lies at the root."""
    return file.partition("/")[0].removesuffix(".py")


def breaches(root: Path) -> list[str]:
    """What is wrong in a package: each a line of text."""
    wrong = []
    for path in modules(root).values():
        here = room(path.relative_to(root).as_posix())
        if here not in HEIGHT and (here not in FACES or path.parent != root):
            wrong.append(f"{path.relative_to(root).as_posix()} lies in no room")
    for arrow in arrows(root):
        here = room(arrow.file)
        if here in FACES and here not in HEIGHT:
            continue
        where = f"{arrow.file}:{arrow.line}"
        there = arrow.to.split(".")[1] if "." in arrow.to else ""
        kept = (arrow.file, arrow.to) in KEPT_FOR_USERS
        if there not in HEIGHT:
            wrong.append(f"{where} imports the face of the package ({arrow.to})")
        elif here not in HEIGHT or here == there or kept:
            continue
        elif HEIGHT[there] == HEIGHT[here]:
            wrong.append(f"{where} imports sideways: {arrow.to}")
        elif HEIGHT[there] > HEIGHT[here]:
            wrong.append(f"{where} imports upwards: {arrow.to}")
    return wrong + [" -> ".join(circle) for circle in circles(root)]


def circles(root: Path) -> list[list[str]]:
    """Files that import each other, by however many steps (Tarjan's components)."""
    known = modules(root)
    names = {path.relative_to(root).as_posix(): name for name, path in known.items()}
    to: dict[str, set[str]] = {name: set() for name in known}
    for arrow in arrows(root):
        if (arrow.file, arrow.to) not in KEPT_FOR_USERS:
            to[names[arrow.file]].add(arrow.to)
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(to[name] & to.keys()):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in to:
        if name not in order:
            visit(name)
    return found


def test_every_file_has_a_room_and_imports_lower_floors_only():
    assert breaches(Path(contrans.__file__).parent) == []


def test_every_room_of_the_package_is_on_a_floor():
    folders = {
        p.parent.name for p in Path(contrans.__file__).parent.glob("*/__init__.py")
    }
    assert folders <= HEIGHT.keys()


SOUND = {
    "__init__.py": '_WHERE = {"LM": "contrans.models.lm"}\n',
    "core/__init__.py": "",
    "core/files.py": "",
    "data/__init__.py": "",
    "data/pairs.py": "from contrans.core.files import digest\n",
    "models/__init__.py": "",
    "models/lm.py": "from contrans.core import files\nfrom contrans.data import pairs\n",
    "models/hooks.py": "from contrans.models.lm import LM\n",
    "vectors/__init__.py": "",
    "vectors/maps.py": "",
}


def planted(root: Path, **files: str) -> list[str]:
    """The breaches of a sound little package with some files written anew."""
    for name, text in {**SOUND, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return breaches(root)


def test_a_sound_package_has_no_breach(tmp_path):
    assert planted(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("core/files.py", "import contrans.models.lm", "upwards"),
        ("core/files.py", "from contrans.models import lm", "upwards"),
        ("core/files.py", "from contrans.models.lm import LM", "upwards"),
        ("core/files.py", "def f():\n    import contrans.data.pairs", "upwards"),
        (
            "core/files.py",
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from contrans.data import pairs",
            "upwards",
        ),
        ("core/files.py", 'VERBS = {"a": "contrans.models.lm:LM"}', "upwards"),
        ("data/pairs.py", "from contrans.vectors.maps import LinearMap", "sideways"),
        ("data/pairs.py", "def f():\n    from contrans import vectors", "sideways"),
        ("models/lm.py", "import contrans", "face of the package"),
        ("models/lm.py", "import contrans as ct", "face of the package"),
        ("models/lm.py", "from contrans import load_model", "face of the package"),
        ("models/lm.py", "def f():\n    import contrans", "face of the package"),
        ("models/lm.py", "from contrans.models.hooks import run", " -> "),
        ("models/lm.py", "def f():\n    from contrans.models import hooks", " -> "),
        ("loose.py", "", "lies in no room"),
        ("attic/files.py", "", "lies in no room"),
        ("attic/deeper/files.py", "", "lies in no room"),
        ("checks/files.py", "", "lies in no room"),
    ],
)
def test_a_breach_of_each_kind_is_seen(tmp_path, file, text, message):
    found = planted(tmp_path, **{file: text + "\n"})
    name = file.removesuffix(".py").split("/")[-1]
    assert [line for line in found if message in line and name in line]


def test_a_relative_import_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="relative import"):
        planted(tmp_path, **{"models/lm.py": "from . import hooks\n"})
