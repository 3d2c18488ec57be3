"""What a model name means: the zoo, a GGUF file, a named model, a folder, or the hub.

The one place that decides; loading, baking and exporting all ask here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contrans.models import gguf as gguf_model, named, zoo


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies."""

    model: str
    """A folder that transformers reads, or a hub id."""
    tokenizer: str
    """The same for its tokenizer."""
    kind: Literal["zoo", "gguf", "folder", "hub"]
    gguf: Path | None = None
    """The GGUF file that the folder was converted from."""


def locate(name: str | Path, revision: str | None = None) -> Place:
    """Find what a model name means; a GGUF file is converted on first use.

    Args:
        name: `zoo/NAME` (your own folder of that name: `./zoo/NAME`), a name of
            `contrans models list`, a folder, a `.gguf` file, `org/repo:file.gguf`, or a
            hub id. A `Path` is always a file or folder.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: for a GGUF file or a named model that is not there.
        ValueError: for an unknown name of the zoo, or a GGUF file that cannot be read.
    """
    label = str(name)
    if isinstance(name, Path) and not name.is_absolute():
        label = f"./{name}"  # a path means a folder, whatever the zoo has
    if zoo.is_zoo(label):
        return Place(str(zoo.path(label)), str(zoo.tokenizer_path()), "zoo")
    if named.is_named(label):
        label = named.path_of(label)
    if gguf_model.is_gguf(label):
        file = gguf_model.locate(label, revision)
        folder = str(gguf_model.as_folder(file))
        return Place(folder, folder, "gguf", file)
    return Place(label, label, "folder" if Path(label).is_dir() else "hub")
