"""The embedded models: small Llamas of a microworld, shipped with their weights.

They make the main job work at once and offline, and serve as a fixture for honest
end-to-end tests. They are not evidence about large models.

    >>> is_zoo("zoo/large"), is_zoo("gpt2")
    (True, False)
"""

import difflib
import os
import shutil
from pathlib import Path

from contrans.core.folders import new_folder

PREFIX = "zoo/"
ROOT_VARIABLE = "CONTRANS_ZOO"
"""Environment variable that names another folder of weights than the shipped one."""
_ORDER = ("small", "small-aligned", "medium", "large", "large-aligned")
_TOKENIZER = "tokenizer"


def is_zoo(name: str) -> bool:
    """Whether a model name belongs to the zoo.

    A folder that lies under such a name is the user's own where the zoo has no model
    of that name; where it has one, the zoo's is meant, and `./zoo/NAME` is the folder.
    """
    if not name.startswith(PREFIX):
        return False
    return name in names() or not Path(name).is_dir()


def root(folder: Path | str | None = None) -> Path:
    """The folder of weights: the one given, `CONTRANS_ZOO`, or the shipped one."""
    if folder is not None:
        return Path(folder)
    if named := os.environ.get(ROOT_VARIABLE):
        return Path(named)
    return Path(__file__).parent / "weights"


def names(root: Path | str | None = None) -> tuple[str, ...]:
    """All models of the zoo: sizes, aligned models, then pretraining checkpoints."""
    found = {path.parent.name for path in _root(root).glob("*/model.safetensors")}
    known = [name for name in _ORDER if name in found]
    steps = sorted((name for name in found if "-step-" in name), key=_step)
    return tuple(PREFIX + name for name in (*known, *steps))


def path(name: str, root: Path | str | None = None) -> Path:
    """The folder of a model, as `AutoModelForCausalLM.from_pretrained` reads it.

    Raises:
        ValueError: If the zoo has no such model.
    """
    known = names(root)
    full = name if is_zoo(name) else PREFIX + name
    if full in known:
        return _root(root) / full.removeprefix(PREFIX)
    if not known:
        raise ValueError(
            f"no zoo models in {_root(root)}; unset {ROOT_VARIABLE}, or make them with "
            "`contrans zoo train`"
        )
    close = difflib.get_close_matches(full, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown zoo model {name!r}; {hint}Known: {', '.join(known)}")


def tokenizer_path(root: Path | str | None = None) -> Path:
    """The folder of the tokenizer that all models of the zoo share."""
    return _root(root) / _TOKENIZER


def export(name: str, directory: Path | str, root: Path | str | None = None) -> Path:
    """Copy a model and its tokenizer into one stand-alone folder.

    Raises:
        FileExistsError: If the folder already holds something.
    """
    source, target = path(name, root), Path(directory)
    with new_folder(target) as part:
        for folder in (tokenizer_path(root), source):
            for file in sorted(folder.iterdir()):
                shutil.copyfile(file, part / file.name)
    return target


_root = root


def _step(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("-step-")
    return (stem, int(number)) if number.isdigit() else (name, 0)
