"""What was computed once: a folder of results, and the keys they are found under.

A key says everything that a result depends on: the stage that computes it and the
schema version of that stage's code, the version of contrans, the model and the
libraries that run it, and what was asked. A result of other code is never found.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrans.core.artifacts import load, save
from contrans.core.files import digest, write_text
from contrans.core.version import __version__

SCHEMAS = {
    "doses": 1,
    "strengths": 1,
    "collect": 1,
    "norms": 2,
    "map": 2,
    "promise": 2,
    "measure": 2,
    "perplexity": 2,
    "generate": 1,
    "lens": 1,
    "published data": 1,
}
"""Every cached stage, and the version of what computes it. Whoever changes the numbers
that a stage gives raises its version here; of tasks and controls the source file itself
is in the key. So is the version of contrans: a release forgets what the one before
computed, also where a version was forgotten."""

_LIBRARIES = ("torch", "transformers", "tokenizers")


def cache_key(stage: str, /, *, lm: Any = None, **asked: Any) -> Any:
    """The key of a result.

    Args:
        stage: what computes it, one of `SCHEMAS`.
        lm: the `LM` that runs, if one does: its weights, tokenizer and precision.
        **asked: everything else that the result depends on; see `described`.

    Raises:
        KeyError: for a stage without a version.
        TypeError: for something that cannot say what it is.
    """
    if stage not in SCHEMAS:
        raise KeyError(f"the stage {stage!r} has no schema version; add it to SCHEMAS")
    code = {"stage": stage, "schema": SCHEMAS[stage], "contrans": __version__}
    if lm is not None:
        code |= _libraries()
        asked["model"] = [lm.fingerprint, lm.tokenizer_hash, str(lm.dtype)]
        asked["template"] = getattr(lm.tokenizer, "chat_template", None)
    return {"code": code, "asked": {name: described(v) for name, v in asked.items()}}


@cache
def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def described(value: Any) -> Any:
    """A value as JSON that is the same only for values that are and do the same.

    A tensor becomes its digest. An object becomes its class, a digest of the source
    files of the class, and its `cache_key`; or, where it is a dataclass without one, all
    of its fields.

    Raises:
        TypeError: for an object that is neither, or of a class without a source file.

    Example:
        >>> described({"layers": (1, 2)})
        {'layers': [1, 2]}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, Mapping):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [described(part) for part in value]
    kind = type(value)
    own = _own_key(value)
    if own is not None:
        return {"class": kind.__qualname__, "code": _code(kind), "key": described(own)}
    if is_dataclass(value):
        named = ((f.name, getattr(value, f.name)) for f in fields(value))
        parts = {name: described(part) for name, part in named}
        return {"class": kind.__qualname__, "code": _code(kind), "fields": parts}
    raise TypeError(
        f"a {kind.__qualname__} cannot say what it is and cannot be cached; make it a "
        "dataclass, or give it a property `cache_key` of everything that it does"
    )


def _own_key(value: Any) -> Any:
    try:
        return value.cache_key
    except AttributeError as error:
        if error.name == "cache_key" and error.obj is value:
            return None
        raise  # an error inside the property


@cache
def _code(kind: type) -> str:
    """A digest of the files in which a class and those it inherits from are written."""
    names = {base.__module__ for base in kind.__mro__}
    names = {n for n in names if n.split(".")[0] not in sys.stdlib_module_names}
    files = [getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)]
    if not files or None in files:
        raise TypeError(
            f"the source of {kind.__qualname__} is in no file, so what it measures "
            "cannot be cached; write the class in a module"
        )
    return digest([Path(str(file)).read_text(encoding="utf-8") for file in files])


class Cache:
    """A folder of results, each under the hash of everything it depends on.

    Artefacts are safetensors, plain values JSON. Deleting the folder is always safe.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.hits = 0
        self.misses = 0

    def artefact(self, key: Any, make: Callable[[], Any]) -> Any:
        """The artefact under `key`, made and kept on first use."""
        return self._get(key, make, ".safetensors", load, save)

    def has_json(self, key: Any) -> bool:
        """Whether there is a plain value under `key` (it may turn out damaged)."""
        return (self.folder / f"{digest(key)}.json").exists()

    def json(self, key: Any, make: Callable[[], Any]) -> Any:
        """The plain value under `key`, made and kept on first use.

        It is the same on every use, as JSON gives it back: tuples are lists, keys are
        texts. NaN and infinity stay what they are.
        """
        return self._get(
            key,
            lambda: json.loads(json.dumps(make())),
            ".json",
            lambda path: json.loads(path.read_text(encoding="utf-8")),
            lambda value, path, force: write_json(path, value, force=force),
        )

    def _get(
        self,
        key: Any,
        make: Callable[[], Any],
        suffix: str,
        read: Callable[[Path], Any],
        write: Callable[..., None],
    ) -> Any:
        path = self.folder / (digest(key) + suffix)
        if path.exists():
            try:
                value = read(path)
            except (ValueError, OSError):
                path.unlink(missing_ok=True)  # damaged: make it again
            else:
                self.hits += 1
                return value
        value = make()
        self.misses += 1
        write(value, path, force=True)
        return value


def write_json(path: Path, value: Any, *, force: bool = False) -> None:
    """Write JSON for ourselves: NaN and infinity stay, where others would want null.

    Args:
        path: the file.
        value: anything that JSON can hold.
        force: write over what is there.
    """
    write_text(path, json.dumps(value, indent=2) + "\n", force=force)


def cache_folder() -> Path:
    """Where stages are cached: `$CONTRANS_CACHE`, or `~/.cache/contrans`."""
    chosen = os.environ.get("CONTRANS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "contrans"


def tensor_digest(tensor: Tensor) -> str:
    """A short content hash of a tensor."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes()
    form = f"{tuple(tensor.shape)}{tensor.dtype}".encode()
    return hashlib.sha256(form + raw).hexdigest()[:20]
