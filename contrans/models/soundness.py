"""Is a model whole? The one check at the door of loading, converting and baking.

transformers fills the tensors that a checkpoint lacks with random numbers and leaves out
those that it does not know, so a damaged model speaks as if nothing were. Here it is
named instead: what is wrong with it, and what to do.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from contrans.models.anatomy import UnsupportedModelError, anatomy_of

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
AGAIN = "download or save the model again"
SAID = 200
"""Characters that are kept of another library's message."""
_POINTER = b"version https://git-lfs"
_BUFFERS = re.compile(r"(inv_freq|masked_bias|att(n|ention)\.bias|bias_mask)$")
"""What old releases wrote and no model reads."""

logger = logging.getLogger(__name__)


@contextmanager
def reading(what: str, advice: str = AGAIN) -> Iterator[None]:
    """Name what could not be read; libraries raise whatever they meet.

    Args:
        what: the file or part, such as "the tokenizer of 'NAME'".
        advice: what to do about it.

    Raises:
        ValueError: in the place of any error but a missing package or file, a lack of
            memory, or a failure of the machine, such as a file without permission.
    """
    try:
        yield
    except (ImportError, MemoryError, UnsupportedModelError, FileNotFoundError):
        raise
    except Exception as error:
        machine = isinstance(error, OSError) and error.errno is not None
        if machine or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"{what} cannot be read ({type(error).__name__}: {shortened(error)}); "
            f"{advice}"
        ) from error


def shortened(error: Exception) -> str:
    """What an error says, in one line of at most `SAID` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= SAID else f"{text[:SAID]}…"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder.

    Raises:
        ValueError: when the file is not readable JSON, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise ValueError(
            f"{path} is not readable JSON ({shortened(error)}); {AGAIN}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object; {AGAIN}")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model's folder.

    Raises:
        FileNotFoundError: when there is none.
        UnsupportedModelError: when there is an adapter instead.
        ValueError: when it cannot be read.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UnsupportedModelError(
                f"{folder} holds an adapter alone (adapter_config.json); merge it into "
                "its base first (merge_and_unload in PEFT, then save_pretrained), and "
                "name the merged folder"
            )
        raise FileNotFoundError(
            f"{folder} has no config.json; name the folder of a model"
        )
    return read_json(folder / "config.json")


def tensor_files(folder: Path, name: str) -> dict[str, str]:
    """Tensor to file of a model's folder, from the headers of its safetensors files.

    Args:
        folder: where the files lie.
        name: the model, as the user gave it.

    Raises:
        FileNotFoundError: when there are no safetensors files, or not all of them.
        ValueError: when the index or a file is damaged, or names files elsewhere.
    """
    if (folder / SINGLE).is_file():  # first, as in transformers
        with open_weights(folder / SINGLE) as file:
            return dict.fromkeys(file.keys(), SINGLE)
    index = folder / INDEX
    if not index.is_file():
        raise _no_safetensors(folder, name)
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(
            f"{index} cannot be read (no weight_map from tensors to files); {AGAIN}"
        )
    for file in listed.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise ValueError(
                f"{index} names {file!r}, which is not a plain file name; do not trust "
                "this checkpoint"
            )
    files = sorted(set(listed.values()))
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing[:3])}, named in {INDEX}; download the "
            "model again"
        )
    found = {}
    for name in files:
        with open_weights(folder / name) as file:
            found |= dict.fromkeys(file.keys(), name)
    for tensor, file in listed.items():
        if found.get(tensor) != file:
            raise ValueError(
                f"{index} says that {file} holds {tensor!r}, which it does not; {AGAIN}"
            )
    return found


@contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """An open safetensors file.

    Raises:
        ValueError: when it is damaged, or lacks a tensor that is asked for.
    """
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path} is a pointer of git-lfs, not the weights; fetch them: `git lfs "
                "pull` in that folder, or download the model again"
            )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read ({shortened(error)}); it may be truncated: {AGAIN}"
        ) from error


def _no_safetensors(folder: Path, name: str) -> FileNotFoundError:
    old = sorted(p.name for p in folder.glob("*.bin"))
    if not old:
        return FileNotFoundError(
            f"{folder} has neither {SINGLE} nor {INDEX}; name the folder of a model"
        )
    return pickled(name, old[0])


def pickled(name: str, file: str) -> FileNotFoundError:
    """The error for a model without safetensors: the reason and the way out."""
    return FileNotFoundError(
        f"{name!r} has its weights as pickle ({file}), which can run code and is not "
        "read here; write it as safetensors first, if you trust it: python -c 'from "
        "transformers import AutoModelForCausalLM as M, AutoTokenizer as T; n, d = "
        f'"{name}", "DIR"; M.from_pretrained(n, dtype="auto").save_pretrained(d); '
        "T.from_pretrained(n).save_pretrained(d)', then use DIR"
    )


def check_loaded(model: nn.Module, said: Mapping[str, Any], name: str) -> None:
    """Refuse a model whose weights are not all its own, or no numbers.

    Args:
        model: as transformers loaded it.
        said: its `output_loading_info`.
        name: the model, as the user gave it.

    Raises:
        ValueError: naming what is wrong.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = set(said["missing_keys"])
    there = {id(parameters[key]) for key in parameters.keys() - missing}
    missing -= {
        key for key in missing & parameters.keys() if id(parameters[key]) in there
    }
    wrong = [  # the name alone in transformers 4
        (key, None, parameters[key].shape) if isinstance(key, str) else key
        for key in said.get("mismatched_keys", ())
    ]
    check_tensors(
        name, model.config, parameters, missing, set(said["unexpected_keys"]), wrong
    )
    check_numbers(name, parameters.items())


def check_tensors(
    name: str,
    config: Any,
    wanted: Iterable[str],
    missing: Iterable[str],
    unexpected: Iterable[str] = (),
    mismatched: Iterable[tuple[str, Sequence[int] | None, Sequence[int]]] = (),
) -> None:
    """Refuse a checkpoint that does not hold the tensors that its config.json needs.

    What the text model has no use for, such as the head of a classifier, is said only.

    Args:
        name: the model, as the user gave it.
        config: its configuration.
        wanted: all tensors of the model.
        missing: those that the checkpoint lacks.
        unexpected: those that it holds and the model has not.
        mismatched: name, shape in the checkpoint where it is known, and in the model.

    Raises:
        ValueError: naming the number of layers, or one of the tensors.
    """
    path = anatomy_of(config).blocks
    gone = set(missing)
    extra = {key for key in unexpected if not _BUFFERS.search(key)}
    layers = config.get_text_config().num_hidden_layers
    whole = {_block(key, path) for key in wanted} - {
        _block(key, path) for key in set(wanted) - gone
    }
    more = {block for key in extra if (block := _block(key, path)) is not None}
    held = max(
        (b + 1 for b in more if b >= layers), default=layers - len(whole - {None})
    )
    if held != layers:
        raise ValueError(
            f"{name!r} is not whole: config.json says num_hidden_layers {layers}, but "
            f"the weights hold {held} blocks; correct config.json, or {AGAIN}"
        )
    for key, have, want in mismatched:
        instead = "" if have is None else f", not {list(have)}"
        raise ValueError(
            f"{name!r} is not whole: config.json needs its tensor {key!r} to have the "
            f"shape {list(want)}{instead}; weights and config.json are of different "
            f"models: {AGAIN}"
        )
    if gone:
        raise ValueError(
            f"{name!r} lacks {len(gone)} of the model's tensors, such as "
            f"{min(gone)!r}; transformers would fill them with random numbers: {AGAIN}"
        )
    inside = f"{path.rpartition('.')[0]}."
    if strange := sorted(
        k
        for k in extra
        if _block(k, path) is not None or (path and k.startswith(inside))
    ):
        raise ValueError(
            f"{name!r} holds {len(strange)} tensors that its config.json has no place "
            f"for, such as {strange[0]!r}, and would compute something else without "
            f"them; correct config.json, or {AGAIN}"
        )
    if extra:
        logger.warning(
            "%r holds %d tensors that a text model does not use, such as %r",
            name,
            len(extra),
            min(extra),
        )


def _block(tensor: str, blocks: str) -> int | None:
    """The number of the block that a tensor belongs to, by its name.

    Some checkpoints leave the outermost module out of their names.
    """
    for start in (blocks, blocks.partition(".")[2]):
        if start and tensor.startswith(f"{start}."):
            number = tensor.removeprefix(f"{start}.").partition(".")[0]
            return int(number) if number.isdecimal() else None
    return None


def check_numbers(name: str | Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights that are no numbers, in one pass over them.

    Raises:
        ValueError: naming the tensor.
    """
    for key, tensor in tensors:
        if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
            continue
        if tensor.dtype.itemsize == 1:  # eight-bit floats have no such reduction
            continue
        low, high = torch.aminmax(tensor.detach())  # NaN passes through
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            narrow = tensor.dtype == torch.float16
            way = "load it in bfloat16 or float32, or " if narrow else ""
            raise ValueError(
                f"{name} holds numbers that are none (NaN or infinite) in {key!r}; "
                f"{way}download or convert it again"
            )


def read_tokenizer(
    source: str | Path, name: str | Path, *, rows: int | None = None, **options: Any
) -> PreTrainedTokenizerBase:
    """A tokenizer that splits text into tokens which the model has.

    Args:
        source: its folder or hub id.
        name: the model, as the user gave it.
        rows: of the model's embedding.
        options: of `AutoTokenizer.from_pretrained`.

    Raises:
        ValueError: when there is none, or it is broken or of another model.
    """
    what = f"the tokenizer of {str(name)!r}"
    advice = (
        "put the tokenizer files of the model (tokenizer.json, tokenizer_config.json) "
        "beside its weights, or download it again"
    )
    with reading(what, advice):
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        except ImportError as error:  # transformers 4 tries others when one is broken
            raise ValueError(shortened(error)) from error
        ids = tokenizer("The 2 dogs, a rain.").input_ids
    if not ids or not tokenizer.get_vocab():
        raise ValueError(f"{what} is missing or knows no token; {advice}")
    if rows is not None and max(ids) >= rows:
        raise ValueError(
            f"{what} writes token {max(ids)}, but the model's embedding has {rows} "
            f"rows: it is of another model; {advice}"
        )
    return tokenizer
