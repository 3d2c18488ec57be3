"""Share a library: push to and pull from a folder, S3, the hub, by one code path.

Objects are copied first, each checked on arrival; the record of an entry comes last, so
an interrupted copy leaves no entry without its files. The shared library decides what a
number means: an entry of yours that took the same number moves on with `renumber`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contrans.library.entries import (
    Entry,
    File,
    NewerRecordError,
    object_name,
    read_entry,
    record_name,
)
from contrans.library.lineage import with_ancestors
from contrans.library.store import Progress, Store


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or a pull did."""

    entries: tuple[Entry, ...]
    """Entries that were not there."""
    present: tuple[Entry, ...]
    """Entries that were."""
    objects: int
    """Files copied."""
    bytes: int
    renumbered: tuple[tuple[str, str], ...] = ()
    """Entries of yours that moved on: (former label, new label)."""
    left: tuple[str, ...] = ()
    """Entries left out, since they were removed on the other side."""


def push(
    local: Store,
    remote: Store | str | Path,
    references: Sequence[str] = (),
    *,
    progress: Progress | None = None,
) -> Moved:
    """Copy entries, and what they were made from, into a shared library.

    What is missing or damaged there is mended. In a store, whose files have to be
    fetched to be hashed, bytes are looked at only where the version is named.

    Args:
        local: where from.
        remote: a folder, an address, or a library.
        references: which; none means all.
        progress: called with (files done, files in all).

    Raises:
        ValueError: when the remote has something else under a number, before anything
            is copied; or when a file here is corrupted.
        OSError: when the remote cannot be reached.
    """
    remote = remote if isinstance(remote, Store) else Store(remote)
    chosen = _chosen(local, references)
    with remote.place.lock():
        remote.begin()
    wanted, present, left, clashes = _compare(chosen, remote, asked=references)
    if clashes:
        raise ValueError(_clash(clashes, remote))
    whole = [*wanted, *present]
    objects, size = _copy(whole, local, remote, progress, look=bool(references))
    with remote.place.lock():
        for entry in wanted:
            _create(entry, remote)
    return Moved(tuple(wanted), tuple(present), objects, size, left=tuple(left))


def pull(
    local: Store,
    remote: Store | str | Path,
    references: Sequence[str] = (),
    *,
    renumber: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Copy entries, and what they were made from, out of a shared library.

    What is missing or damaged here is mended, records and files.

    Args:
        local: where to.
        remote: a folder, an address, or a library.
        references: which; none means all. What was removed here comes back only when
            its version is named.
        renumber: give entries of yours the next free number, where the shared library
            has something else under theirs.
        progress: called with (files done, files in all).

    Raises:
        FileNotFoundError: when there is no library.
        ValueError: for numbers that mean different things on both sides, before
            anything is copied; or for a file that arrives corrupted.
        OSError: when the remote cannot be reached.
    """
    remote = remote if isinstance(remote, Store) else Store(remote)
    if not remote.exists():
        raise FileNotFoundError(
            f"no concept library at {remote.name} (no contrans.json there); check the "
            "address, or make one: contrans concepts push"
        )
    chosen = _chosen(remote, references)
    wanted, present, left, clashes = _compare(chosen, local, asked=references)
    if clashes and not renumber:
        raise ValueError(_clash(clashes, remote))
    theirs = [one for one, _ in clashes]
    whole = [*wanted, *present, *theirs]
    objects, size = _copy(whole, remote, local, progress, look=bool(references))
    moved = []
    with local.place.lock():
        local.begin()
        for entry in wanted:
            _create(entry, local)
        for entry, mine in clashes:
            moved.append((mine.label, _give_way(mine, entry, local, remote)))
    return Moved(
        (*wanted, *theirs), tuple(present), objects, size, tuple(moved), tuple(left)
    )


def _chosen(library: Store, references: Sequence[str]) -> tuple[Entry, ...]:
    """The entries asked for, with what they were made from; all without references.

    A damaged record is an error where it is wanted.
    """
    if not references:
        return library.entries()
    everything = library.list()
    found = []
    for reference in references:
        entry = library.find(reference)
        if reference == entry.name:  # a bare name: all its versions
            found += [one for one in everything if one.name == entry.name]
        else:
            found.append(entry)
    return with_ancestors(found, everything)


_Clashes = list[tuple[Entry, Entry]]


def _compare(
    chosen: Sequence[Entry], there: Store, *, asked: Sequence[str]
) -> tuple[list[Entry], list[Entry], list[str], _Clashes]:
    """New entries, present ones, those removed there, and (entry, other) clashes.

    One whose record is damaged there is new.
    """
    held = {(e.name, e.version): e for e in there.list()}
    removed = {key for key, gone in there.records().items() if gone}
    wanted: list[Entry] = []
    present: list[Entry] = []
    left: list[str] = []
    clashes: _Clashes = []
    for entry in chosen:
        key = (entry.name, entry.version)
        if key in removed and entry.label not in asked:
            left.append(entry.label)
        elif key not in held:
            wanted.append(entry)
        elif held[key].id == entry.id:
            present.append(entry)
        else:
            clashes.append((entry, held[key]))
    return wanted, present, left, clashes


def _clash(clashes: _Clashes, remote: Store) -> str:
    lines = ", ".join(
        f"{one.label} ({one.id[:8]} and {other.id[:8]})" for one, other in clashes
    )
    return (
        f"{lines}: something else has the same number in {remote.name} and here; "
        "nothing was copied. Let the shared one keep it and yours move to the next "
        f"free number: contrans concepts pull {remote.name} --renumber"
    )


def _copy(
    entries: Sequence[Entry],
    source: Store,
    target: Store,
    progress: Progress | None,
    *,
    look: bool,
) -> tuple[int, int]:
    """Copy the files that are missing or damaged; each is checked before and after.

    Args:
        entries: whose files.
        source: where from.
        target: where to.
        progress: called with (files done, files in all).
        look: hash files that are there also in a store, not only on this machine.
    """
    there = target.place.sizes("objects") if entries else {}
    look = look or target.place.folder is not None
    files = {
        object_name(file.sha256, name): (entry, name)
        for entry in entries
        for name, file in entry.files.items()
    }

    def whole(path: str, file: File) -> bool:
        same = there.get(path) == file.bytes
        return same and (not look or target.place.sha256(path) == file.sha256)

    missing = {
        path: (entry, name)
        for path, (entry, name) in files.items()
        if not whole(path, entry.files[name])
    }
    size = 0
    for i, (path, (entry, name)) in enumerate(missing.items(), start=1):
        data = source.read(entry, name)
        target.place.put(path, data)
        found = target.place.sha256(path)
        if found != entry.files[name].sha256:
            target.place.delete(path)
            raise ValueError(
                f"{name} of {entry.label} arrived corrupted at {target.place.at(path)} "
                f"(hash {found[:12]}, not {entry.files[name].sha256[:12]}) and was "
                "deleted there; run the same command again"
            )
        size += len(data)
        if progress is not None:
            progress(i, len(missing))
    return len(missing), size


def _create(entry: Entry, target: Store) -> None:
    """Write a record that is not there, or damaged; someone may have been faster."""
    record = record_name(entry.name, entry.version)
    for path, file in entry.objects().items():
        if target.place.size(path) != file.bytes:
            raise ValueError(
                f"{target.place.at(path)} vanished while {entry.label} was copied; run "
                "the same command again"
            )
    try:
        target.place.create(record, entry.to_bytes())
    except FileExistsError:
        try:
            other = read_entry(target.place.at(record), target.place.read(record))
        except NewerRecordError:
            raise
        except ValueError:
            target.place.put(record, entry.to_bytes())
        else:
            if other.id != entry.id:
                raise ValueError(_clash([(entry, other)], target)) from None
    target.place.delete(record.replace(".json", ".removed.json"))


def _give_way(mine: Entry, theirs: Entry, local: Store, remote: Store) -> str:
    """Move an entry of ours to a free number, and put theirs in its place."""
    again = [
        e for e in local.list(mine.name) if e.id == mine.id and e.label != mine.label
    ]
    if again:  # moved on before an interruption, or held twice
        label = again[-1].label
    else:
        free = max(local.next_version(mine.name), remote.next_version(mine.name))
        moved = replace(mine, version=free, was=mine.label)
        local.place.create(record_name(moved.name, moved.version), moved.to_bytes())
        label = moved.label
    local.place.put(record_name(theirs.name, theirs.version), theirs.to_bytes())
    return label
