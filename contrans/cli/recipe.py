"""`contrans recipe`: the tables and figures of the paper, on any models."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.cli.basics import PLAIN

app = typer.Typer(
    name="recipe",
    help="Run the tables and figures of the paper, each with its claims.\n\n"
    "\b\nExamples:\n"
    "  contrans recipe list\n"
    "  contrans recipe run figure3 --models zoo -o figure3\n"
    "  contrans recipe run all --models zoo -o recipes --resume\n"
    "  contrans recipe run table1 --models my-models.yaml --limit 40 -o trial",
    no_args_is_help=True,
    **PLAIN,
)


@app.command("list")
def listing(json_: options.Json = False) -> None:
    """List the recipes and the sections of a plan that each reads."""
    from contrans.experiments.paper import RECIPES

    if json_:
        typer.echo(json.dumps({name: e._asdict() for name, e in RECIPES.items()}))
        return
    rows = [
        [name, entry.paper, entry.title, ", ".join(entry.needs)]
        for name, entry in RECIPES.items()
    ]
    typer.echo(console.table(["name", "in the paper", "what", "reads"], rows))


@app.command()
def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME|all", help="As in contrans recipe list.")
    ],
    models: Annotated[
        str,
        typer.Option(
            metavar="zoo|paper|FILE",
            help="Embedded models, the paper's from the hub, or a plan of your own.",
        ),
    ] = "zoo",
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many items per task: a trial."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for HTML, Markdown, CSV, LaTeX, JSON and figures.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep finished recipes of this plan in DIR."),
    ] = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Run one recipe, or all, and say which claims held.

    Layers and strengths are chosen on validation prompts; test prompts are touched
    once. A claim is supported when its whole 95% interval lies in the stated region,
    not supported when all of it lies outside, and undecided otherwise. Finished stages
    are cached: an interrupted command goes on where it was.
    """
    from contrans.experiments.paper import chosen
    from contrans.experiments.paper.plan import load_plan

    names = chosen(name)
    plan = load_plan(models)
    console.quiet()
    from contrans.core.cache import Cache, cache_folder
    from contrans.experiments.cached import Stages
    from contrans.experiments.paper.run import index, run_recipes
    from contrans.report import terminal
    from contrans.report.sheet import shown

    with console.Bars() as bars:
        done = run_recipes(
            names,
            plan,
            Stages(Cache(cache_folder()), bars if _watched() else None, bars.note),
            out=out,
            limit=limit,
            resume=resume,
            force=force,
            tell=bars.note,
        )
    if json_:
        found: dict[str, Any] = {
            entry.name: entry.results or {"not run": entry.why_not} for entry in done
        }
        typer.echo(json.dumps(found))
    elif len(done) == 1:
        typer.echo(shown(done[0].results))
    else:
        typer.echo(terminal.render(index(done, plan, limit)))
    if out is not None:
        console.note(f"{out}: open {out / 'README.md'}")


def _watched() -> bool:
    """Whether somebody looks: bars for every collection are noise in a log."""
    import sys

    return sys.stderr.isatty()
