"""What a library holds: entries, called `name@version`, each a set of files by hash."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from contrans.core.registry import unknown

Kind = Literal["pairs", "vector", "map", "transplant"]
FORMAT = 1
"""Version of the layout; a library of a higher one is refused."""
NEWEST = ("latest", "newest")
"""What `name@latest` may be spelled like; a bare name means the same."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9]{1,16}){1,2}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
"""Names that Windows keeps for devices, whatever follows after a dot."""
_LISTS = ("at", "marks", "needs")
_TABLES = ("concept", "metrics", "model", "pairs", "source", "strength")


class NewerRecordError(ValueError):
    """A record that a newer contrans wrote; it is whole, but not for us."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an entry."""

    sha256: str
    """Hash of its bytes, as `sha256sum` prints it."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a name. It never changes once it is written."""

    name: str
    version: int
    kind: Kind
    files: Mapping[str, File]
    created: str
    """When it was added, UTC."""
    note: str = ""
    parents: tuple[str, ...] = ()
    """Ids of the entries that this one was made from."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What was read from the files when they were added: models, layers, metrics."""
    contrans: str = ""
    """Version of contrans that added it."""
    was: str | None = None
    """Its former number, when it gave way to a version of a shared library."""

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def id(self) -> str:
        """Hash of the content: of the lines that `sha256sum` prints for its files."""
        return content_id({name: file.sha256 for name, file in self.files.items()})

    def objects(self) -> dict[str, File]:
        """Where the files lie in a library."""
        return {
            object_name(file.sha256, name): file for name, file in self.files.items()
        }

    def to_bytes(self) -> bytes:
        """The record, JSON for people."""
        value = {"format": FORMAT, "id": self.id, **asdict(self)}
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()


def content_id(files: Mapping[str, str]) -> str:
    """The hash of a set of files, from the hash of each.

    Example:
        >>> content_id({"pairs.jsonl": "0" * 64})[:12]
        '575ef2ea8f4f'
    """
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def object_name(sha256: str, name: str) -> str:
    """Where a file lies: by its hash, with its suffix, so that tools can open it."""
    return f"objects/{sha256[:2]}/{sha256}{name[name.index('.') :]}"


def record_name(name: str, version: int) -> str:
    """Where the record of an entry lies."""
    return f"concepts/{name}/{version}.json"


def read_entry(where: str, raw: bytes) -> Entry:
    """A record, checked; it may come from a stranger.

    Raises:
        NewerRecordError: when a newer contrans wrote it.
        ValueError: when it is damaged, naming the file.
    """
    try:
        value = json.loads(raw)
        if value["format"] > FORMAT:
            raise NewerRecordError(
                f"{where}: the record has format {value['format']}, this contrans reads "
                f"up to {FORMAT}; install a newer contrans"
            )
        files = {str(k): _file(**file) for k, file in value["files"].items()}
        entry = Entry(
            name=value["name"],
            version=value["version"],
            kind=value["kind"],
            files=files,
            created=str(value["created"]),
            note=str(value.get("note", "")),
            parents=tuple(value.get("parents", ())),
            about=dict(value.get("about", {})),
            contrans=str(value.get("contrans", "")),
            was=value.get("was"),
        )
        _check(entry, where)
        if value["id"] != entry.id:
            raise ValueError("its id is not that of its files")
    except NewerRecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{where}: the record is damaged ({type(error).__name__}: {error}); pull or "
            "push the version again from where it is whole, or take it out with "
            "contrans concepts remove"
        ) from error
    return entry


def _file(sha256: Any, bytes: Any) -> File:
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise ValueError("a hash is not 64 hexadecimal digits")
    if type(bytes) is not int or bytes < 0:
        raise ValueError("the size of a file is no whole number")
    return File(sha256, bytes)


def _check(entry: Entry, where: str) -> None:
    whole = isinstance(entry.version, int) and entry.version > 0
    if not whole or not where.endswith(record_name(entry.name, entry.version)):
        raise ValueError(f"it says {entry.name}@{entry.version}")
    if entry.kind not in get_args(Kind):
        raise ValueError(f"unknown kind {entry.kind!r}")
    if not entry.files or not all(map(_HASH.fullmatch, entry.parents)):
        raise ValueError("it has no files, or a parent that is no hash")
    wrong = [name for name in entry.files if not _FILE.fullmatch(name)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no name of a file")
    if entry.was is not None and not isinstance(entry.was, str):
        raise ValueError("was is no label")
    check_name(entry.name)
    _check_about(entry.about)
    entry.to_bytes()  # what cannot be written cannot be passed on


def _check_about(about: Mapping[str, Any]) -> None:
    """What an entry says of itself has the shapes that we read."""
    for key in _LISTS:
        found = about.get(key, [])
        if not isinstance(found, list) or any(
            isinstance(x, list | dict) for x in found
        ):
            raise ValueError(f"{key} is no list of texts or numbers")
    for key in _TABLES:
        if not isinstance(about.get(key, {}), dict):
            raise ValueError(f"{key} is no table")
    if not all(type(n) is int for n in about.get("pairs", {}).values()):
        raise ValueError("pairs are no numbers by split")


def check_name(name: str) -> str:
    """The name, if a concept may be called so.

    Raises:
        ValueError: otherwise.
    """
    if not is_name(name):
        made = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64]
        raise ValueError(
            f"{name!r} is no name for a concept; use small letters, digits, '.', '_' and "
            "'-', at most 64, no dot at the end and no device of Windows such as nul"
            + (f", such as {made!r}" if is_name(made) else "")
        )
    return name


def is_name(text: str) -> bool:
    """Whether a concept may be called so."""
    spelled = bool(_NAME.fullmatch(text)) and not text.endswith((".", ".json"))
    return spelled and not _DEVICE.fullmatch(text.partition(".")[0])


def parse(reference: str) -> tuple[str, int | None]:
    """Name and version of a reference; None for the newest.

    Example:
        >>> parse("honesty@2"), parse("honesty"), parse("honesty@latest")
        (('honesty', 2), ('honesty', None), ('honesty', None))

    Raises:
        ValueError: when the version is no number.
    """
    name, at, version = reference.partition("@")
    if not at or version in NEWEST:
        return name, None
    if not version.isdecimal() or int(version) < 1:
        raise ValueError(
            f"cannot read {reference!r}; write NAME@VERSION, such as {name}@1, or "
            f"{name} for the newest"
        )
    return name, int(version)


def is_reference(text: str) -> bool:
    """Whether a text can only mean an entry: `name@version`.

    Example:
        >>> is_reference("honesty@2"), is_reference("honesty"), is_reference("a/b@2")
        (True, False, False)
    """
    name, at, version = text.partition("@")
    number = version.isdecimal() or version in NEWEST
    return bool(at and number) and is_name(name)


def match(reference: str, entries: Iterable[Entry], where: str) -> Entry:
    """The entry that a reference means: `name@version`, `name`, or the start of an id.

    Args:
        reference: `name`, `name@version` or the start of an id.
        entries: what there is.
        where: the library, for messages.

    Raises:
        KeyError: when there is none; the message names near ones and the versions.
        ValueError: when the reference cannot be read.
    """
    entries = list(entries)
    name, version = parse(reference)
    same = {entry.version: entry for entry in entries if entry.name == name}
    if same:
        if version is None:
            return same[max(same)]
        if version in same:
            return same[version]
        known = ", ".join(map(str, sorted(same)))
        raise KeyError(
            f"no version {version} of {name!r} in the library {where}; versions there: "
            f"{known} ({name!r} alone means {max(same)})"
        )
    if version is None and _PREFIX.fullmatch(name):
        found = [entry for entry in entries if entry.id.startswith(name)]
        if found and len({entry.id for entry in found}) == 1:
            return found[-1]
    if not entries:
        raise KeyError(
            f"no concept {reference!r}: the library {where} is empty; fill it with "
            "contrans concepts add or pull"
        )
    newest: dict[str, int] = {}
    for entry in entries:
        newest[entry.name] = max(entry.version, newest.get(entry.name, 0))
    labels = [f"{known}@{number}" for known, number in newest.items()]
    error = unknown("concept", reference, labels)
    raise KeyError(f"{error.args[0]} (the newest versions in the library {where})")


def main_file(entry: Entry) -> str:
    """The file that an entry is about."""
    if entry.kind == "pairs":
        return next(name for name in entry.files if name.startswith("pairs."))
    return "map.safetensors" if entry.kind == "map" else "vector.safetensors"
