"""Bake a constant edit into a checkpoint, so that stock software serves it.

Adding the same vector to the output of a block at every position is what a bias does.
`bake` writes a copy of a checkpoint in which the right bias of each edited block carries
the edit: transformers, vLLM or TGI load it like any other model, with no contrans and no
hook. Files are rewritten one at a time and one tensor at a time, so a large checkpoint
needs its size on disk and little memory.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from contrans.control.steer import check_fits
from contrans.core.files import finite, write_json, write_text
from contrans.core.folders import MARK, check_folder, new_folder
from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from contrans.export.checkpoint.model_card import model_card
from contrans.export.checkpoint.rehost import llama_host
from contrans.export.checkpoint.shards import Rewrite, rewrite_file
from contrans.export.checkpoint.slots import Host, native_host
from contrans.export.checkpoint.tokenizer import copy_tokenizer
from contrans.export.constant import constant_edit, single_edits, vectors_of
from contrans.models.anatomy import anatomy_of
from contrans.models.edits import Control
from contrans.models.soundness import INDEX, SINGLE

MARGIN = 1 << 26
"""Bytes allowed for biases, tokenizer and index beyond the size of the weights."""
BAKED = "baked-model"
"""What the index of a baked checkpoint calls it."""
_NEVER_COPIED = ("config.json", "params.json", MARK, "README.md")
"""Written anew, or (params.json) the config of another format of the same weights."""
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_LEGAL = ("LICENSE", "NOTICE", "USE_POLICY")


@dataclass(frozen=True, slots=True)
class BakeReport:
    """What `bake` did."""

    folder: str
    base: str
    """The model that was edited, as it was named."""
    revision: str | None
    fingerprint: str
    """Hash of the base's weights."""
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    """Blocks that carry the edit."""
    lengths: dict[int, float]
    """Length of the vector added at each of them."""
    architecture: str
    """Of the written checkpoint; differs from `base_architecture` when re-hosted."""
    base_architecture: str
    slot: str
    """The bias that carries the edit, inside a block."""
    scale: float
    """The bias is the edit times this."""
    dtypes: tuple[str, ...]
    """How those biases are stored."""
    rounding: float
    """Largest error of that, as a share of the largest number of the edit."""
    added: int
    """Biases that the base did not have; zero except where they carry the edit."""
    config: dict[str, Any]
    """Fields of config.json that changed."""
    context: int | None
    """Longest text, where baking had to limit it."""
    files: int
    bytes: int
    warnings: tuple[str, ...] = ()


def bake(
    control: Control | ConceptVector,
    model: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    context: int | None = None,
    revision: str | None = None,
    results: Mapping[str, Any] | None = None,
    inputs: Sequence[str | Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> BakeReport:
    """Write a checkpoint that behaves like `model` under `control`.

    The vector is added at every position, BOS included, as `Steer` does by default.

    Args:
        control: a `Steer`, several of them composed, or a vector (added once).
        model: hub id, folder, or name of the embedded zoo.
        out: folder to make.
        force: replace `out` if it is a baked checkpoint.
        context: for models with a sliding window: the longest text that will be served,
            at most the window.
        revision: branch, tag or commit on the hub.
        results: the `results.json` of the transplant, for the model card.
        inputs: files that the control was read from; `out` must not hold them.
        progress: called with (tensors written, tensors).

    Raises:
        UnsupportedModelError: when the architecture cannot carry the edit.
        ValueError: when the edit is not constant, the vector is of another model, or
            `out` holds the model or an input.
        FileExistsError: when `out` is there already.
        FileNotFoundError: when there is no such model.
    """
    out = Path(out)
    check_folder(out, BAKED, force=force)
    for given in inputs:
        _check_outside(Path(given), out)
    steers = single_edits(control)  # refuse what is not constant before downloading
    base = open_checkpoint(model, revision=revision)
    _check_outside(base.folder, out)
    host = _host(base, context)
    fingerprint = base.fingerprint  # reads every tensor's place: fail before writing
    for steer in steers:
        check_fits(steer.vector, base, any_model=steer.any_model)
    edit = constant_edit(control, depth=base.layers)
    if not edit:
        raise ValueError(
            f"nothing to bake into {base.name!r} ({fingerprint}): the control adds no "
            "vector anywhere"
        )
    change = _plan(base, host, edit)
    with new_folder(out, BAKED, force=force, room=base.size + MARGIN) as folder:
        _write_weights(base, folder, change, progress)
        config = dict(host.config)
        if host.kind == "native":
            config = {**base.raw, **config}
        write_json(folder / "config.json", config)
        warnings = _copy_files(base, folder)
        report = _report(control, base, out, change, edit, config, tuple(warnings))
        vectors = vectors_of(control)
        card = model_card(asdict(report), vectors, results or {}, base.folder)
        write_text(folder / "README.md", card, force=True)
        write_json(folder / MARK, _index(report, vectors), force=True)
    return report


def _check_outside(source: Path, out: Path) -> None:
    """Refuse to replace what is read."""
    if source.resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f"{out} is or holds {source}, which is read here; name another folder"
        )


def _host(base: Checkpoint, context: int | None) -> Host:
    """Where the edit goes in this architecture."""
    if anatomy_of(base.config).as_llama:
        return llama_host(base.config, base.raw, context)
    host = native_host(base.config)
    if context is not None:
        raise ValueError(
            f"context is for models with a sliding window, not for "
            f"{base.config.model_type!r}; leave it out"
        )
    return host


def _plan(base: Checkpoint, host: Host, edit: Mapping[int, Tensor]) -> Rewrite:
    """The change to every file.

    Raises:
        ValueError: when the checkpoint lacks the module that should carry the edit.
    """
    pushes = {
        f"{base.blocks}.{layer}.{host.slot}.bias": push.double() * host.scale
        for layer, push in edit.items()
    }
    known = frozenset(base.where)
    owner = ".weight" if host.slot in host.biased else ".bias"
    for name in pushes:
        if (wanted := name.removesuffix(".bias") + owner) not in known:
            raise ValueError(
                f"{base.name!r} has no tensor {wanted!r}; the checkpoint is incomplete "
                "or names its tensors in an old way: load it with transformers and save "
                "it again (save_pretrained)"
            )
    return Rewrite(repr(base.name), host, base.blocks, pushes, known)


def _write_weights(
    base: Checkpoint,
    folder: Path,
    change: Rewrite,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Rewrite the files one after the other, and their index."""
    done = 0

    def written() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, max(done, len(base.where)))

    for file in base.files:
        rewrite_file(base.folder / file, folder / file, change, written)
    tally = change.tally
    if tally.edited != len(change.pushes):
        missing = sorted(set(change.pushes) - set(tally.where))
        raise ValueError(f"no place was found for {missing}; the edit was not written")
    if base.files != [SINGLE]:
        sizes = {"total_size": tally.bytes, "total_parameters": tally.numbers}
        index = {"metadata": sizes, "weight_map": dict(sorted(tally.where.items()))}
        write_json(folder / INDEX, index)


def _copy_files(base: Checkpoint, folder: Path) -> list[str]:
    """Copy the tokenizer, the generation config and the licence."""
    sources = dict.fromkeys((base.tokenizer, base.folder))
    for source in sources:
        for file in sorted(source.iterdir()):
            legal = file.name.upper().startswith(_LEGAL)
            if file.name in _NEVER_COPIED or ".index." in file.name:
                continue
            wanted = file.is_file() and (legal or file.suffix in _COPIED)
            if wanted and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    return copy_tokenizer(base.tokenizer, folder)


def _report(
    control: Control | ConceptVector,
    base: Checkpoint,
    out: Path,
    change: Rewrite,
    edit: Mapping[int, Tensor],
    config: Mapping[str, Any],
    warnings: tuple[str, ...],
) -> BakeReport:
    host, tally = change.host, change.tally
    changed = {k: v for k, v in config.items() if base.raw.get(k, ...) != v}
    limited = None
    if host.kind == "re-hosted":
        served = config["max_position_embeddings"]
        limited = served if served != base.config.max_position_embeddings else None
    return BakeReport(
        folder=str(out),
        base=base.name,
        revision=base.revision,
        fingerprint=base.fingerprint,
        concepts=tuple(dict.fromkeys(v.concept for v in vectors_of(control))),
        layers=tuple(edit),
        lengths={layer: float(push.norm()) for layer, push in edit.items()},
        architecture=config["model_type"],
        base_architecture=base.config.model_type,
        slot=f"{host.slot}.bias",
        scale=host.scale,
        dtypes=tuple(sorted(tally.dtypes)),
        rounding=tally.rounding,
        added=tally.added,
        config=changed,
        context=limited,
        files=len(base.files),
        bytes=tally.bytes,
        warnings=warnings,
    )


def _index(report: BakeReport, vectors: list[ConceptVector]) -> dict[str, Any]:
    """What the folder says about itself, for programs."""
    return finite(
        {
            "contrans": __version__,
            "kind": BAKED,
            "what": f"{' + '.join(report.concepts)} baked into {report.base}",
            "report": {**asdict(report), "folder": None},
            "vectors": [
                {
                    "concept": vector.concept,
                    "model": vector.model,
                    "name": vector.name,
                    "layers": list(vector.layers),
                    "provenance": dict(vector.provenance),
                }
                for vector in vectors
            ],
            "files": {
                "config.json": "the architecture, with the biases switched on",
                "README.md": "the model card",
            },
        }
    )
