"""`contrans map`: states of the same texts in two models to a linear map."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def link(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="States in the source, from `collect --texts`."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="States of the same texts in the target."
        ),
    ],
    out: options.NewFile,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="S:T", help="Layers to connect; not needed for files of one layer."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="ridge, contrans (the paper, exactly), procrustes or low_rank.",
        ),
    ] = "ridge",
    ridge: Annotated[
        float | None,
        typer.Option(help="Ridge strength per row; without it: by leave-one-out."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(metavar="N", help="For low_rank: directions kept.")
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of the texts kept for the report.")
    ] = 0.2,
    keep_sinks: Annotated[
        bool,
        typer.Option(
            "--keep-sinks",
            help="Fit on attention sinks, too: rows over ten times the median length.",
        ),
    ] = False,
    seed: options.Seed = 0,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Fit a linear map from a layer of one model to a layer of another.

    Both files must hold states of the same texts in the same order. The report is on
    texts kept out of the fit; R² of differences is the honest one, since directions
    move like differences.

    Examples:
      contrans map source.safetensors target.safetensors -o link.safetensors
      contrans map source.safetensors target.safetensors --layers 24:30 \
          --method contrans -o paper-link.safetensors

    Next:
      contrans transplant anger.safetensors link.safetensors -o moved.safetensors
    """
    pair = None if layers is None else options.parse_pair(layers)
    check_file(out, force=force)
    from contrans.core.artifacts import load, save
    from contrans.vectors.maps import fit_linear_map

    x, y = load(source, "hidden-states"), load(target, "hidden-states")
    if x.provenance.get("data") != y.provenance.get("data"):
        raise ValueError(
            f"{source} and {target} hold states of different texts; collect both with "
            "the same --texts and --limit"
        )
    if pair is None:
        if len(x.layers) > 1 or len(y.layers) > 1:
            raise ValueError(
                f"{source} holds layers {x.layers} and {target} {y.layers}; choose two "
                f"with --layers S:T, such as {x.layers[-1]}:{y.layers[-1]}"
            )
        pair = (x.layers[0], y.layers[0])
    fitted = fit_linear_map(
        x,
        y,
        source_layer=_plain(pair[0], x.layers),
        target_layer=_plain(pair[1], y.layers),
        method=method,
        ridge=ridge,
        rank=rank,
        holdout=holdout,
        seed=seed,
        keep_sinks=keep_sinks,
    )
    save(fitted, out, force=force)
    report = asdict(fitted.report)
    for warning in report["warnings"]:
        console.note(f"warning: {warning}")
    if report["left_out"]:
        rows = ", ".join(str(row + 1) for row in report["left_out"][:5])
        more = ", ..." if len(report["left_out"]) > 5 else ""
        console.note(
            f"warning: {len(report['left_out'])} texts were left out, whose states are "
            f"attention sinks or massive activations: row {rows}{more} (--keep-sinks "
            "fits on them)"
        )
    if json_:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(
        f"{out}: {method}, {x.name} layer {fitted.source.layer} -> {y.name} layer "
        f"{fitted.target.layer}\n\n{report_table(report)}"
    )


def _plain(layer: int, known: tuple[int, ...]) -> int:
    return layer + max(known) + 1 if layer < 0 else layer


def report_table(report: dict) -> str:
    """A fit report for people."""
    rows = [
        ("texts fitted on", str(report["n"])),
        ("texts held out", str(report["n_test"])),
        ("texts left out as sinks", str(len(report["left_out"]))),
        ("held-out R²", _figure(report["r2"])),
        ("held-out R² of differences", _figure(report["r2_differences"])),
        ("effective rank of the source", f"{report['effective_rank']:.1f}"),
        ("rank of the map", str(report["rank"])),
        ("ridge per row", f"{report['ridge']:.3g}"),
        ("leave-one-out error", _figure(report["loo_error"], ".4g")),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _figure(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def through_map(
    vector_file: str,
    map_file: str,
    out: Path,
    files: list[bool],
    same_space: bool,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Move a vector, write it and say where it went.

    Args:
        vector_file: the vector.
        map_file: the map.
        out: the folder or file to write.
        files: whether each of the two is a file.
        same_space: allow a vector of a model with the same space.
        force: write over what is there.
        as_json: print JSON.

    Raises:
        ValueError: when not both are files, or the map starts at another model.
        FileExistsError: when `out` exists and `force` is false.
    """
    if not all(files):
        raise ValueError(
            f"{vector_file} and {map_file}: give two models, or a vector and a map "
            "(.safetensors files or entries of the library), not one of each"
        )
    check_file(out, force=force)
    from contrans.cli.residual_norms import carried
    from contrans.core.artifacts import load, save
    from contrans.library import file_named
    from contrans.vectors.transplant import assume_model, transplant as move

    vector = load(file_named(vector_file, "vector"), "concept-vector")
    link = load(file_named(map_file, "map"), "linear-map")
    if same_space:
        vector = assume_model(vector, link)
    elif vector.model != link.source.model:
        raise ValueError(
            f"{vector_file} lives in {vector.name!r} but {map_file} starts at "
            f"{link.source.name!r}; refit the map on the model of the vector, or, if "
            "one is a tuned copy of the other, pass --same-space"
        )
    moved = carried(move(vector, link), link.provenance.get("target", {}))
    save(moved, out, force=force)
    layer = link.target.layer
    share = moved.relative_strength(layer)
    if as_json:
        made = {"out": str(out), "concept": moved.concept, "model": moved.name}
        place = {"layer": layer, "length": float(moved.norm(layer)), "relative": share}
        typer.echo(json.dumps(made | place, indent=2))
        return
    relative = "" if share is None else f", {share:.0%} of the residual stream"
    typer.echo(
        f"{out}: {moved.concept} for {moved.name}, layer {layer}, length "
        f"{moved.norm(layer):.2f}{relative}\n"
        f"next: contrans generate {moved.name} PROMPT --steer {out} --compare"
    )
