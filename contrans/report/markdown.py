"""Pages as GitHub-flavoured Markdown, in which no text of a model is markup."""

import re

from contrans.report.blocks import (
    Block,
    Bullets,
    Callout,
    Code,
    Figure,
    Heading,
    Mark,
    Page,
    Paragraph,
    Sides,
    Table,
    numeric,
)
from contrans.report.format import clean, plain

SPECIAL = re.compile(r"[\\`*<>&|$~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
"""Characters that Markdown would read as markup; an underscore within a word is none."""
LEADING = re.compile(r"^([#+=-]|\d+(?=[.)]))")
SIGNS = {"warning": "\u26a0 ", "alarm": "\u26a0\u26a0 "}


def render(page: Page, *, level: int = 1) -> str:
    """The whole page; figures only where they lie as a file.

    Args:
        page: what to write.
        level: of the title; the sections are one deeper.
    """
    head = "#" * level
    parts = [f"{head} {text(page.title)}", text(page.subtitle) if page.subtitle else ""]
    for heading, blocks in page.sections():
        parts.append(f"{head}# {text(heading)}" if heading else "")
        parts += map(block, blocks)
    return "\n\n".join(part for part in parts if part) + "\n"


def block(block: Block) -> str:
    """One block; empty where Markdown cannot show it."""
    match block:
        case Heading() | Paragraph():
            return text(block.text)
        case Bullets(lines):
            return "\n".join(f"- {text(line)}" for line in lines)
        case Callout(tone, title, lines):
            head = f"> **{SIGNS.get(tone, '')}{text(title)}**"
            if len(lines) == 1:
                return f"{head}\n>\n> {text(lines[0])}"
            return "\n".join((head, ">", *(f"> - {text(line)}" for line in lines)))
        case Table():
            return f"{text(block.title)}\n\n{table(block)}"
        case Code():
            return fenced(block.text, block.language)
        case Sides(prompt, texts):
            parts = ["Prompt:", fenced(prompt)]
            for title, written in texts:
                parts += [f"{text(title)}:", fenced(written)]
            return "\n\n".join(parts)
        case Figure():
            return f"![{text(block.alt)}]({block.file})" if block.file else ""


def table(table: Table) -> str:
    """A table without its title."""
    if not table.rows:
        return "None."

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    texts = table.texts()
    rule = ["--:" if flush else ":--" for flush in numeric(texts)]
    body = []
    for i, (row, cells) in enumerate(zip(table.rows, texts, strict=True)):
        shown = []
        for cell, words in zip(row, cells, strict=True):
            words = text(words)
            mark = cell if isinstance(cell, Mark) else Mark("")
            if i in table.strong or mark.tone == "bad":
                words = f"**{words}**"
            shown.append(f"[{words}]({mark.link})" if mark.link else words)
        body.append(line(shown))
    return "\n".join((line([text(c) for c in table.columns]), line(rule), *body))


def text(words: str) -> str:
    """Text on one line, in which nothing is markup."""
    shown = " / ".join(part for part in clean(words).split("\n") if part.strip())
    shown = SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(shown.split()))
    return LEADING.sub(_harmless, shown)


def _harmless(found: re.Match[str]) -> str:
    """A leading list or heading mark, escaped; numbers and signed numbers stay."""
    mark = found[0]
    after = found.string[found.end() : found.end() + 1]
    if mark.isdigit():
        space = found.string[found.end() + 1 : found.end() + 2]
        return mark if space not in ("", " ") else f"{mark}\\"
    return mark if mark in "+-" and after not in ("", " ") else f"\\{mark}"


def fenced(words: str, language: str = "text") -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    shown = plain(words)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"
