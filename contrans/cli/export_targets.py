"""What `contrans export` does once its options are read.

Imports torch: `cli/export.py` imports this module inside its function.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrans.cli import console
from contrans.cli.steering import dosed, load_vectors, steer
from contrans.control.steer import Steer
from contrans.export.checkpoint.bake import BakeReport, bake
from contrans.export.target import Target, find_target
from contrans.library import Library, main_file, named
from contrans.models.loading import load_model


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A vector with its strength and layers, and what was measured with it."""

    given: str
    """How the user named it."""
    control: Steer
    results: dict[str, Any] | None

    def bake(
        self,
        model: str,
        out: Path,
        context: int | None,
        revision: str | None,
        force: bool,
    ) -> dict[str, Any]:
        """A checkpoint with the edit in its biases.

        Args:
            model: id or folder of the checkpoint.
            out: the folder or file to write.
            context: the longest context to keep; None keeps all.
            revision: of the checkpoint on the hub.
            force: write over what is there.
        """
        with console.Bars() as bars:
            report = bake(
                self._bound(model),
                model,
                out,
                force=force,
                context=context,
                revision=revision,
                results=self.results,
                inputs=(_place(self.given),),
                progress=bars.stage("tensors"),
            )
        return {"kind": "bake", "report": report, "said": _said(report)}

    def gguf(self, path: Path, model: str | None, force: bool) -> dict[str, Any]:
        """A control vector for llama.cpp.

        Args:
            path: the file.
            model: id or folder, for the name of its architecture.
            force: write over what is there.
        """
        from contrans.export.gguf.control_vector import write_control_vector

        target = self._target(model)
        write_control_vector(
            self.control,
            path,
            model_hint=target.architecture if target else None,
            depth=target.layers if target else None,
            force=force,
        )
        said = (
            f"wrote a control vector to {path}\n"
            f"use it: llama-cli -m MODEL.gguf --control-vector {path}"
        )
        return {"kind": "gguf", "path": str(path), "said": said}

    def bake_gguf(self, source: Path, out: Path, force: bool) -> dict[str, Any]:
        """A GGUF model with the edit in its biases.

        Args:
            source: the GGUF model.
            out: the folder or file to write.
            force: write over what is there.
        """
        from contrans.export.gguf.bake import bake_gguf

        with console.Bars() as bars:
            report = bake_gguf(
                self.control, source, out, force=force, progress=bars.stage("tensors")
            )
        said = f"wrote {source} with the vector baked in to {out}\nrun it: llama-cli -m {out}"
        return {"kind": "bake-gguf", "report": report, "said": said}

    def lm_eval(self, path: Path, model: str | None, force: bool) -> dict[str, Any]:
        """A steering file for lm-evaluation-harness.

        Args:
            path: the file.
            model: id or folder, to check the vector against.
            force: write over what is there.
        """
        from contrans.export.lm_eval import write_steering_file

        report = write_steering_file(self.control, path, model=model, force=force)
        said = f"wrote a steering file to {path}\nuse it: {report.command}"
        return {"kind": "lm-eval", "report": report, "said": said}

    def repeng(self, path: Path, model: str | None, force: bool) -> dict[str, Any]:
        """A file for repeng.

        Args:
            path: the file.
            model: id or folder, for the name of its architecture.
            force: write over what is there.
        """
        from contrans.export.neighbours import write_repeng

        target = self._target(model)
        write_repeng(
            self.control,
            path,
            model_type=target.model_type if target else None,
            depth=target.layers if target else None,
            force=force,
        )
        said = (
            f"wrote {path} for repeng\nuse it: ControlVector.import_gguf({str(path)!r})"
        )
        return {"kind": "repeng", "path": str(path), "said": said}

    def steering_vectors(
        self, path: Path, model: str | None, force: bool
    ) -> dict[str, Any]:
        """A file for steering-vectors.

        Args:
            path: the file.
            model: id or folder, for its architecture.
            force: write over what is there.
        """
        from contrans.export.neighbours import write_steering_vectors

        target = self._target(model)
        depth = target.layers if target else None
        write_steering_vectors(self.control, path, depth=depth, force=force)
        said = (
            f"wrote {path} for steering-vectors\nuse it: "
            f"SteeringVector(**torch.load({str(path)!r}, weights_only=True)).apply(model)"
        )
        return {"kind": "steering-vectors", "path": str(path), "said": said}

    def _target(self, model: str | None) -> Target | None:
        """The model that the file is for, where one is named or known on this machine.

        Raises:
            FileNotFoundError: when the model that the user named is not there.
            ValueError: when the vector does not fit it.
        """
        name = model or self.control.vector.name
        try:
            found = find_target(name, offline=model is None) if name else None
        except FileNotFoundError:
            if model is not None:
                raise
            return None
        if found is not None:
            found.check_width([self.control.vector])
        return found

    def _bound(self, model: str) -> Steer:
        """The control; files of other programs do not say which model they are for."""
        if not self.control.vector.model and not self.control.any_model:
            raise ValueError(
                f"{self.given} does not say which model it was made for; if that is "
                f"{model}, pass --any-model"
            )
        return self.control


def load_control(
    given: str,
    *,
    strength: float | None,
    unit: str,
    layers: str | None,
    any_model: bool,
    kl: float | None = None,
    model: str | None = None,
) -> Loaded:
    """Read the vector and what lies beside it.

    Args:
        given: a file, a folder of `transplant`, or an entry of the library.
        strength: None takes what was chosen.
        unit: "raw", or "relative" to the residual norm.
        layers: such as "3" or "2-5"; None takes all.
        any_model: take a vector of another model too.
        kl: the dose that the strength is to have, in nats per token.
        model: in which it is to have it.

    Raises:
        FileNotFoundError, ValueError, KeyError: see `steering.load_vectors`.
    """
    chosen = None if strength is None else [strength]
    vector = load_vectors([given], chosen, unit, None if kl is None else [kl])[0]
    if kl is not None:
        if model is None:
            raise ValueError(
                "a dose is one in some model; name it with --bake or --model"
            )
        how: dict[str, Any] = {"layers": layers, "any_model": any_model}
        [vector] = dosed(load_model(model), [vector], **how)
    control = steer(vector, unit=unit, layers=layers, any_model=any_model)
    return Loaded(given, control, _results(_place(given)))


def _place(given: str) -> Path:
    """Where the vector lies; what was measured lies beside it.

    In the library that is a file of the same entry, which has a name of its own.
    """
    if not named(given):
        return Path(given)
    library = Library()
    entry = library.find(given)
    file = "results.json" if "results.json" in entry.files else main_file(entry)
    return library.path(entry, file)


def _results(path: Path) -> dict[str, Any] | None:
    """`results.json` of the transplant: the file, in the folder, or beside the vector."""
    file = (path if path.is_dir() else path.parent) / "results.json"
    file = path if path.suffix == ".json" else file
    if not path.exists() or not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        console.note(
            f"warning: {file} is not readable JSON and was left out of the card"
        )
        return None
    return found if isinstance(found, dict) else None


def _said(report: BakeReport) -> str:
    """What a person wants to know of a baked checkpoint."""
    how = report.slot
    if report.architecture != report.base_architecture:
        how += f", re-hosted from {report.base_architecture} as {report.architecture}"
    blocks = ", ".join(map(str, report.layers))
    lines = [
        f"baked {' + '.join(report.concepts)} into {report.base}: {report.folder} "
        f"({report.bytes / 1e6:,.0f} MB in {report.files} file"
        f"{'s' if report.files > 1 else ''})",
        f"block {blocks}, {how}, stored as {', '.join(report.dtypes)} "
        f"(rounding: {100 * report.rounding:.2g}% of the edit)",
    ]
    if report.context:
        lines.append(f"serve texts of at most {report.context} tokens")
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines.append(f"serve it: vllm serve {report.folder}")
    return "\n".join(lines)
