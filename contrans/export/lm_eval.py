"""The steering file of lm-evaluation-harness: what its `--model steered` adds, and where.

The file is a dictionary from hook points to vectors, written by `torch.save`. A hook
point is the name of a module inside `model.base_model`, such as `layers.24` (Llama) or
`h.24` (GPT-2); its output plus `steering_vector * steering_coefficient` goes on, at
every token. That is our layer 24. Source: `lm_eval/models/hf_steered.py` of 0.4.13.

The vectors are written with the strength already in them and coefficient 1, so that
they are rounded once, as our own edit is, also in half precision.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from contrans.control.steer import Steer
from contrans.core.types import ConceptVector
from contrans.export.constant import constant_edit, vectors_of
from contrans.export.gguf.control_vector import check_fit
from contrans.export.torch_file import read_torch, write_torch
from contrans.models.anatomy import find_blocks
from contrans.models.edits import Control
from contrans.models.lm import LM
from contrans.models.locate import locate

_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)")


@dataclass(frozen=True, slots=True)
class SteeringFile:
    """What was written, and how to run it."""

    path: Path
    hookpoints: tuple[str, ...]
    """Modules whose output is edited, as lm-evaluation-harness names them."""
    model: str
    """Name of the model that the hook points were looked up in."""

    @property
    def command(self) -> str:
        """A command line that runs a task with it."""
        args, device = f"pretrained={self.model}", ""
        place = locate(self.model)
        if place.kind in ("zoo", "gguf"):
            args = f"pretrained={place.model},tokenizer={place.tokenizer},dtype=float32"
            device = " --device cpu"
        return (
            f"lm_eval run --model steered --model_args {args},steer_path={self.path} "
            f"--tasks TASK{device}"
        )


def hookpoints(model: PreTrainedModel, blocks: str | None = None) -> tuple[str, ...]:
    """The name of every block, as lm-evaluation-harness looks it up.

    Example: `("layers.0", "layers.1", ...)` for Llama, `("h.0", ...)` for GPT-2.

    Raises:
        UnsupportedModelError: when the blocks of the architecture are not known.
    """
    names = {id(module): name for name, module in model.base_model.named_modules()}
    found = model.get_submodule(find_blocks(model, blocks))
    return tuple(names[id(block)] for block in found.children())


def write_steering_file(
    control: Control | ConceptVector,
    path: str | Path,
    *,
    model: LM | str | Path | None = None,
    force: bool = False,
) -> SteeringFile:
    """Write what `lm_eval --model steered --model_args ...,steer_path=FILE` reads.

    Args:
        control: a `Steer` on all tokens, several composed, or a vector at strength 1.
        path: the file; its name must end in .pt or .pth.
        model: the model, or where it is (only its config is read then); None takes the
            name that the vector was made under.
        force: replace an existing file.

    Raises:
        ValueError: when the control is no constant edit, does not fit the model, or the
            path is one that lm-evaluation-harness would not read.
        FileNotFoundError: when the model is not there.
        UnsupportedModelError: when the blocks of its architecture are not known.
    """
    path = Path(path)
    control = Steer(control) if isinstance(control, ConceptVector) else control
    if path.suffix not in (".pt", ".pth") or "," in str(path):
        raise ValueError(
            f"lm-evaluation-harness would not read {str(path)!r}: it takes steering "
            "files that end in .pt or .pth, without a comma in the path; choose a name "
            "such as steer.pt"
        )
    points, name, width = _anatomy(control, model)
    vectors = vectors_of(control)
    for vector in vectors:
        if vector.hidden != width:
            raise ValueError(
                f"a vector of width {vector.hidden} (for {vector.name!r}) does not fit "
                f"{name!r} of width {width}; transplant it: contrans transplant "
                f"{vector.name} {name} ..."
            )
    edit = constant_edit(control, depth=len(points))
    edit = {layer: push for layer, push in edit.items() if push.any()}
    if not edit:
        raise ValueError(
            "the control adds nothing: its strength or its vectors are zero. Run "
            "lm-evaluation-harness with --model hf for the unsteered model"
        )
    about = " + ".join(v.concept for v in vectors) + f" in {name}"
    write_torch(
        {points[layer]: _entry(push, about) for layer, push in edit.items()},
        path,
        force=force,
    )
    return SteeringFile(path, tuple(points[layer] for layer in edit), name)


def _entry(push: Tensor, about: str) -> dict[str, Any]:
    return {
        "steering_vector": push.detach().cpu().clone(),
        "steering_coefficient": 1.0,
        "action": "add",
        "bias": None,  # it refuses "add" with a bias, also a zero one
        "head_index": None,
        "about": about,  # not read there
    }


def _anatomy(
    control: Control, model: LM | str | Path | None
) -> tuple[tuple[str, ...], str, int]:
    """Hook points, name and width of a model."""
    if isinstance(model, LM):
        with control.on(model):  # refuses a vector of another model
            points = hookpoints(model.model, model.blocks_path)
        return points, model.name, model.hidden
    if model is None:
        names = {v.name for v in vectors_of(control)}
        if len(names) != 1 or not min(names):
            raise ValueError(
                f"which model is this for? The vectors name {sorted(names)}; pass "
                "model=NAME (--model on the command line)"
            )
        model = names.pop()
    name = str(model)
    skeleton = _skeleton(name)
    width = int(skeleton.config.get_text_config().hidden_size)
    return hookpoints(skeleton), name, width


def _skeleton(name: str) -> PreTrainedModel:
    """The modules of a model without their weights."""
    try:
        config = AutoConfig.from_pretrained(locate(name).model)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no model {name!r}, whose config tells where its blocks are ("
            f"{str(error).splitlines()[0]}); pass model=FOLDER or a hub id (--model on "
            "the command line)"
        ) from error
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def read_steering_file(
    path: str | Path, *, lm: LM | None = None, concept: str | None = None
) -> ConceptVector:
    """Read a steering file of lm-evaluation-harness as a vector at strength 1.

    Args:
        path: a .pt file; entries with action "add" at the output of whole blocks.
        lm: the model that it is for; without it the vector names no model and needs
            `Steer(..., any_model=True)`.
        concept: its name; None takes the file's.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds anything else, with what and where.
    """
    entries = read_torch(
        path, instead="load it with torch.load and save its tensors again."
    )
    return from_entries(entries, path, lm=lm, concept=concept)


def from_entries(
    entries: Any, path: str | Path, *, lm: LM | None = None, concept: str | None = None
) -> ConceptVector:
    """What `read_steering_file` makes of the contents of a file.

    Args:
        entries: what the file holds.
        path: the file, for messages.
        lm: the model, for a vector that fits it; None leaves it open.
        concept: its name; None takes the file's.

    Raises:
        ValueError: when the entries are of another form, or no constant addition.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise ValueError(
            f"{path} holds a {type(entries).__name__}, not hook points with vectors; "
            "give a file such as contrans export VECTOR --lm-eval FILE writes"
        )
    found = dict(_pushed(path, str(point), entries[point]) for point in entries)
    layers = tuple(sorted(found))
    widths = sorted({len(vector) for vector in found.values()})
    if len(widths) > 1:
        raise ValueError(
            f"{path}: vectors of unequal widths {widths}; a file is for one model, and "
            "its residual stream has one width"
        )
    if lm is not None:
        check_fit(path, widths[0], layers, lm)
    return ConceptVector(
        torch.stack([found[layer] for layer in layers]),
        layers=layers,
        model="" if lm is None else lm.fingerprint,
        concept=concept or Path(path).stem,
        name="" if lm is None else lm.name,
        provenance={
            "method": "read from lm-evaluation-harness",
            "file": Path(path).name,
        },
    )


def _pushed(path: str | Path, point: str, entry: Any) -> tuple[int, Tensor]:
    """Layer and vector of one hook point."""
    vector = entry.get("steering_vector") if isinstance(entry, Mapping) else None
    if not isinstance(vector, Tensor) or vector.dim() != 1:
        raise ValueError(
            f"{path}: entry {point!r} has no steering_vector of one axis; this is no "
            "steering file of lm-evaluation-harness"
        )
    layer = _BLOCK.fullmatch(point)
    action, head = entry.get("action"), entry.get("head_index")
    if layer is None or action != "add" or head is not None:
        raise ValueError(
            f"{path}: entry {point!r} with action {action!r} and head_index {head!r} "
            "is no vector added to the output of a block (such as 'layers.24' with "
            "action 'add'), and a concept vector cannot say it; run it in "
            "lm-evaluation-harness"
        )
    return int(layer[1]), float(entry.get("steering_coefficient", 1.0)) * vector.float()
