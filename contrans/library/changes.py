"""What changes a library: adding, removing, pruning; and what in it is damaged."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from contrans.core.version import __version__
from contrans.library.describe import describe, find_parents
from contrans.library.entries import (
    Entry,
    File,
    NewerRecordError,
    check_name,
    object_name,
    parse,
    record_name,
)
from contrans.library.lineage import children
from contrans.library.storage import PART
from contrans.library.store import Progress, Store

STALE_SECONDS = 24 * 3600.0
"""Age from which an unfinished file belongs to no one who is still writing it."""


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did."""

    entry: Entry
    new: bool
    """False when the same content was there: nothing was written."""


def add(
    library: Store,
    path: str | Path,
    *,
    name: str,
    note: str = "",
    parents: Sequence[str] = (),
) -> Added:
    """Keep what a path holds as the next version of a name; see `Library.add`.

    The files are written first, the record last: an interruption leaves at most files
    that no entry needs. Of two processes that add at once, both get a number.

    Args:
        library: the library.
        path: a file or folder.
        name: under which it is kept.
        note: for people.
        parents: references of what it was made from.
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


def _create(library: Store, entry: Entry, files: Mapping[str, bytes]) -> Added:
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


@dataclass(frozen=True, slots=True)
class Problem:
    """Something damaged."""

    file: str
    """Where it is."""
    message: str
    entries: tuple[str, ...] = ()
    """The entries that need it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was taken out."""

    entry: Entry | None
    """None when only files were, or when the record could not be read."""
    objects: tuple[str, ...]
    """Files deleted."""
    bytes: int
    label: str | None = None
    """The label of the entry, also where its record could not be read."""


def verify(library: Store, progress: Progress | None = None) -> tuple[Problem, ...]:
    """Read every record and hash every file again.

    Args:
        library: what to check.
        progress: called with (files done, files in all).

    Returns:
        What is damaged; nothing when all is well.
    """
    damaged: list[str] = []
    entries = library.entries(damaged=damaged)
    found = [Problem(message.split(": ")[0], message) for message in damaged]
    users: dict[str, list[str]] = {}
    hashes: dict[str, tuple[str, int]] = {}
    for entry in entries:
        for name, file in entry.files.items():
            path = object_name(file.sha256, name)
            users.setdefault(path, []).append(entry.label)
            hashes[path] = (file.sha256, file.bytes)
    sizes = library.place.sizes("objects")
    whole = {path: size for path, size in sizes.items() if PART not in path}
    paths = sorted({*whole, *hashes})
    for i, path in enumerate(paths, start=1):
        said = _check(library, path, sizes, hashes)
        if said is not None:
            labels = tuple(users.get(path, ()))
            whose = f" (needed by {', '.join(labels)})" if labels else ""
            where = library.place.at(path)
            found.append(Problem(where, f"{where}: {said}{whose}", labels))
        if progress is not None:
            progress(i, len(paths))
    return tuple(found)


def _check(
    library: Store,
    path: str,
    sizes: dict[str, int],
    hashes: dict[str, tuple[str, int]],
) -> str | None:
    wanted = hashes.get(path, (path.rsplit("/", 1)[-1].partition(".")[0], -1))
    if path not in sizes:
        return "missing"
    if wanted[1] not in (-1, sizes[path]):
        return f"corrupted: {sizes[path]} bytes instead of {wanted[1]}"
    found = library.place.sha256(path)
    if found != wanted[0]:
        return f"corrupted: its bytes have the hash {found[:12]}, not {wanted[0][:12]}"
    return None


def remove(
    library: Store, reference: str, *, force: bool = False, prune: bool = False
) -> Removed:
    """Take an entry out; its number is never given again.

    A damaged record goes too; what was made from it cannot be told any more.

    Args:
        library: where from.
        reference: one version, `name@version`.
        force: also when other entries were made from it.
        prune: also delete the files that no entry needs any more.

    Raises:
        KeyError: when there is no such entry.
        ValueError: when another entry was made from it, when no version was said, or
            when a newer contrans wrote it.
    """
    with library.place.lock():
        entry = _removable(library, reference, force=force)
        if prune:
            _check_prunable(library, force=force, without=reference)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = {"removed": now, "id": None if entry is None else entry.id}
        mark = json.dumps(said, indent=2) + "\n"
        name, version = parse(reference)
        assert version is not None
        record = record_name(name, version)
        library.place.put(record.replace(".json", ".removed.json"), mark.encode())
        library.place.delete(record)
        gone = _sweep(library) if prune else {}
    return Removed(entry, tuple(gone), sum(gone.values()), reference)


def _removable(library: Store, reference: str, *, force: bool) -> Entry | None:
    """The entry of a label, if it may go; None when its record is damaged."""
    try:
        entry = library.find(reference)
    except NewerRecordError:
        raise
    except ValueError:
        kept = library.records().items()
        if reference not in [f"{n}@{v}" for (n, v), removed in kept if not removed]:
            raise
        return None
    if entry.label != reference:
        raise ValueError(
            f"{reference!r} now means {entry.label}; name the version to remove: "
            f"contrans concepts remove {entry.label}"
        )
    others = [one for one in library.list() if one.label != entry.label]
    needed = children(entry, others)
    if needed and not force and all(one.id != entry.id for one in others):
        raise ValueError(
            f"{', '.join(one.label for one in needed)} came from {entry.label}; "
            "remove those first, or pass --force to break their lineage"
        )
    return entry


def prune(library: Store, *, force: bool = False) -> Removed:
    """Delete files that no entry needs, and what interrupted commands left.

    Raises:
        ValueError: when a record is damaged, or the place cannot be locked.
    """
    with library.place.lock():
        _check_prunable(library, force=force)
        gone = _sweep(library)
    return Removed(None, tuple(gone), sum(gone.values()))


def _check_prunable(library: Store, *, force: bool, without: str = "") -> None:
    for (name, version), removed in library.records().items():
        if not removed and f"{name}@{version}" != without:
            with suppress(FileNotFoundError):
                library.record(name, version)  # damaged, it may need any file: an error
    if library.place.folder is None and not force:
        raise ValueError(
            f"{library.name} cannot be locked: a file that someone is pushing now could "
            "be deleted. Make sure that no one is, then pass --force"
        )


def _sweep(library: Store) -> dict[str, int]:
    needed = {path for entry in library.entries() for path in entry.objects()}
    found = library.place.sizes("objects")
    gone = {
        path: size
        for path, size in found.items()
        if path not in needed and (PART not in path or _stale(library, path))
    }
    for path in gone:
        library.place.delete(path)
    return gone


def _stale(library: Store, path: str) -> bool:
    folder = library.place.folder
    if folder is None:
        return False
    try:
        return time.time() - (folder / path).stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False
