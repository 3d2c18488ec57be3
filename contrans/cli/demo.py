"""`contrans demo`: the main job on the embedded zoo."""

from pathlib import Path
from typing import Annotated

import typer

from contrans.cli import options
from contrans.cli.transplant import run

DEFAULT_OUT = Path("contrans-demo")


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of results.")
    ] = DEFAULT_OUT,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many test prompts: a quick look."),
    ] = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    json_: options.Json = False,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Between two real models of different families instead: disgust from "
            "SmolLM2-135M-Instruct into Gemma-3-270M (contrans models get both first).",
        ),
    ] = False,
) -> None:
    """Move anger from a small embedded model into a larger one: offline, in minutes.

    The embedded models were trained on a small invented world. The small aligned one
    knows anger well, the large base model does not say it. The table shows whether the
    transplant changed that, beside the target's own best vector (Self-Align), a random
    vector of the same length and a map fitted on shuffled pairs.

    Examples:
      contrans demo
      contrans demo -o /tmp/demo --limit 50
      contrans demo --json | jq .verdict
      contrans demo --real

    A second run is instant. Then the same with your own models:

      contrans transplant SOURCE TARGET --concept anger -o anger
      contrans generate zoo/large "You lost your" --steer contrans-demo --compare
    """
    models: dict[str, str] = {
        "source": "zoo/small-aligned",
        "target": "zoo/large",
        "concept": "anger",
        "map_source": "zoo/small",
        "aligned_target": "zoo/large-aligned",
    }
    if real:
        source, target = "smollm2-135m-instruct", "gemma-3-270m"
        models = {"source": source, "target": target, "concept": "disgust"}
        out = Path("contrans-demo-real") if out == DEFAULT_OUT else out
    results = run(
        **models,
        limit=limit,
        seed=seed,
        out=out,
        force=force,
        as_json=json_,
    )
    if not json_:
        from contrans.report.transplant import first_sample

        typer.echo(f"\n{first_sample(results)}")
