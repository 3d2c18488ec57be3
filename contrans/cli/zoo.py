"""`contrans zoo`: train or export the embedded models."""

from pathlib import Path
from typing import Annotated

import typer

from contrans.cli import console, options
from contrans.cli.basics import PLAIN
from contrans.core.files import check_file

app = typer.Typer(
    name="zoo",
    help="Train or export the embedded models.\n\nThey ship with contrans: train them "
    "again only to change or to check them.\n\n"
    "\b\nExamples:\n"
    "  contrans ls models\n"
    "  contrans zoo export zoo/large ./large\n"
    "  contrans zoo train -o ./my-zoo --seed 1\n"
    "  contrans zoo evidence --models ./my-zoo -o docs/results",
    no_args_is_help=True,
    **PLAIN,
)


@app.command()
def train(
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Folder; an interrupted one goes on."
        ),
    ],
    seed: options.Seed = 0,
) -> None:
    """Train every embedded model again (about 25 minutes on two cores).

    On generated text, on the CPU; an interrupted training goes on.
    Use the result with CONTRANS_ZOO=DIR contrans demo.
    """
    console.quiet()
    from contrans.models.zoo.train import train as run

    with console.Bars() as bars:
        run(out, seed=seed, progress=bars.stage("train"))
    typer.echo(f"{out}: trained. Use it: CONTRANS_ZOO={out} contrans demo")


@app.command()
def export(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As in contrans ls models.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.")],
) -> None:
    """Copy a model into a folder that any tool can load."""
    from contrans.models import zoo

    made = zoo.export(name, directory)
    typer.echo(f"{made}: AutoModelForCausalLM.from_pretrained({str(made)!r}) reads it")


@app.command()
def evidence(
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for zoo.md, zoo.json."),
    ],
    models: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Also a folder of zoo train; repeat for several."
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Print every acceptance figure of the zoo, with its bar (10 to 20 minutes a set).

    On held-out templates: emotions, honesty and fairness with all their controls, the
    map fitted on neutral text, strength 0, and the effect over strength. Finished
    stages are kept: an interrupted command goes on.
    """
    for name in ("zoo.md", "zoo.json"):
        check_file(out / name, force=force)
    console.quiet()
    from contrans.core.cache import cache_folder
    from contrans.core.files import write_json, write_text
    from contrans.experiments.zoo.criteria import as_json, to_markdown
    from contrans.experiments.zoo.evidence import measure

    measured = measure([None, *(models or [])], cache_folder(), progress=console.note)
    page = to_markdown(measured)
    write_text(out / "zoo.md", page, force=True)
    write_json(out / "zoo.json", as_json(measured), force=True)
    typer.echo(page)
