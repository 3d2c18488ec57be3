"""Rows of a data set: from a local file, or from the hub through `datasets`."""

from itertools import islice
from pathlib import Path
from typing import Any

from contrans.data.readers import (
    is_list,
    is_object,
    json_lines,
    parse_json,
    read_parquet,
    read_text,
    suffix,
    table_records,
)

FILES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".raw", ".gz", ".parquet")


def is_local(source: str | Path) -> bool:
    """Whether a source names a file or folder, rather than a data set of the hub."""
    path = Path(source)
    return isinstance(source, Path) or path.exists() or path.suffix in FILES


def read_table(source: str | Path, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a .json, .jsonl, .csv, .tsv (also .gz) or .parquet file, or of a hub data set.

    Args:
        source: a file, or "OWNER/NAME", "OWNER/NAME:CONFIG" or "OWNER/NAME:CONFIG:SPLIT".
        limit: read so many rows at most; hub data sets are then streamed.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: when the hub is needed and the extra is missing.
        ValueError: when the file has another form.
    """
    if not is_local(source):
        return _hub(str(source), limit)
    path = Path(source)
    kind = suffix(path)
    if kind == ".parquet":
        return read_parquet(path)[:limit]
    text = read_text(path)
    if kind == ".jsonl":
        rows = [record for _, record in json_lines(path, text)]
    elif kind == ".json":
        rows = parse_json(path, text)
        if not is_list(rows) or not all(map(is_object, rows)):
            raise ValueError(f"{path}: not a list of objects; write [{{...}}, ...]")
    elif kind in (".csv", ".tsv"):
        rows = [record for _, record in table_records(path, text)]
    else:
        raise ValueError(
            f"{path}: unknown format {kind or 'without a suffix'!r}; give .json, "
            ".jsonl, .csv, .tsv or .parquet"
        )
    return rows[:limit]


def _hub(source: str, limit: int | None) -> list[dict[str, Any]]:
    name, _, rest = source.partition(":")
    config, _, split = rest.partition(":")
    if name.count("/") != 1:
        raise FileNotFoundError(
            f"no file {source} (looked in {Path.cwd()}), and it is no hub id either "
            "(OWNER/NAME, OWNER/NAME:CONFIG or OWNER/NAME:CONFIG:SPLIT); check the name"
        )
    try:
        import datasets  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise ImportError(
            f'the data set {name!r} needs the package "datasets"; pip install '
            '"contrans[datasets]", or give a local file'
        ) from error
    splits = [split] if split else ["test", "validation", "train"]
    problem: Exception | None = None
    for part in splits:
        try:
            load: Any = datasets.load_dataset  # pyright: ignore
            found = load(name, config or None, split=part, streaming=limit is not None)
            return [dict(row) for row in islice(found, limit)]
        except ValueError as error:
            problem = error
    raise ValueError(
        f"cannot read data set {source!r} ({problem}); name the configuration and the "
        "split: OWNER/NAME:CONFIG:SPLIT"
    ) from problem
