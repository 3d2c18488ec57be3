"""Add to a library: content by its hash, a record under the next free number."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from contrans.core.version import __version__
from contrans.library.core import Library
from contrans.library.describe import describe, find_parents
from contrans.library.entries import Entry, File, check_name, record_name


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did."""

    entry: Entry
    new: bool
    """False when the same content was there: nothing was written."""


def add(
    library: Library,
    path: str | Path,
    *,
    name: str,
    note: str = "",
    parents: Sequence[str] = (),
) -> Added:
    """Keep what a path holds as the next version of a name; see `Library.add`.

    The files are written first, the record last: an interruption leaves at most files
    that no entry needs. Of two processes that add at once, both get a number.
    """
    check_name(name)
    given = [library.find(parent).id for parent in parents]
    content = describe(path)
    files = {
        file: File(hashlib.sha256(data).hexdigest(), len(data))
        for file, data in content.files.items()
    }
    entry = Entry(
        name=name,
        version=1,
        kind=content.kind,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        note=note,
        about=content.about,
        contrans=__version__,
    )
    known = [*given, *find_parents(content.about, library.list())]
    kept = tuple(parent for parent in dict.fromkeys(known) if parent != entry.id)
    library.begin()
    library.put_objects(entry, content.files)
    return _create(library, replace(entry, parents=kept), content.files)


def _create(library: Library, entry: Entry, files: Mapping[str, bytes]) -> Added:
    """Write a record under the next free number, if its content is new."""
    with library.place.lock():
        while True:
            for same in library.list(entry.name):
                if same.id == entry.id:
                    return Added(same, new=False)
            entry = replace(entry, version=library.next_version(entry.name))
            # A file may have been pruned before the lock was ours.
            library.put_objects(entry, files, hashed=False)
            try:
                library.place.create(
                    record_name(entry.name, entry.version), entry.to_bytes()
                )
            except FileExistsError:
                continue  # a store has no lock: someone was faster
            return Added(entry, new=True)
