"""Plain text to measure perplexity on, cut into documents."""

import re
from pathlib import Path
from typing import Literal, get_args

from contrans.core.registry import unknown
from contrans.data.hub import is_local, read_table
from contrans.data.readers import json_lines, lines_of, read_text, suffix

Cut = Literal["auto", "articles", "lines", "file"]
_ARTICLE = re.compile(r"(?m)^ = (?!= )[^\n]+ = ?$")
"""A heading of the first level, as WikiText writes it."""


def read_documents(
    source: str | Path, *, cut: Cut = "auto", limit: int | None = None
) -> tuple[str, ...]:
    """Documents of a text file, of WikiText, or of a hub data set with a field `text`.

    Args:
        source: any text file (also .gz), .jsonl or .json rows with `text`, or a hub id
            such as "Skylion007/openwebtext" or "Salesforce/wikitext:wikitext-2-raw-v1".
        cut: "articles" at WikiText's headings, "lines", or the whole "file" as one
            text; "auto" takes articles where there are such headings, else lines for
            .txt and the whole file for the rest.
        limit: so many documents at most.

    Raises:
        FileNotFoundError, ImportError: see `hub.read_table`.
        ValueError: when nothing is left.
        KeyError: for an unknown cut.
    """
    if cut not in get_args(Cut):
        raise unknown("cut", cut, get_args(Cut))
    path = Path(source)
    kind = suffix(path)
    if not is_local(source) or kind in (".json", ".csv", ".tsv"):
        found = [str(row.get("text", "")) for row in read_table(source, limit=limit)]
        whole = "\n".join(found)
    elif kind == ".jsonl":
        whole = read_text(path)
        found = [str(row.get("text", "")) for _, row in json_lines(path, whole)]
    else:
        whole = read_text(path).replace("\r\n", "\n")
        found = lines_of(whole) if kind == ".txt" else [whole]
    starts = [match.start() for match in _ARTICLE.finditer(whole)]
    if cut == "articles" or (cut == "auto" and len(starts) > 1):
        if not starts:
            raise ValueError(
                f"{source}: no headings of WikiText's kind (' = Title = '); choose "
                "cut=lines or cut=file"
            )
        ends = [*starts[1:], len(whole)]
        found = [whole[a:b] for a, b in zip(starts, ends, strict=True)]
    elif cut == "lines":
        found = lines_of(whole)
    elif cut == "file":
        found = [whole]
    kept = [text for text in found if text.strip()][:limit]
    if not kept:
        raise ValueError(f"{source}: no text in it; give a file or data set with text")
    return tuple(kept)
