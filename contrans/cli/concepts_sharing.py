"""`contrans concepts push` and `pull`: share a library."""

import json
from typing import Annotated, Any

import typer

from contrans.cli import console, options

Where = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="DIR|URL",
        help="Another library: a folder, s3://bucket/path, hf://datasets/NAME/path.",
    ),
]
Remote = Annotated[
    str,
    typer.Argument(
        metavar="REMOTE",
        help="A folder, s3://bucket/path, hf://datasets/NAME/path, or any address "
        "that fsspec knows.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="Which; without any: everything. What they were made from comes along.",
    ),
]


def push(
    remote: Remote,
    names: Names = None,
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Copy concepts to where others can pull them.

    Only what is missing there is copied, each file checked on arrival. Nothing there is
    written over: a number that means something else there is refused.

    Args:
        remote: the other library, or where it is.
        names: which entries; none means all.
        library: where the library lies; None takes the default.
        json_: print JSON.

    Examples:
      contrans concepts push /mnt/team/concepts
      contrans concepts push s3://team/concepts honesty
      contrans concepts push hf://datasets/me/concepts honesty@2
    """
    from contrans.library import Library

    with console.Bars() as bars:
        done = Library(library).push(remote, names or (), progress=bars.stage("push"))
    _moved(done, remote, "pushed to", as_json=json_)


def pull(
    remote: Remote,
    names: Names = None,
    renumber: Annotated[
        bool,
        typer.Option(
            "--renumber",
            help="Where the same number means something else here: theirs keeps it, "
            "yours moves to the next free one.",
        ),
    ] = False,
    library: Where = None,
    json_: options.Json = False,
) -> None:
    """Copy concepts from where others pushed them.

    Examples:
      contrans concepts pull /mnt/team/concepts
      contrans concepts pull s3://team/concepts honesty@2
      contrans concepts pull hf://datasets/me/concepts --renumber
    """
    from contrans.library import Library

    with console.Bars() as bars:
        done = Library(library).pull(
            remote, names or (), renumber=renumber, progress=bars.stage("pull")
        )
    _moved(done, remote, "pulled from", as_json=json_)


def _moved(done: Any, remote: str, verb: str, *, as_json: bool) -> None:
    new = [entry.label for entry in done.entries]
    if as_json:
        found = {
            "new": new,
            "present": [entry.label for entry in done.present],
            "objects": done.objects,
            "bytes": done.bytes,
            "renumbered": dict(done.renumbered),
            "left_out": list(done.left),
        }
        typer.echo(json.dumps(found, indent=2))
        return
    said = f": {', '.join(new)}" if new else ""
    typer.echo(
        f"{len(new)} {verb} {remote}{said} ({done.objects} files, {done.bytes:,} bytes); "
        f"{len(done.present)} were there"
    )
    for was, now in done.renumbered:
        typer.echo(f"{was} of yours is now {now}")
    if done.left:
        console.note(
            f"left out, since removed there before: {', '.join(done.left)} (name them "
            "to copy them again)"
        )
