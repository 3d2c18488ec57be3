"""`contrans show`: what a file or folder is, and where it came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.library.entries import is_reference


def show(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="An artefact, results, or a folder.")
    ],
    json_: options.Json = False,
) -> None:
    """Say what a file or folder of contrans is, where it came from, and its numbers.

    Examples:
      contrans show contrans-demo
      contrans show contrans-demo/vector.safetensors
      contrans show link.safetensors --json | jq .report
      contrans show large-angry                 # what export --bake wrote
      contrans show checks.json
      contrans show honesty@2
    """
    if is_reference(str(path)) and not path.exists():
        from contrans.cli.concepts import show as show_entry

        show_entry(str(path), json_=json_)
        return
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}; check the name")
    if path.is_dir():
        _folder(path, as_json=json_)
    elif path.suffix == ".json":
        _results(path, as_json=json_)
    else:
        _artefact(path, as_json=json_)


def _folder(path: Path, *, as_json: bool) -> None:
    if (path / "results.json").is_file():
        _results(path / "results.json", as_json=as_json)
        if not as_json and (path / "contrans.json").is_file():
            index = _read(path / "contrans.json")
            lines = [f"  {name}: {what}" for name, what in index["files"].items()]
            typer.echo("\n" + "\n".join([f"{path} holds", *lines]))
        return
    if (path / "contrans.json").is_file():
        index = _read(path / "contrans.json")
        if isinstance(index, dict) and index.get("kind") == "baked-model":
            _results(path / "contrans.json", as_json=as_json)
            return
    files = sorted(path.glob("*.safetensors"))
    found = []
    for file in files:
        from contrans.core.artifacts import read_header

        try:
            header = read_header(file)
        except ValueError:
            continue
        found.append({"file": file.name, "kind": header["kind"]})
    if not found:
        raise ValueError(
            f"{path} holds nothing made by contrans (no results.json, no artefacts)"
        )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(console.table(["file", "kind"], [[f["file"], f["kind"]] for f in found]))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not readable JSON ({error}); it may be truncated: write it again"
        ) from error


def _results(path: Path, *, as_json: bool) -> None:
    from contrans.cli.show_reports import report

    results = _read(path)
    said = report(results) if isinstance(results, dict) else None
    if not isinstance(results, dict) or (said is None and "rows" not in results):
        raise ValueError(
            f"{path} holds no results of contrans; expected what `transplant`, `eval`, "
            "`check`, `compare` or `export --bake` wrote"
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    if said is not None:
        typer.echo(said)
        return
    if "verdict" in results:
        from contrans.report.transplant import first_sample, summary

        typer.echo(f"{summary(results)}\n\n{first_sample(results)}")
        for warning in results["warnings"]:
            typer.echo(f"warning: {warning}")
    else:
        from contrans.report.scores import shown

        typer.echo(shown(results))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return " ".join(f"{k}={_cell(v)}" for k, v in value.items())
    return str(value)


def _artefact(path: Path, *, as_json: bool) -> None:
    from contrans.core.artifacts import load, read_header

    header = read_header(path)
    facts = _facts(load(path))
    if as_json:
        typer.echo(json.dumps(header | facts, indent=2))
        return
    typer.echo(f"{path}: {header['kind']}, written by contrans {header['version']}")
    known = dict(_flat({k: v for k, v in header.items() if k not in _SAID}))
    lines = {**known, **{k: v for k, v in facts.items() if k != "layers"}}
    width = max(len(key) for key in lines)
    typer.echo(
        "\n".join(f"{key.ljust(width)}  {value}" for key, value in lines.items())
    )
    if isinstance(facts.get("layers"), list):
        rows = [[_cell(value) for value in row.values()] for row in facts["layers"]]
        typer.echo("\n" + console.table(list(facts["layers"][0]), rows))


_SAID = ("kind", "version", "counts")


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested provenance as dotted lines; empty things are left out."""
    if isinstance(value, Mapping):
        found = []
        for key, inner in value.items():
            if key == "norms":
                continue
            found += _flat(inner, f"{name}.{key}" if name else str(key))
        return found
    if value is None or value in ("", []):
        return []
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    ]


def _facts(value: Any) -> dict[str, Any]:
    """The numbers of an artefact."""
    from contrans.core.types import ConceptVector, HiddenStates, LinearMap

    if isinstance(value, ConceptVector):
        layers = [
            {
                "layer": layer,
                "length": value.norm(layer),
                "relative": value.relative_strength(layer),
            }
            for layer in value.layers
        ]
        return {"width": value.hidden, "layers": layers}
    if isinstance(value, LinearMap):
        widths = f"{value.left.shape[0]} -> {value.right.shape[1]}"
        return {"widths": widths}
    if isinstance(value, HiddenStates):
        return {"rows": len(value), "width": value.hidden}
    return {"pairs": len(value), "width": value.positive.hidden}
