"""Read pairs from files, with errors that name the file, the place and the field."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

from contrans.data.catalogue import SPLITS

FORMATS = (
    'JSON {"pos": [...], "neg": [...]}, a JSON list of [positive, negative], JSONL '
    'with "positive" and "negative", or CSV/TSV (or Parquet) with the header positive,negative'
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


UNPACKED = 1 << 31
"""Bytes that a packed file may hold."""
_LONE = re.compile(
    r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
"""Half of a character, as JSON writes it."""
_DIGITS = re.compile(r"\d{4301,}")


def read_text(path: Path) -> str:
    """The text of a file, unpacked when its name ends in .gz.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is empty, damaged, or not UTF-8 text; the message says where.
    """
    _check_there(path)
    raw = _unpacked(path) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(lines_of(raw[: error.start].decode("utf-8-sig") + "."))
        seen = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise ValueError(
            f"{path}, line {line}: the text is {seen} (byte 0x{raw[error.start]:02x}); "
            "save it again as UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {FORMATS}")
    return text


def _check_there(path: Path) -> None:
    if path.is_file():
        return
    kind = "a folder, not a file" if path.is_dir() else "no such file"
    if path.exists() and not path.is_dir():
        kind = "neither a file nor a folder"
    raise FileNotFoundError(
        f"{path}: {kind} (looked in {Path.cwd()}); check the name and the folder"
    )


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            raw = file.read(UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        said = (
            "cut off" if isinstance(error, EOFError) else "damaged, or no gzip at all"
        )
        raise ValueError(
            f"{path}: the packed data are {said} ({error}); fetch the file again"
        ) from error
    if len(raw) > UNPACKED:
        raise ValueError(
            f"{path}: more than {UNPACKED >> 30} GB once unpacked; unpack it and give "
            "a part of it"
        )
    return raw


def lines_of(text: str) -> list[str]:
    r"""The lines of a text: `\n`, `\r\n` and `\r` end one, and nothing else does.

    Example:
        >>> lines_of("one\rtwo\u2028still two")
        ['one', 'two\u2028still two']
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.removesuffix("\n").split("\n")


def suffix(path: Path) -> str:
    """The suffix that tells the format, without a trailing .gz."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def parse_json(path: Path, text: str) -> Any:
    """JSON, or an error with file and line."""
    return _loads(
        path,
        text,
        1,
        "mend that line, or name the file .jsonl if every line is an object of its own",
    )


def _loads(path: Path, text: str, line: int, hint: str) -> Any:
    """JSON that begins at a line of a file."""

    def at(offset: int) -> str:
        return f"{path}, line {line - 1 + len(lines_of(text[:offset] + '.'))}"

    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{at(error.pos)}, column {error.colno}: not JSON ({error.msg}); {hint}"
        ) from error
    except RecursionError as error:
        raise ValueError(
            f"{at(0)}: nested too deeply to be read; data is a list of objects with "
            "plain fields"
        ) from error
    except UnicodeEncodeError as error:
        lone = _LONE.search(text)
        raise ValueError(
            f"{at(lone.start() if lone else 0)}: half of a character (a lone surrogate "
            "such as \\ud83d), of which no text can be made; write the whole character"
        ) from error
    except ValueError as error:
        digits = _DIGITS.search(text)
        raise ValueError(
            f"{at(digits.start() if digits else 0)}: a number of more than 4,300 digits; "
            "put it in quotes, or leave it out"
        ) from error
    return value


def json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers; blank lines are skipped."""
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        value = _loads(path, line, number, "in JSONL every line is one object")
        if not is_object(value):
            raise ValueError(
                f"{path}, line {number}: a {type(value).__name__}, not an object; "
                'write {"field": value, ...} on every line'
            )
        yield number, value


def table_lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The rows of CSV or TSV, each with the line it ends on; blank ones are skipped.

    Fields may have any length.

    Raises:
        ValueError: when the quotes do not match; the message names the line.
    """
    delimiter = "\t" if suffix(path) == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = csv.field_size_limit(len(text) + 1)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: not a table ({error}); put texts with "
            'commas, quotes or line breaks in quotes, and write a quote in one as ""'
        ) from error
    finally:
        csv.field_size_limit(before)


def table_records(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """The rows of CSV or TSV by the names in the first line, each with its line.

    Raises:
        ValueError: when a row has more fields than there are names.
    """
    (_, header), *rows = table_lines(path, text)
    header = [name.strip() for name in header]
    for line, row in rows:
        if len(row) > len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} fields under {len(header)} names "
                f"({', '.join(header)}); put texts with commas in quotes"
            )
    return [(line, dict(zip(header, row, strict=False))) for line, row in rows]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: without pyarrow.
        ValueError: when it is none, or damaged.
    """
    _check_there(path)
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            f'reading {path.name} needs the package "datasets"; pip install '
            '"contrans[datasets]", or save it as .jsonl'
        ) from error
    try:
        return parquet.read_table(path).to_pylist()
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path}: not a whole Parquet file ({str(error).partition('.')[0]}); fetch "
            "or write it again"
        ) from error


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


def _from_table(path: Path, text: str) -> Iterator[Row]:
    header = [name.strip() for name in table_lines(path, text)[0][1]]
    for field, short in _SHORT.items():
        if field not in header and short not in header:
            raise ValueError(
                f"{path}, line 1: no column {field!r} in the header "
                f"({', '.join(header)}); the first line must be positive,negative or "
                "positive,negative,split"
            )
    for line, record in table_records(path, text):
        yield _record(path, f"line {line}", record)


def read_rows(path: Path) -> list[Row]:
    """The pairs of a file, checked.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is empty, has another format, holds empty or
            repeated texts, or pairs whose sides are equal.
    """
    kind = suffix(path)
    text = "" if kind == ".parquet" else read_text(path)
    if kind in (".csv", ".tsv"):
        rows = list(_from_table(path, text))
    elif kind == ".parquet":
        rows = [
            _record(path, f"row {n}", value)
            for n, value in enumerate(read_parquet(path), start=1)
        ]
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
