"""`contrans concepts`: the library of concepts."""

import json
from collections.abc import Callable
from inspect import getdoc
from typing import Annotated, Any, TypeVar

import typer

from contrans.cli import console, options
from contrans.cli.basics import PLAIN, help_text
from contrans.cli.concepts_sharing import Where, pull, push

app = typer.Typer(
    name="concepts",
    help="Keep concepts by name and version, with what they were made from and what "
    "they did, and share them.\n\n"
    "\b\nExamples:\n"
    "  contrans concepts add mine.jsonl --name honesty --note 'first try'\n"
    "  contrans transplant SOURCE TARGET --concept honesty@1 -o honesty-13b\n"
    "  contrans concepts add honesty-13b --name honesty-13b\n"
    "  contrans generate TARGET 'Hello' --steer honesty-13b@1 --compare\n"
    "  contrans concepts push hf://datasets/me/concepts\n\n"
    "\b\nA library is a folder: --library, else $CONTRANS_LIBRARY, else\n"
    "~/.local/share/contrans/library.",
    no_args_is_help=True,
    **PLAIN,
)
_F = TypeVar("_F", bound=Callable[..., Any])


def _verb(function: _F) -> _F:
    name = function.__name__.rstrip("_")
    app.command(name, help=help_text(getdoc(function) or ""))(function)
    return function


def _json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@_verb
def list_(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="All versions of one name.")
    ] = None,
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """List the newest version of every concept, or all versions of one.

    Examples:
      contrans concepts list
      contrans concepts list honesty
      contrans concepts list --library s3://team/concepts --json
    """
    from contrans.cli.concepts_tables import listing
    from contrans.library import Library

    place = Library(library)
    damaged: list[str] = []
    found = place.entries(name, damaged=damaged)
    if name is not None and not found and not damaged:
        place.find(name)  # the error names near ones
    if json_:
        _json([json.loads(entry.to_bytes()) for entry in found])
    elif found:
        typer.echo(listing(found, every=name is not None))
    else:
        console.note(
            f"{place.name} is empty; fill it: contrans concepts add PATH --name NAME"
        )
    for message in damaged:
        console.note(f"warning: {message}")


@_verb
def show(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="Without version: newest.")
    ],
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Say what an entry is, what it was made from, what it did, and where its files are.

    Examples:
      contrans concepts show honesty
      contrans concepts show honesty-13b@2 --json
    """
    from contrans.cli.concepts_tables import described, facts
    from contrans.library import Library

    place = Library(library)
    entry = place.find(reference)
    if json_:
        _json(facts(place, entry))
    else:
        typer.echo(described(place, entry))


@_verb
def add(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A file of pairs, a built-in concept, a vector, a map, or the folder "
            "that transplant wrote.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="A line for people.")] = "",
    parent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[@VERSION]",
            help="What it was made from, where its provenance does not tell. "
            "Repeatable.",
        ),
    ] = None,
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Keep something as the next version of a name.

    Versions are never changed; adding the same content again does nothing. What it was
    made from is found by itself when that is in the library.

    Examples:
      contrans concepts add mine.jsonl --name honesty --note "200 pairs, reviewed"
      contrans concepts add honesty --name honesty-builtin
      contrans concepts add anger.safetensors --name anger-7b
      contrans concepts add link.safetensors --name llama-7b-to-13b
      contrans concepts add anger-13b/ --name anger-13b --parent anger-7b@1
    """
    from contrans.library import Library

    place = Library(library)
    done = place.add(path, name=name, note=note, parents=parent or ())
    entry = done.entry
    known = {one.id: one.label for one in reversed(place.list())}
    parents = [known.get(identity, identity[:12]) for identity in entry.parents]
    if json_:
        found = {"entry": entry.label, "id": entry.id, "new": done.new}
        _json(found | {"kind": entry.kind, "parents": parents})
        return
    if not done.new:
        typer.echo(
            f"already there: {entry.label} has exactly this content; nothing was written"
            + (" (a version's note and parents do not change)" * bool(note or parent))
        )
        return
    origin = f", from {', '.join(parents)}" if parents else ""
    typer.echo(f"{entry.label}: {entry.kind}{origin}")
    if entry.kind == "pairs":
        typer.echo(f"use it: contrans transplant SOURCE TARGET --concept {entry.label}")
        _warn_of_pack(entry.name, entry.label)
    elif entry.kind == "map":
        typer.echo(f"use it: contrans transplant VECTOR {entry.label} -o FILE")
    else:
        model = entry.about["model"]["name"]
        typer.echo(f"use it: contrans generate {model} PROMPT --steer {entry.label}")


def _warn_of_pack(name: str, label: str) -> None:
    from contrans.data import concepts

    if name in concepts():
        console.note(
            f"note: --concept {name} without a version means the built-in concept; "
            f"write {label}"
        )


_verb(push)
_verb(pull)


@_verb
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="NAME[@VERSION].")],
    other: Annotated[str, typer.Argument(metavar="B", help="NAME[@VERSION].")],
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Two entries side by side: how they were made, what they hold, what they did.

    For vectors the cosine and the lengths layer by layer, for pairs what was added and
    removed, and the metrics of both with their intervals.

    Examples:
      contrans concepts diff honesty@1 honesty@2
      contrans concepts diff anger-13b@1 anger-13b --json
    """
    from contrans.cli.concepts_tables import compared
    from contrans.library import Library

    found = Library(library).diff(one, other)
    if json_:
        _json(found)
    else:
        typer.echo(compared(found))


@_verb
def verify(library: Where = None, json_: options.Json = False) -> None:
    """Hash every file again and name what is damaged; exit code 1 if anything is.

    Examples:
      contrans concepts verify
      contrans concepts verify --library s3://team/concepts
    """
    from contrans.library import Library

    place = Library(library)
    with console.Bars() as bars:
        found = place.verify(bars.stage("verify"))
    entries = place.list()
    if json_:
        problems = [
            {"file": p.file, "message": p.message, "entries": list(p.entries)}
            for p in found
        ]
        _json({"entries": len(entries), "problems": problems})
    else:
        for problem in found:
            typer.echo(problem.message)
        state = f"{len(found)} damaged" if found else "all whole"
        typer.echo(f"{place.name}: {len(entries)} entries, {state}")
    if found:
        raise typer.Exit(1)


@_verb
def remove(
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME@VERSION", help="Without one, --prune only deletes files."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete files that no entry needs any more.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also when other entries came from it.")
    ] = False,
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Take an entry out; its number is never given again.

    Its files stay until --prune: pull or add brings the entry back.

    Examples:
      contrans concepts remove honesty@1
      contrans concepts remove honesty@1 --prune
      contrans concepts remove --prune
    """
    from contrans.library import Library, prune as sweep

    if reference is None and not prune:
        raise typer.BadParameter("name an entry, NAME@VERSION, or pass --prune")
    place = Library(library)
    if reference is None:
        done = sweep(place, force=force)
    else:
        done = place.remove(reference, force=force, prune=prune)
    if json_:
        _json({"removed": done.label, "files": len(done.objects), "bytes": done.bytes})
        return
    if done.label is not None:
        typer.echo(f"removed {done.label}")
    if prune:
        typer.echo(f"deleted {len(done.objects)} files, {done.bytes:,} bytes")
