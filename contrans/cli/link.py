"""`contrans map`: states of the same texts in two models to a linear map."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contrans.cli import options, screen


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
    screen.check_new(out, force=force)
    from contrans.linear_map import fit_linear_map
    from contrans.store import load, save

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
        screen.note(f"warning: {warning}")
    if report["left_out"]:
        rows = ", ".join(str(row + 1) for row in report["left_out"][:5])
        more = ", ..." if len(report["left_out"]) > 5 else ""
        screen.note(
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
