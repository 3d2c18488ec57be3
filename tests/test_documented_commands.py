"""Every command of the documents exists, and so does every option that they show."""

import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
import typer

from contrans.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tasks").glob("*.md")),
    *sorted(p for p in (ROOT / "examples").iterdir() if p.suffix != ".jsonl"),
]
KNOWN = """
chat --steer
check
collect --pairs --texts --compile
compare --model --concept --generations -o
concept
concepts add --name --note
concepts diff
concepts pull --library
concepts push --library
concepts remove --library
concepts show
concepts verify
demo
eval --task --data --limit --set --concept --steer
export --any-model --bake --bake-gguf --gguf --layers --lm-eval --repeng --strength -o
generate --steer --compare
lm-eval --task --steer --compare --include-path --strength --layers -o
ls
map
recipe list
recipe run --models --limit --resume -o
show
transplant --map-source --concept --dtype --device-map --quantize --force -o
zoo train
"""
"""Commands of the first release, with options that its documents show."""


@cache
def command(*path: str) -> click.Command | None:
    """The command of a path of names, as the command line finds it."""
    found: click.Command = typer.main.get_command(app)
    context = click.Context(found)
    for name in path:
        below = (
            found.get_command(context, name) if hasattr(found, "get_command") else None
        )
        if below is None:
            return None
        found, context = below, click.Context(below, parent=context)
    return found


def missing(words: list[str]) -> list[str]:
    """What a command line names that there is not: commands, then options."""
    path = [words[0]]
    found = command(*path)
    if found is None:
        return [f"contrans {words[0]}"]
    rest = words[1:]
    while rest and hasattr(found, "get_command") and re.fullmatch("[a-z-]+", rest[0]):
        path.append(rest.pop(0))
        found = command(*path)
        if found is None:
            return [f"contrans {' '.join(path)}"]
    known = {"--help", "-h"}
    for parameter in found.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    options = [w.partition("=")[0] for w in rest if re.match(r"--?[a-z]", w)]
    return [f"contrans {' '.join(path)} {o}" for o in options if o not in known]


def shown(text: str) -> list[list[str]]:
    """The command lines in the code of a document, without the word contrans."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.strip().startswith("run:")]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    found = []
    for line in lines:
        for part in re.split(r"&&|\||;", line.partition(" #")[0]):
            start = re.match(r"\s*(?:run: |\$ |\S*/)?contrans +(?=[a-z])(.*)", part)
            if start and "=" not in start[1].split()[0]:
                found.append(shlex.split(start[1].replace("...", "")))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_shown_in_a_document_exist(path):
    assert [m for words in shown(path.read_text("utf-8")) for m in missing(words)] == []


def test_the_documents_are_read():
    lines = [w for path in DOCUMENTS for w in shown(path.read_text("utf-8"))]
    assert len(lines) >= 50
    assert ["concepts", "add", "anger-7b", "--name", "anger"] in lines
    assert {words[0] for words in lines} >= {"demo", "transplant", "export", "eval"}


@pytest.mark.parametrize("line", KNOWN.strip().splitlines())
def test_commands_of_the_first_release_remain(line):
    assert missing(line.split()) == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("transplnt A B", ["contrans transplnt"]),
        ("recipe rum table1", ["contrans recipe rum"]),
        ("eval M --tsak x --limit 3", ["contrans eval --tsak"]),
        ("concepts add x --name y -z", ["contrans concepts add -z"]),
    ],
)
def test_a_command_that_is_not_there_is_seen(line, what):
    assert missing(line.split()) == what
