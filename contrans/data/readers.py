"""Read pairs from files, with errors that name the file, the place and the field."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from contrans.data.catalogue import SPLITS

FORMATS = (
    'JSON {"pos": [...], "neg": [...]}, a JSON list of [positive, negative], JSONL '
    'with "positive" and "negative", or CSV/TSV with the header positive,negative'
)
_SHORT = {"positive": "pos", "negative": "neg"}


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value of JSON is a list."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value of JSON is an object."""
    return isinstance(value, dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One pair as it stands in a file."""

    where: str
    """The place, such as "line 12"."""
    positive: str
    negative: str
    split: str | None = None


def read_text(path: Path) -> str:
    """The text of a file, unpacked when its name ends in .gz.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is empty, or not UTF-8 text.
    """
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "no such file"
        raise FileNotFoundError(
            f"{path}: {kind} (looked in {Path.cwd()}); check the name and the folder"
        )
    raw = path.read_bytes()
    try:
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        text = raw.decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(
            f"{path}: not readable as UTF-8 text ({error}); save it again as UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {FORMATS}")
    return text


def suffix(path: Path) -> str:
    """The suffix that tells the format, without a trailing .gz."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def parse_json(path: Path, text: str) -> Any:
    """JSON, or an error with file and line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON "
            f"({error.msg}); mend that line, or name the file .jsonl if every line is "
            "an object of its own"
        ) from error


def json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers; blank lines are skipped."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}); "
                "in JSONL every line is one object"
            ) from error
        if not isinstance(value, dict):
            raise ValueError(
                f"{path}, line {number}: a {type(value).__name__}, not an object; "
                'write {"field": value, ...} on every line'
            )
        yield number, value


def text_field(path: Path, where: str, record: dict[str, Any], field: str) -> str:
    """A field that must hold text.

    Args:
        path: the file.
        where: the place in it, for messages.
        record: the object of the file.
        field: its name.

    Raises:
        ValueError: when it is missing, not a string, or blank.
    """
    value = record.get(field, record.get(_SHORT.get(field, field)))
    if value is None:
        fields = ", ".join(repr(str(key)) for key in record) or "none"
        raise ValueError(
            f"{path}, {where}: no field {field!r} (fields there: {fields}); add it"
        )
    if not isinstance(value, str):
        raise ValueError(
            f"{path}, {where}, field {field!r}: {value!r} is a "
            f"{type(value).__name__}, not text; put it in quotes"
        )
    if not value.strip():
        raise ValueError(
            f"{path}, {where}, field {field!r}: the text is empty; write one or remove "
            "the pair"
        )
    return value


def split_field(path: Path, where: str, record: dict[str, Any]) -> str | None:
    """The split a record belongs to, or None.

    Args:
        path: the file.
        where: the place in it, for messages.
        record: the object of the file.

    Raises:
        ValueError: for an unknown split; the message names the place.
    """
    split = record.get("split") or None
    if split is not None and split not in SPLITS:
        raise ValueError(
            f"{path}, {where}, field 'split': unknown split {split!r}; choose one of "
            f"{', '.join(SPLITS)}, or leave the field out everywhere"
        )
    return split


def _record(path: Path, where: str, record: dict[str, Any]) -> Row:
    return Row(
        where,
        text_field(path, where, record, "positive"),
        text_field(path, where, record, "negative"),
        split_field(path, where, record),
    )


def _from_lists(path: Path, value: dict[str, Any]) -> Iterator[Row]:
    """The paper's files: two lists of equal length."""
    sides: dict[str, tuple[str, list[Any]]] = {}
    for field, short in _SHORT.items():
        key = field if field in value else short
        side = value.get(key)
        if not is_list(side):
            raise ValueError(
                f"{path}: no list under {short!r} (keys there: "
                f"{', '.join(map(repr, value)) or 'none'}); expected {FORMATS}"
            )
        sides[field] = (key, side)
    (pos_key, positive), (neg_key, negative) = sides["positive"], sides["negative"]
    if len(positive) != len(negative):
        raise ValueError(
            f"{path}: {len(positive)} texts under {pos_key!r} but {len(negative)} under "
            f"{neg_key!r}; pairs need equal numbers: drop the surplus or write the "
            "missing ones"
        )
    for i, (p, n) in enumerate(zip(positive, negative, strict=True), start=1):
        yield _record(path, f"entry {i}", {"positive": p, "negative": n})


def _from_json(path: Path, text: str) -> Iterator[Row]:
    value = parse_json(path, text)
    if is_object(value):
        yield from _from_lists(path, value)
        return
    for i, entry in enumerate(value if is_list(value) else [value], start=1):
        where = f"entry {i}"
        if is_object(entry):
            yield _record(path, where, entry)
        elif is_list(entry) and len(entry) == 2:
            pair = {"positive": entry[0], "negative": entry[1]}
            yield _record(path, where, pair)
        else:
            raise ValueError(
                f"{path}, {where}: expected [positive, negative], found {entry!r:.80}"
            )


def _from_table(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    for field, short in _SHORT.items():
        if field not in header and short not in header:
            raise ValueError(
                f"{path}, line 1: no column {field!r} in the header "
                f"({', '.join(header)}); the first line must be positive,negative or "
                "positive,negative,split"
            )
    for record in reader:
        yield _record(path, f"line {reader.line_num}", record)


def read_rows(path: Path) -> list[Row]:
    """The pairs of a file, checked.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is empty, has another format, holds empty or
            repeated texts, or pairs whose sides are equal.
    """
    text = read_text(path)
    kind = suffix(path)
    if kind in (".csv", ".tsv"):
        rows = list(_from_table(path, text, "," if kind == ".csv" else "\t"))
    elif kind == ".jsonl":
        rows = [
            _record(path, f"line {n}", value) for n, value in json_lines(path, text)
        ]
    elif kind == ".json":
        rows = list(_from_json(path, text))
    else:
        raise ValueError(
            f"{path}: unknown format {kind or 'without a suffix'!r}; expected {FORMATS}"
        )
    if not rows:
        raise ValueError(f"{path}: no pairs in it; expected {FORMATS}")
    _refuse_repeats(path, rows)
    return rows


def _refuse_repeats(path: Path, rows: list[Row]) -> None:
    """Refuse pairs that say nothing, and texts that could leak or contradict.

    One text may stand in several pairs of one split, always on the same side.
    """
    seen: dict[str, tuple[str, Row]] = {}
    pairs: set[tuple[str, str]] = set()
    for row in rows:
        sides = {"positive": row.positive.strip(), "negative": row.negative.strip()}
        positive, negative = sides.values()
        if positive == negative:
            raise ValueError(
                f"{path}, {row.where}: 'positive' and 'negative' are equal "
                f"({row.positive[:60]!r}); the two sides must differ in the concept"
            )
        for field, side in sides.items():
            side_before, before = seen.setdefault(side, (field, row))
            fine = row.split is not None and row.split == before.split
            whole = (positive, negative) in pairs
            if before is not row and (whole or side_before != field or not fine):
                raise ValueError(
                    f"{path}, {row.where}, field {field!r}: this text is also in "
                    f"{before.where}, field {side_before!r} ({side[:60]!r}); remove or "
                    "reword one: a text may not be on both sides, nor in two splits"
                )
        pairs.add((positive, negative))
