"""Neutral text: what maps are fitted on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrans.data.readers import (
    is_list,
    is_object,
    json_lines,
    lines_of,
    parse_json,
    read_text,
    suffix,
    text_field,
)

BUILT_IN = Path(__file__).parent / "corpus.jsonl"
FORMATS = ".txt (one text per line), .jsonl or .json with a field 'text', or these .gz"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct texts, in the order of their file."""

    name: str
    texts: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.texts)


def _read(path: Path) -> Iterator[str]:
    text, kind = read_text(path), suffix(path)
    if kind == ".txt":
        yield from (line for line in lines_of(text) if line.strip())
    elif kind == ".jsonl":
        for number, record in json_lines(path, text):
            yield text_field(path, f"line {number}", record, "text")
    elif kind == ".json":
        value = parse_json(path, text)
        entries: Any = value.get("text") if is_object(value) else value
        if not is_list(entries):
            raise ValueError(
                f"{path}: no list of texts; write a list of strings, a list of objects "
                "with a field 'text', or {'text': [...]}"
            )
        for i, entry in enumerate(entries, start=1):
            record = entry if is_object(entry) else {"text": entry}
            yield text_field(path, f"entry {i}", record, "text")
    else:
        raise ValueError(
            f"{path}: unknown format {kind or 'without a suffix'!r}; expected {FORMATS}"
        )


def _corpus(name: str, texts: Iterable[str], at_least: int) -> Corpus:
    from contrans.core.files import digest

    kept = tuple(dict.fromkeys(texts))
    if len(kept) < at_least:
        raise ValueError(
            f"corpus {name!r} holds {len(kept)} distinct texts, fewer than the "
            f"{at_least} needed; give a longer one, or leave the corpus out to use the "
            "built-in one"
        )
    return Corpus(name, kept, digest(list(kept)))


def load_corpus(
    name_or_path: str | Path | None = None,
    *,
    limit: int | None = None,
    at_least: int = 1,
) -> Corpus:
    """Texts for fitting maps; repeated ones are kept once.

    Args:
        name_or_path: None for the built-in corpus, or a file: .txt with one text per
            line, .jsonl or .json with a field "text", or any of these packed with gzip.
        limit: keep the first so many.
        at_least: how many texts the caller needs.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file has another format, holds an empty text, or is
            shorter than needed.
    """
    path = BUILT_IN if name_or_path is None else Path(name_or_path)
    texts = list(dict.fromkeys(_read(path)))
    label = "built-in" if name_or_path is None else path.name
    return _corpus(label, texts if limit is None else texts[:limit], at_least)
