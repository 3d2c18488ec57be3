"""`contrans export`: a vector in the forms that other software reads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def _file(text: str) -> Any:
    return typer.Option(metavar="FILE", help=text)


def export(
    vector: Annotated[
        str | None,
        typer.Argument(
            metavar="VECTOR",
            help="A vector.safetensors, the folder that `transplant` wrote, a NAME@VERSION "
            "of the library, or a file of repeng, llama.cpp (.gguf), steering-vectors or "
            "lm-evaluation-harness (.pt).",
        ),
    ] = None,
    bake: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Write a checkpoint of MODEL with the vector in its biases, to -o DIR.",
        ),
    ] = None,
    gguf: Annotated[Path | None, _file("Write a control vector for llama.cpp.")] = None,
    bake_gguf: Annotated[
        Path | None,
        _file("Write this GGUF model with the vector in its biases, to -o FILE."),
    ] = None,
    gguf_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Write MODEL itself as a GGUF file, to -o FILE."
        ),
    ] = None,
    lm_eval: Annotated[
        Path | None, _file("Write what lm-evaluation-harness reads (steer_path=FILE).")
    ] = None,
    steering_vectors: Annotated[
        Path | None, _file("Write what the steering-vectors package loads (.pt).")
    ] = None,
    repeng: Annotated[Path | None, _file("Write what repeng imports (.gguf).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="PATH",
            help="Where a baked checkpoint or GGUF model goes.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="Multiplier of the vector. Without it: the strength that `transplant` "
            "chose and wrote into the file, else 1.",
        ),
    ] = None,
    kl: Annotated[
        float | None,
        typer.Option(
            metavar="NATS",
            help="Instead of --strength: how far the vector is to move the predictions "
            "of --bake or --model on neutral text, in nats per token.",
        ),
    ] = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="--bake of a model with a sliding window: the longest text served.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model that a file is for, where the vector's own name does not "
            "lead to it: checks width and depth.",
        ),
    ] = None,
    any_model: options.AnyModel = False,
    revision: options.Revision = None,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Write a vector in the forms that other software reads; several at once if you like.

    A baked checkpoint is served by stock transformers, vLLM or TGI, with no contrans and
    no hook. The vector is added at every position, which is all that a file can do.

    Examples:
      contrans export anger-7b --bake meta-llama/Llama-2-7b-hf -o llama-angry
      contrans export contrans-demo --bake zoo/large -o large-angry
      contrans export anger.safetensors --bake mistralai/Mistral-7B-v0.1 --context 4096 \
          --layers 14 --strength 2 -o mistral-angry
      contrans export anger-7b --gguf anger.gguf --lm-eval anger.pt
      contrans export anger-13b@2 --gguf anger.gguf --model meta-llama/Llama-2-13b-hf
      contrans export repeng.gguf --any-model --bake MODEL -o DIR
      contrans export anger-7b --bake-gguf 7b.Q4_K_M.gguf -o 7b-angry.Q4_K_M.gguf

    Serve it:
      vllm serve llama-angry
      llama-cli -m 7b.Q4_K_M.gguf --control-vector anger.gguf
      lm_eval run --model steered --model_args pretrained=MODEL,steer_path=anger.pt ...
    """
    into_out = [bake, bake_gguf, gguf_model]
    files = [gguf, lm_eval, steering_vectors, repeng]
    _check(vector, into_out, files, out)
    for file in (*files, out if bake_gguf or gguf_model else None):
        if file is not None:
            check_file(file, force=force)
    console.quiet()
    written: list[dict[str, Any]] = []
    if gguf_model is not None:
        written.append(_write_gguf_model(gguf_model, _needed(out), force))
    if vector is not None:
        from contrans.cli.export_targets import load_control

        loaded = load_control(
            vector,
            strength=strength,
            unit=unit,
            layers=layers,
            any_model=any_model,
            kl=kl,
            model=bake or model,
        )
        jobs: list[tuple[Any, Callable[[], dict[str, Any]]]] = [
            (
                bake,
                lambda: loaded.bake(str(bake), _needed(out), context, revision, force),
            ),
            (
                bake_gguf,
                lambda: loaded.bake_gguf(_needed(bake_gguf), _needed(out), force),
            ),
            (gguf, lambda: loaded.gguf(_needed(gguf), model, force)),
            (lm_eval, lambda: loaded.lm_eval(_needed(lm_eval), model, force)),
            (
                steering_vectors,
                lambda: loaded.steering_vectors(
                    _needed(steering_vectors), model, force
                ),
            ),
            (repeng, lambda: loaded.repeng(_needed(repeng), model, force)),
        ]
        written += [write() for asked, write in jobs if asked is not None]
    if json_:
        typer.echo(json.dumps(_plain({"written": written}), indent=2))
        return
    for one in written:
        typer.echo(one["said"])


def _check(
    vector: str | None,
    into_out: list[Any],
    files: list[Path | None],
    out: Path | None,
) -> None:
    """Refuse what does not go together, before anything is loaded."""
    asked = [one for one in into_out if one is not None]
    if not asked and not any(files):
        raise typer.BadParameter(
            "say what to write: --bake MODEL -o DIR, --gguf FILE, --bake-gguf IN -o OUT, "
            "--gguf-model MODEL -o FILE, --lm-eval FILE, --steering-vectors FILE or "
            "--repeng FILE"
        )
    if len(asked) > 1:
        raise typer.BadParameter(
            "--bake, --bake-gguf and --gguf-model all write to -o; run them one by one"
        )
    if asked and out is None:
        raise typer.BadParameter("give -o, the place for what is written")
    if out is not None and not asked:
        raise typer.BadParameter(
            "-o is for --bake, --bake-gguf and --gguf-model; the other forms name their "
            "file themselves, such as --gguf anger.gguf"
        )
    if vector is None and (any(files) or into_out[-1] is None):
        raise typer.BadParameter("give a VECTOR: a file or a folder of contrans")


def _needed(path: Path | None) -> Path:
    """A path that `_check` has seen to."""
    if path is None:
        raise typer.BadParameter("give -o, the place for what is written")
    return path


def _write_gguf_model(model: str, out: Path, force: bool) -> dict[str, Any]:
    from contrans.export.gguf.model import write_model

    with console.Bars() as bars:
        write_model(model, out, force=force, progress=bars.stage("tensors"))
    said = f"wrote {model} to {out}\nrun it: llama-cli -m {out}"
    return {"kind": "gguf-model", "model": model, "path": str(out), "said": said}


def _plain(value: Any) -> Any:
    """The same for JSON: dataclasses as mappings, paths as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k != "said"}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
