"""`contrans generate`: continue prompts, steered or before and after."""

import json
import sys
from typing import Annotated, Any

import typer

from contrans.cli import console, options


def generate(
    model: options.Model,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT", help="Without any: one prompt per line of stdin."
        ),
    ] = None,
    steer: options.Steers = None,
    strength: options.Strengths = None,
    kl: options.KLs = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    positions: options.Positions = "all",
    expert: options.Expert = None,
    anti_expert: options.AntiExpert = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without the vectors.")
    ] = False,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens to add at most.")
    ] = 64,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw instead of taking the likeliest.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="For --sample.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="For --sample.")] = 1.0,
    seed: options.Seed = 0,
    any_model: options.AnyModel = False,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    revision: options.Revision = None,
    blocks: options.Blocks = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json_: options.Json = False,
) -> None:
    r"""Continue prompts with concept vectors added to the model as it runs.

    Several --steer are added together. Without --strength a transplanted vector is used
    at the strength that `transplant` chose.

    Examples:
      contrans generate zoo/large "You lost your keys." --steer contrans-demo --compare
      contrans generate MODEL "Dear Sir," --steer anger.safetensors --layers 24 \
          --strength 2 --positions generated
      contrans generate MODEL "Hello" --steer a.safetensors --steer b.safetensors \
          --strength 1 --strength -0.5
      contrans generate zoo/large "You lost your keys." --steer contrans-demo --kl 0.3
      contrans generate MODEL --steer DIR --json < prompts.txt
      contrans generate MODEL "Hello" --expert SMALL-CHAT --anti-expert SMALL

    Next: contrans chat, to change the strength as you go; contrans eval, to measure.
    """
    texts = list(prompts or [])
    if not texts:
        if sys.stdin.isatty():
            raise typer.BadParameter("give a PROMPT, or prompts on stdin, one a line")
        texts = [line.rstrip("\n") for line in sys.stdin if line.strip()]
        if not texts:
            raise ValueError("stdin holds no prompts; write one a line")
    if compare and not (steer or expert):
        raise typer.BadParameter("--compare needs --steer FILE to compare with")
    console.quiet()
    from contrans.cli.baselines import baselines
    from contrans.cli.steering import dosed, load_vectors, steer as control
    from contrans.control.steer import compose
    from contrans.models.loading import load_model

    vectors = load_vectors(steer or [], strength, unit, kl)
    how: dict[str, Any] = {
        "layers": layers,
        "positions": positions,
        "any_model": any_model,
    }
    parts = [control(v, unit=unit, **how) for v in vectors]
    loading = {
        "dtype": dtype,
        "device_map": device_map,
        "quantize": quantize,
        "trust_remote_code": trust_remote_code,
    }
    lm = load_model(model, revision=revision, blocks=blocks, **loading)  # type: ignore[arg-type]
    if kl:
        parts = [control(v, **how) for v in dosed(lm, vectors, **how)]
    small = baselines(expert=expert, anti_expert=anti_expert, loading=loading)

    def go() -> list[str]:
        return lm.generate(
            texts,
            max_new_tokens=max_new_tokens,
            sample=sample,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    before = go() if compare else None
    with compose(*parts, *small.values()).on(lm):
        after = go()
    if json_:
        keys = ("prompt", "before", "after") if before else ("prompt", "after")
        columns = [texts, before, after] if before else [texts, after]
        found = [
            dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)
        ]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for i, text in enumerate(texts):
        if before is None:
            typer.echo(f"{text}{after[i]}")
        else:
            typer.echo(f"prompt: {text}\nbefore: {before[i]}\nafter:  {after[i]}")
        if i + 1 < len(texts):
            typer.echo("")
