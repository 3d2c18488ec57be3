"""The command line: a table of verbs, each in a module that is imported when called.

Modules of verbs import torch only inside their functions, so that help is instant.
"""

from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from contrans.cli.basics import PLAIN, debugging, explain, help_text, visible
from contrans.core.registry import lookup, unknown
from contrans.core.version import __version__


class Verb(NamedTuple):
    """One line of the table."""

    section: str
    where: str
    help: str


_MAIN, _STAGES, _USE, _TRUST, _LOOK = (
    "The main job",
    "Its stages",
    "Use a vector",
    "Trust a vector",
    "Look around",
)
VERBS = {
    "transplant": Verb(
        _MAIN,
        "contrans.cli.transplant:transplant",
        "Carry a concept from one model into another and report what it did.",
    ),
    "demo": Verb(
        _MAIN,
        "contrans.cli.demo:demo",
        "The main job on the embedded models: offline, in minutes.",
    ),
    "collect": Verb(
        _STAGES,
        "contrans.cli.collect:collect",
        "Read the hidden states of prompt pairs or of texts.",
    ),
    "concept": Verb(
        _STAGES,
        "contrans.cli.concept:concept",
        "Refine paired states into a concept vector.",
    ),
    "map": Verb(
        _STAGES,
        "contrans.cli.map:link",
        "Fit a linear map between the states of two models.",
    ),
    "generate": Verb(
        _USE,
        "contrans.cli.generate:generate",
        "Continue prompts with a vector added, or before and after.",
    ),
    "chat": Verb(
        _USE,
        "contrans.cli.chat:chat",
        "Talk to a steered model and change the strength as you go.",
    ),
    "eval": Verb(
        _USE,
        "contrans.cli.evaluate:evaluate",
        "Measure vectors on held-out prompts, beside random controls.",
    ),
    "lm-eval": Verb(
        _USE,
        "contrans.cli.lm_eval:lm_eval",
        "Tasks of lm-evaluation-harness, steered.",
    ),
    "export": Verb(
        _USE,
        "contrans.cli.export:export",
        "Bake a vector into a checkpoint, or write it for llama.cpp, lm-eval, ...",
    ),
    "compare": Verb(
        _TRUST,
        "contrans.cli.compare:compare",
        "A/B test of two vectors or models, with how many prompts decide it.",
    ),
    "check": Verb(
        _TRUST,
        "contrans.cli.check:check",
        "Run a regression suite of concepts; for CI.",
    ),
    "concepts": Verb(
        _USE,
        "contrans.cli.concepts:app",
        "A library of your concepts: versions, lineage, sharing.",
    ),
    "show": Verb(
        _LOOK,
        "contrans.cli.show:show",
        "Say what a file or folder of contrans is and where it came from.",
    ),
    "ls": Verb(
        _LOOK,
        "contrans.cli.ls:listing",
        "List concepts, models, methods, maps or tasks.",
    ),
    "recipe": Verb(
        _LOOK,
        "contrans.cli.recipe:app",
        "Run the tables and figures of the paper, each with its claims.",
    ),
    "models": Verb(
        _LOOK,
        "contrans.cli.models:app",
        "Real models under short names: list, get, remove.",
    ),
    "zoo": Verb(
        _LOOK,
        "contrans.cli.zoo:app",
        "Train or export the embedded models.",
    ),
}
_CACHED = ("transplant", "demo", "check", "compare", "recipe", "models", "zoo")
"""Verbs whose finished stages outlive an interruption."""
_ROOT: dict[str, Any] = {**PLAIN, "add_completion": True}


class LazyGroup(TyperGroup):
    """A group that knows its verbs without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of the table."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        table = {name: verb.where for name, verb in VERBS.items()}
        found = lookup("verb", table, cmd_name)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        single = typer.Typer(**PLAIN)
        single.command(cmd_name, help=help_text(_docstring(found)))(found)
        command = typer.main.get_command(single)
        command.short_help = VERBS[cmd_name].help
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a verb; for an unknown one, name the nearest."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(str(unknown("command", args[0], VERBS).args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The table, by section; nothing is imported."""
        del ctx
        sections = dict.fromkeys(verb.section for verb in VERBS.values())
        for section in sections:
            rows = [(n, v.help) for n, v in VERBS.items() if v.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=12)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; mistakes of the user end in one message and exit code 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = ctx.invoked_subcommand in _CACHED
            typer.echo(
                "\nstopped; finished stages are kept: the same command goes on from here"
                if kept
                else "\nstopped; nothing unfinished was written",
                err=True,
            )
            raise typer.Exit(130) from None
        except Exception as error:
            message = explain(error)
            if message is None or debugging():
                raise
            typer.echo(
                f"contrans {ctx.invoked_subcommand}: {visible(message)}", err=True
            )
            raise typer.Exit(1) from None


def _docstring(function: Any) -> str:
    import inspect

    return inspect.getdoc(function) or ""


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    **_ROOT,
)


def _version(asked: bool | None) -> None:
    if asked:
        typer.echo(f"contrans {__version__}")
        raise typer.Exit


@app.callback(
    help="Carry a concept out of one language model and plant it in another.\n\n"
    "\b\nStart here:\n"
    "  contrans demo\n"
    "  contrans transplant SOURCE TARGET --concept anger -o anger-13b",
    epilog="contrans COMMAND --help teaches each one by example.",
)
def _root(
    version: Annotated[
        bool | None,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version and leave.",
        ),
    ] = None,
) -> None:
    del version


def main() -> None:
    """The console script."""
    app(prog_name="contrans")
