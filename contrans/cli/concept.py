"""`contrans concept`: paired states to a concept vector."""

from pathlib import Path
from typing import Annotated

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def concept(
    states: Annotated[
        Path,
        typer.Argument(
            metavar="STATES", help="States of pairs, from `contrans collect --pairs`."
        ),
    ],
    out: options.NewFile,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="mean (the paper: mean difference), pca, logistic or whitened.",
        ),
    ] = "mean",
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="STATES",
            help="States of other pairs (collect --split validate) to judge it on.",
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    r"""Refine the states of prompt pairs into one direction per layer.

    With --held-out it also says how well each layer's direction separates pairs that
    it was not made from: a concept with an AUROC near 0.5 is not there.

    Examples:
      contrans concept anger-states.safetensors -o anger.safetensors
      contrans concept anger-states.safetensors --method whitened \
          --held-out anger-validate.safetensors -o anger.safetensors

    Next, use it where it came from, or carry it elsewhere:
      contrans generate MODEL "You lost" --steer anger.safetensors --layers 3
      contrans transplant anger.safetensors link.safetensors -o moved.safetensors
    """
    check_file(out, force=force)
    from contrans.cli.residual_norms import carried
    from contrans.core.artifacts import load, save
    from contrans.vectors.concepts import concept_vector, reliability

    paired = load(states, "paired-states")
    vector = carried(concept_vector(paired, method=method), paired.positive.provenance)
    for layer, odd in vector.provenance["left_out"].items():
        console.note(
            f"warning: {len(odd)} pairs were left out at layer {layer}, whose states "
            "are attention sinks or massive activations"
        )
    judged = None
    if held_out is not None:
        other = load(held_out, "paired-states")
        if other.positive.model != vector.model or other.layers != vector.layers:
            raise ValueError(
                f"{held_out} was not collected like {states} (same model and layers); "
                "collect it again with the same options and --split validate"
            )
        judged = {r.layer: r for r in reliability(vector, other)}
    save(vector, out, force=force)
    rows = []
    for layer in vector.layers:
        share = vector.relative_strength(layer)
        cells = [
            str(layer),
            f"{vector.norm(layer):.3f}",
            "-" if share is None else f"{share:.2f}",
        ]
        if judged is not None:
            found = judged[layer]
            cells += [f"{found.auroc:.3f}", f"{found.cosine:.3f}"]
        rows.append(cells)
    header = ["layer", "length", "of the stream"]
    header += [] if judged is None else ["AUROC", "pair cosine"]
    typer.echo(f"{out}: {vector.concept} in {vector.name}, {len(paired)} pairs\n")
    typer.echo(console.table(header, rows))
