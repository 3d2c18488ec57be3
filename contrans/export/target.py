"""What a file for another engine has to know of its model, without loading weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from contrans.core.types import ConceptVector
from contrans.models.anatomy import llama_cpp_name
from contrans.models.locate import locate


@dataclass(frozen=True, slots=True)
class Target:
    """The sizes of a model, from its config."""

    name: str
    model_type: str
    layers: int
    hidden: int

    @property
    def architecture(self) -> str:
        """What llama.cpp calls it; `model_hint` of a control vector."""
        return llama_cpp_name(self.model_type)

    def check_width(self, vectors: Iterable[ConceptVector]) -> None:
        """Refuse vectors of another width.

        Raises:
            ValueError: naming both widths and the way out.
        """
        for vector in vectors:
            if vector.hidden != self.hidden:
                made_for = f" (for {vector.name!r})" if vector.name else ""
                raise ValueError(
                    f"a vector of width {vector.hidden}{made_for} does not fit "
                    f"{self.name!r} of width {self.hidden}; transplant it: contrans "
                    f"transplant {vector.name or 'SOURCE'} {self.name} ..."
                )


def find_target(model: str | Path, *, offline: bool = False) -> Target:
    """Read the sizes of a model from its config.

    Args:
        model: name of the zoo, folder, or hub id.
        offline: look on this machine only.

    Raises:
        FileNotFoundError: when there is no such model, or no config that tells.
    """
    name = str(model)
    try:
        config = AutoConfig.from_pretrained(
            locate(name).model, local_files_only=offline
        )
        text = config.get_text_config()
        return Target(
            name, config.model_type, int(text.num_hidden_layers), int(text.hidden_size)
        )
    except (OSError, ValueError, AttributeError) as error:
        raise FileNotFoundError(
            f"no model {name!r}, whose config tells its depth and width ("
            f"{str(error).splitlines()[0]}); give a folder or a hub id with --model"
        ) from error
