"""What a path given to a library is: its files, what they say, what it was made from.

An entry remembers *marks*: hashes by which later entries recognise what they were made
from, such as the hash of the texts behind a vector.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrans.core.registry import unknown
from contrans.library.entries import Entry, Kind

PAIR_FILES = (".json", ".jsonl", ".csv", ".tsv", ".gz")
"""Suffixes of files of pairs."""
RESULT_FILES = (
    "vector.safetensors",
    "results.json",
    "report.md",
    "report.html",
    "contrans.json",
)
"""What is kept of a folder of `contrans transplant`."""
PACK_FILE = "pack.json"
"""What the index says of a built-in pack, kept beside its pairs."""


@dataclass(frozen=True, slots=True)
class Content:
    """The files of an entry to be, and what they say."""

    kind: Kind
    files: Mapping[str, bytes]
    about: Mapping[str, Any]
    title: str
    """What a person would call it."""


def describe(path: str | Path) -> Content:
    """Read what a path holds, and check that it is whole.

    Args:
        path: a file of pairs, the name of a built-in pack, a vector, a map, or a folder
            that `contrans transplant` wrote.

    Raises:
        FileNotFoundError: when there is nothing there.
        ValueError: when it is none of these, or damaged.
    """
    place = Path(path)
    if place.is_dir():
        return _folder(place)
    if place.suffix == ".safetensors":
        return _artefact(place)
    if place.is_file() or place.suffix in PAIR_FILES:
        return _pairs(place)
    from contrans.data import concepts, pack_info

    try:
        return _pack(pack_info(str(path)))
    except KeyError:
        hint = unknown("concept", str(path), concepts()).args[0]
        raise FileNotFoundError(
            f"no file or folder {path} (looked in {Path.cwd()}), and no built-in pack: "
            f"{hint}"
        ) from None


def _folder(folder: Path) -> Content:
    files = {
        name: (folder / name).read_bytes()
        for name in RESULT_FILES
        if (folder / name).is_file()
    }
    missing = [name for name in RESULT_FILES[:2] if name not in files]
    if missing:
        raise ValueError(
            f"{folder} holds no {' and no '.join(missing)}; give the folder that "
            "contrans transplant wrote, a vector, a map, or a file of pairs"
        )
    vector = _artefact(folder / RESULT_FILES[0])
    if vector.kind != "vector":
        raise ValueError(f"{folder / RESULT_FILES[0]} is a {vector.kind}, not a vector")
    try:
        results = json.loads(files["results.json"])
        said = _results(results)
        concept = results["concept"]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ValueError(
            f"{folder / 'results.json'} holds no results of contrans transplant "
            f"({type(error).__name__}: {error}); run the transplant again"
        ) from error
    about = {**vector.about, **said}
    about["needs"] = [*vector.about["needs"], f"concept:{concept['digest']}"]
    if str(concept["origin"]).startswith("library "):
        about["needs"].append(f"id:{concept['origin'].split()[-1]}")
    return Content("transplant", files, about, concept["title"] or concept["name"])


def _results(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the results of a transplant say, short enough to stand in a table."""
    rows, task, target = results["rows"], results["task"], results["target"]
    main = next(row for row in rows if row["kind"] == "method")
    metrics = {
        "metric": task["metric"],
        "n": task["n"],
        "split": task["split"],
        "higher_is_better": task["higher_is_better"],
        "rows": [
            {
                **{k: row[k] for k in ("name", "kind", "raw", "relative")},
                **{k: row[k] for k in ("value", "low", "high", "difference")},
                "perplexity_ratio": row["perplexity"]["ratio"],
            }
            for row in rows
        ],
        "effect": main["difference"],
        "perplexity_ratio": main["perplexity"]["ratio"],
        "verdict": results["verdict"],
    }
    shown = ("name", "fingerprint", "layers", "hidden")
    return {
        "model": {key: target[key] for key in shown},
        "source": {key: results["source"][key] for key in shown},
        "concept": {k: results["concept"][k] for k in ("name", "origin", "digest")},
        "strength": {k: results["strength"][k] for k in ("raw", "relative")},
        "settings": results["command"],
        "metrics": metrics,
    }


def _artefact(path: Path) -> Content:
    from contrans.core.artifacts import load, read_header
    from contrans.core.types import ConceptVector, LinearMap

    value = load(path)
    raw = path.read_bytes()
    if isinstance(value, ConceptVector):
        made = dict(value.provenance)
        about = {
            "concept": {"name": value.concept},
            "model": {
                "name": value.name,
                "fingerprint": value.model,
                "hidden": value.hidden,
            },
            "at": list(value.layers),
            "method": made.get("method"),
            "marks": [f"vector:{_mark(made)}"],
            "needs": _needs(made),
        }
        return Content("vector", {"vector.safetensors": raw}, about, value.concept)
    if isinstance(value, LinearMap):
        made = dict(value.provenance)
        sides = {
            "source": (value.source, value.left.shape[0]),
            "model": (value.target, value.right.shape[1]),
        }
        about = {
            side: {
                "name": site.name,
                "fingerprint": site.model,
                "hidden": int(width),
                "layer": site.layer,
            }
            for side, (site, width) in sides.items()
        }
        title = f"{value.source.name} to {value.target.name}"
        about |= {"method": made.get("method"), "n": value.report.n}
        about |= {"r2": value.report.r2, "marks": [f"map:{_mark(made)}"], "needs": []}
        return Content("map", {"map.safetensors": raw}, _finite(about), title)
    raise ValueError(
        f"{path} holds {read_header(path)['kind']}; a library keeps pairs, vectors and "
        "maps: make a vector of states with contrans concept, or a map with contrans map"
    )


def _pairs(path: Path) -> Content:
    from contrans.data.pairs import load_file

    concept = load_file(path)
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    about = _about_pairs(concept) | {"file": path.name}
    return Content("pairs", {f"pairs{suffix}": path.read_bytes()}, about, concept.title)


def _pack(info: Any) -> Content:
    """A built-in pack, with its items and what the index says."""
    from contrans.data.pairs import load_pack

    index = json.loads((info.path.parent / "index.json").read_text(encoding="utf-8"))
    meta = index.get(info.name) or index[info.path.stem]
    files = {
        "pairs.jsonl": info.path.read_bytes(),
        PACK_FILE: (json.dumps(meta, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    if info.items is not None:
        files["items.jsonl"] = info.items.read_bytes()
    about = _about_pairs(load_pack(info)) | {"file": info.name}
    return Content("pairs", files, about, info.title)


def _about_pairs(concept: Any) -> dict[str, Any]:
    from contrans.core.files import digest
    from contrans.data.catalogue import SPLITS

    splits = {name: concept.split(name) for name in SPLITS}
    texts = [digest([*pairs.positive, *pairs.negative]) for pairs in splits.values()]
    return {
        "title": concept.title,
        "answer": concept.answer,
        "task": concept.task.kind,
        "pairs": {name: len(pairs) for name, pairs in splits.items()},
        "marks": [f"concept:{concept.digest}", *(f"texts:{text}" for text in texts)],
        "needs": [],
    }


def _mark(provenance: Mapping[str, Any]) -> str:
    """A hash of how something was made, without what was measured beside it."""
    from contrans.core.files import digest

    def bare(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: bare(v) for k, v in value.items() if k not in _BESIDE}
        return value

    return digest(bare(provenance))


_BESIDE = ("norms", "split", "strength")


def _needs(provenance: Mapping[str, Any]) -> list[str]:
    """Marks of what a vector was made from: nearest first."""
    inner = provenance.get("vector")
    if isinstance(inner, Mapping) and "map" in provenance:
        near = [f"vector:{_mark(inner)}", f"map:{_mark(provenance['map'])}"]
        return [*near, *_needs(inner)]
    data = provenance.get("data")
    return [f"texts:{data}"] if data else []


def find_parents(about: Mapping[str, Any], entries: Iterable[Entry]) -> list[str]:
    """Ids of the entries that something was made from, as its marks tell.

    A vector that is there stands for the pairs behind it.
    """
    known: dict[str, str] = {}
    for entry in entries:
        known.setdefault(f"id:{entry.id}", entry.id)
        for mark in entry.about.get("marks", ()):
            known.setdefault(mark, entry.id)
    found: dict[str, list[str]] = {}
    for need in about.get("needs", ()):
        if need in known:
            found.setdefault(need.partition(":")[0], []).append(known[need])
    data = found.get("id") or found.get("concept") or found.get("texts") or []
    parents = [*(found.get("vector") or data), *found.get("map", [])]
    return list(dict.fromkeys(parents))


def _finite(about: dict[str, Any]) -> dict[str, Any]:
    from contrans.core.files import finite

    return finite(about)
