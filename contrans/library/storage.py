"""Where a library lies: a folder, or any store that fsspec reaches, by the same calls.

Every file is written whole or not at all. Objects are named by their hash, so writing
one twice is harmless; records are only ever created, never written over.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contrans.core.files import publish, unwritten

LOCK_SECONDS = 120.0
"""How long to wait for another process that writes to the same folder."""
_EXTRAS = {"s3": "contrans[s3]", "s3a": "contrans[s3]"}
PART = ".part-"
"""How names of files begin that are being written."""


class Place:
    """A folder or an address such as `s3://bucket/concepts` or `hf://datasets/me/x`."""

    def __init__(self, root: str | Path) -> None:
        from fsspec.core import url_to_fs

        self.name = str(root)
        text = str(Path(root).expanduser()) if "://" not in self.name else self.name
        protocol = text.partition("://")[0]
        try:
            self._fs, path = url_to_fs(text)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            how = f'pip install "{extra}"' if extra else str(error)
            raise ImportError(
                f"{text} needs a package that is missing: {how}"
            ) from error
        except ValueError as error:
            raise ValueError(
                f"cannot reach {text!r} ({error}); give a folder, or an address such as "
                "s3://bucket/concepts or hf://datasets/NAME/concepts"
            ) from error
        self.folder = Path(path) if "file" in _protocols(self._fs) else None
        """The folder, when it is one of this machine."""
        self._root = path.rstrip("/")

    def __repr__(self) -> str:
        return f"Place({self.name!r})"

    def at(self, name: str) -> str:
        """How a person finds a file of the place."""
        return str(self.folder / name) if self.folder else f"{self.name}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _plainly(self, doing: str) -> Iterator[None]:
        """Errors of stores, of whatever class, as an OSError that says where."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            if self.folder is not None and isinstance(error, OSError):
                raise
            raise OSError(
                f"{self.name}: could not {doing} ({type(error).__name__}: {error}); "
                "check the address, your login and the connection, then run the same "
                "command again: what is complete is kept"
            ) from error

    def sizes(self, below: str) -> dict[str, int]:
        """Names and sizes of the files below a folder; none where there is no folder."""
        self._fs.invalidate_cache()
        with self._plainly(f"list {below}"):
            try:
                found: dict[str, Any] = self._fs.find(self._path(below), detail=True)  # type: ignore[assignment]
            except FileNotFoundError:
                return {}
        cut = len(self._fs._strip_protocol(self._root).rstrip("/")) + 1
        return {path[cut:]: int(info["size"] or 0) for path, info in found.items()}

    def size(self, name: str) -> int | None:
        """The size of a file; None when it is not there."""
        self._fs.invalidate_cache()
        with self._plainly(f"look at {name}"):
            try:
                return int(self._fs.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: when there is none.
        """
        with self._plainly(f"read {name}"):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                raise FileNotFoundError(f"no file {self.at(name)}") from None

    def sha256(self, name: str) -> str:
        """The hash of what a file holds now."""
        with self._plainly(f"read {name}"), self._fs.open(self._path(name)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, over whatever is there."""
        with self._plainly(f"write {name}"):
            if self.folder is None:
                self._fs.pipe_file(self._path(name), data)
                return
            path = self.folder / name
            with _written(path, data) as part:
                part.replace(path)

    def create(self, name: str, data: bytes) -> None:
        """Write a file that is not there yet, whole or not at all.

        Of several that create the same file at once, one succeeds. (`hf://` has no such
        call: there, one that was created in between is written over.)

        Raises:
            FileExistsError: when it is there.
        """
        with self._plainly(f"write {name}"):
            if self.folder is None:
                self._create_remote(name, data)
                return
            path = self.folder / name
            with _written(path, data) as part:
                publish(part, path)

    def _create_remote(self, name: str, data: bytes) -> None:
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except OSError as error:
            said = f"{error} {error.__cause__} {error.__context__}"
            if isinstance(error, FileExistsError) or "PreconditionFailed" in said:
                raise FileExistsError(f"{self.at(name)} exists") from error
            raise

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        with self._plainly(f"remove {name}"), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to this folder; a crash frees it.

        Stores have no lock: there, `create` alone keeps writers apart.

        Raises:
            TimeoutError: when another process does not finish.
        """
        if self.folder is None:
            yield
            return
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(self.folder / ".lock", timeout=LOCK_SECONDS, mode=0o666)
        try:
            held.acquire()
        except Timeout as error:
            raise TimeoutError(
                f"another process has been writing to {self.folder} for "
                f"{LOCK_SECONDS:.0f} s; wait for it, then run the same command again"
            ) from error
        try:
            yield
        finally:
            held.release()


def _protocols(fs: Any) -> tuple[str, ...]:
    found = fs.protocol
    return (found,) if isinstance(found, str) else tuple(found)


@contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """The data on disk beside `path`, under a name that no one reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        yield part
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        part.unlink(missing_ok=True)
