"""The library: a folder (or a store) of concepts by name and version.

objects/3f/3f9a...e1.safetensors     a file, under the hash of its bytes
concepts/honesty/2.json              honesty@2: kind, files, parents, metrics
concepts/honesty/1.removed.json      honesty@1 was removed; its number stays taken
contrans.json                        what this folder is
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from contrans.library.entries import (
    FORMAT,
    Entry,
    is_name,
    match,
    object_name,
    parse,
    read_entry,
    record_name,
)
from contrans.library.storage import Place

INDEX = "contrans.json"
Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def default_root() -> str:
    """Where the library is: `$CONTRANS_LIBRARY`, or `contrans/library` in the user's data.

    That is `$XDG_DATA_HOME` or `~/.local/share`, on Windows `%LOCALAPPDATA%`.
    """
    chosen = os.environ.get("CONTRANS_LIBRARY")
    if chosen:
        return chosen
    home = os.environ.get(
        "LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME"
    )
    data = Path(home) if home else Path.home() / ".local" / "share"
    return str(data / "contrans" / "library")


class Store:
    """Records and files by their hash, in a folder or at an address of fsspec."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.place = Place(default_root() if root is None else root)

    @property
    def name(self) -> str:
        """The folder or address."""
        return self.place.name

    def exists(self) -> bool:
        """Whether there is a library at all.

        Raises:
            ValueError: when a newer contrans made it.
        """
        try:
            found = json.loads(self.place.read(INDEX))
            wanted = int(found["format"])
        except FileNotFoundError:
            return False
        except (
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ValueError(
                f"{self.place.at(INDEX)} is not that of a concept library ({error}); "
                "choose another folder with --library or CONTRANS_LIBRARY"
            ) from error
        if wanted > FORMAT:
            raise ValueError(
                f"{self.name} has format {wanted}, this contrans reads up to {FORMAT}; "
                "install a newer contrans"
            )
        return True

    def names(self) -> tuple[str, ...]:
        """The names, without reading what they mean."""
        kept = (name for (name, _), removed in self.records().items() if not removed)
        return tuple(dict.fromkeys(kept))

    def records(self, name: str | None = None) -> dict[tuple[str, int], bool]:
        """Name and version of every record; True where it was removed."""
        found = {}
        below = "concepts" if name is None else f"concepts/{name}"
        for path in self.place.sizes(below):
            _, folder, file = (["", "", *path.split("/")])[-3:]
            number, _, rest = file.partition(".")
            if number.isdecimal() and rest in ("json", "removed.json"):
                key = (folder, int(number))
                found[key] = found.get(key, False) or rest != "json"
        return dict(sorted(found.items()))

    def entries(
        self, name: str | None = None, *, damaged: list[str] | None = None
    ) -> tuple[Entry, ...]:
        """All versions, of one name or of all, oldest first.

        Args:
            name: None for all.
            damaged: takes the messages of records that cannot be read; without it
                the first is an error.

        Raises:
            ValueError: naming a damaged record.
        """
        self.exists()
        found = []
        for (known, version), removed in self.records(name).items():
            if removed:
                continue
            try:
                found.append(self.record(known, version))
            except FileNotFoundError:
                continue  # removed since it was listed
            except ValueError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
        return tuple(found)

    def record(self, name: str, version: int) -> Entry:
        """One record, from its number.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is damaged.
        """
        path = record_name(name, version)
        return read_entry(self.place.at(path), self.place.read(path))

    def list(self, name: str | None = None) -> tuple[Entry, ...]:
        """All versions, of one name or of all, oldest first; damaged ones left out."""
        return self.entries(name, damaged=[])

    def find(self, reference: str) -> Entry:
        """The entry that `name@version`, `name` (the newest) or a hash means.

        Raises:
            KeyError: when there is none; the message names near ones and versions.
            ValueError: when the record of just this version is damaged.
        """
        self.exists()
        name, version = parse(reference)
        own: Sequence[Entry] = ()
        if is_name(name):
            kept = self.records(name).items()
            numbers = [number for (_, number), removed in kept if not removed]
            wanted = max(numbers, default=0) if version is None else version
            if wanted in numbers:
                with suppress(FileNotFoundError):  # removed since it was listed
                    return self.record(name, wanted)
            own = self.list(name)
        return match(reference, own or self.list(), self.name)

    def read(self, entry: Entry, file: str) -> bytes:
        """The bytes of a file of an entry, checked against their hash.

        Raises:
            KeyError: when the entry has no such file.
            ValueError: when the file is missing or was changed.
        """
        if file not in entry.files:
            raise KeyError(
                f"{entry.label} has no file {file!r}; it has {', '.join(entry.files)}"
            )
        known = entry.files[file]
        path = object_name(known.sha256, file)
        try:
            data = self.place.read(path)
        except FileNotFoundError:
            raise ValueError(
                f"{file} of {entry.label} is missing ({self.place.at(path)}); {_MEND}"
            ) from None
        found = hashlib.sha256(data).hexdigest()
        if found != known.sha256:
            raise ValueError(
                f"{file} of {entry.label} is corrupted: {self.place.at(path)} holds "
                f"{len(data)} bytes of hash {found[:12]}, not {known.bytes} of hash "
                f"{known.sha256[:12]}; {_MEND}"
            )
        return data

    def path(self, entry: Entry, file: str) -> Path:
        """A file of an entry on this machine, checked against its hash.

        From a store it is fetched into the cache first.
        """
        data = self.read(entry, file)
        name = object_name(entry.files[file].sha256, file)
        if self.place.folder is not None:
            return self.place.folder / name
        from contrans.core.cache import cache_folder

        cache = Place(cache_folder() / "library")
        if cache.size(name) != len(data) or cache.read(name) != data:
            cache.put(name, data)
        assert cache.folder is not None
        return cache.folder / name

    def next_version(self, name: str) -> int:
        """The first number that no version of a name ever had."""
        numbers = [version for _, version in self.records(name)]
        return max(numbers, default=0) + 1

    def begin(self) -> None:
        """Say what this folder is, once.

        Raises:
            FileExistsError: when the folder holds other things.
        """
        if self.exists():
            return
        if self.place.folder is not None:
            self.place.folder.mkdir(parents=True, exist_ok=True)
            names = [path.name for path in self.place.folder.iterdir()]
            ours = (INDEX, "objects", "concepts")
            other = [n for n in names if n not in ours and not n.startswith(".")]
            if other:
                raise FileExistsError(
                    f"{self.name} is not empty and is no concept library (it holds "
                    f"{other[0]}); choose another folder"
                )
        value = {"what": "a concept library of contrans", "format": FORMAT}
        try:
            self.place.create(INDEX, (json.dumps(value, indent=2) + "\n").encode())
        except FileExistsError:
            return

    def put_objects(
        self, entry: Entry, files: Mapping[str, bytes], *, hashed: bool = True
    ) -> None:
        """Write the files of an entry that are not there, or not whole.

        Args:
            entry: which files.
            files: their bytes.
            hashed: also look into those that are there, and mend damaged ones.
        """
        for file, known in entry.files.items():
            path = object_name(known.sha256, file)
            there = self.place.size(path) == known.bytes
            if not there or (hashed and self.place.sha256(path) != known.sha256):
                self.place.put(path, files[file])


_MEND = (
    "pull or push this version again from where it is whole, or add the original again "
    "(contrans concepts verify lists everything that is damaged)"
)
