"""What the tests of the library put into one: pairs, vectors, a folder of results."""

import json
from pathlib import Path

import torch

from contrans.core.artifacts import save
from contrans.core.types import ConceptVector

PAIRS = 10


def write_pairs(path: Path, *, word: str = "glad", n: int = PAIRS) -> Path:
    """A file of pairs; another word makes another content."""
    lines = [
        json.dumps({"positive": f"{i} is {word}", "negative": f"{i} is not {word}"})
        for i in range(n)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def a_vector(*, seed: int = 0, model: str = "abc", **changes) -> ConceptVector:
    """A random vector at layers 1 and 3."""
    drawn = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))
    known = {"layers": (1, 3), "model": model, "concept": "glad", "name": "tiny"}
    return ConceptVector(drawn, **{**known, **changes})


def write_vector(path: Path, **changes) -> Path:
    """A vector in a file."""
    save(a_vector(**changes), path)
    return path


def write_results(folder: Path, *, effect: float = 0.5, seed: int = 0) -> Path:
    """A folder as `contrans transplant` leaves it, with made-up numbers."""
    folder.mkdir()
    write_vector(folder / "vector.safetensors", seed=seed)
    side = {"name": "tiny", "fingerprint": "abc", "layers": 4, "hidden": 6}

    def row(name: str, kind: str, change: float | None) -> dict:
        interval = None
        if change is not None:
            interval = {"value": change, "low": change - 0.1, "high": change + 0.1}
        return {
            "name": name,
            "kind": kind,
            "raw": 2.0,
            "relative": 0.3,
            "value": 0.1 + (change or 0.0),
            "low": 0.0,
            "high": 0.9,
            "difference": interval,
            "perplexity": {"value": 3.0, "stderr": 0.1, "ratio": 1.1},
        }

    results = {
        "command": {"concept": "glad", "seed": seed},
        "source": {**side, "name": "small"},
        "target": side,
        "concept": {"name": "glad", "title": "Glad", "origin": "x.json", "digest": "d"},
        "strength": {"raw": 2.0, "relative": 0.3},
        "task": {
            "metric": "token accuracy",
            "n": 60,
            "split": "test",
            "higher_is_better": True,
        },
        "rows": [
            row("no edit", "base", None),
            row("ridge", "method", effect),
            row("random vector, equal norm", "control", 0.02),
        ],
        "verdict": "Transplanted.",
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "report.md").write_text("# Report\n")
    return folder
