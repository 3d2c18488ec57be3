"""A stage imports only earlier stages: floors, from the ground up."""

import ast
from pathlib import Path

import contrans

FLOORS = [
    {
        "types",
        "core",
        "registry",
        "seeds",
        "layer_ranges",
        "rows",
        "fingerprint",
        "files",
        "prefix_tree",
        "results",
        "sinks",
    },
    {"anatomy", "cache", "store", "mapped", "data", "zoo", "models", "library"}
    | {"gguf_file", "gguf_model", "named_models", "locate"},
    {"patching", "calls", "hooks", "hooks_logits", "resume", "packing"},
    {"passes", "narrow", "edits"},
    {"activations", "neurons"},
    {"concept", "linear_map", "gram", "solver"},
    {"transfer", "control", "diagnostics"},
    {"methods", "evaluation"},
    {"search", "export"},
    {"stages", "pipeline", "checks", "ab", "recipes", "report"},
    {"cli", "studio"},
]
ROOT = Path(contrans.__file__).parent
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    """The stage that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Stages of contrans that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "contrans":
                names = [f"contrans.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {p[1] for p in parts if p[0] == "contrans" and len(p) > 1}
    return found & {room(p) for p in ROOT.rglob("*.py")}


def height(stage: str) -> int:
    """The floor of a stage; one that is not listed stands beside the pipeline."""
    return HEIGHT.get(stage, HEIGHT["pipeline"])


def test_no_stage_imports_a_later_one():
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in sorted(ROOT.rglob("*.py"))
        if room(path) not in ("__init__", "__main__")
        for other in sorted(imported(path))
        if height(other) > height(room(path))
    ]
    assert not wrong
