"""`contrans chat`: talk to a steered model."""

import sys
from contextlib import nullcontext, suppress
from typing import Annotated, Any

import typer

from contrans.cli import console, options

_HELP = """/strength X  multiply the vectors' strengths by X from now on (1 is as started)
/off  /on    leave the vectors out, or put them back
/reset       forget the conversation
/quit        leave (so does Ctrl-D)"""


def chat(
    model: options.Model,
    steer: options.Steers = None,
    strength: options.Strengths = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    positions: options.Positions = "all",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens per answer at most.")
    ] = 200,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw instead of taking the likeliest.")
    ] = False,
    seed: options.Seed = 0,
    any_model: options.AnyModel = False,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    revision: options.Revision = None,
    blocks: options.Blocks = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    r"""Talk to a model with vectors added, and change the strength as you go.

    A model with a chat template remembers the conversation; one without continues each
    line you type. /help lists what you can type besides text.

    Examples:
      contrans chat zoo/large --steer contrans-demo
      contrans chat meta-llama/Llama-2-13b-chat-hf --steer honesty-13b --strength 1.5
      printf 'Hello\n/strength 2\nHello\n' | contrans chat MODEL --steer DIR

    Next: contrans eval measures the strength you liked.
    """
    console.quiet()
    from contrans.cli.steering import load_vectors, steer as control
    from contrans.control.steer import compose
    from contrans.models.chat import chat_prompt
    from contrans.models.loading import load_model

    vectors = load_vectors(steer or [], strength, unit)
    lm = load_model(
        model,
        dtype=dtype,
        device_map=device_map,
        quantize=quantize,  # type: ignore[arg-type]
        revision=revision,
        blocks=blocks,
        trust_remote_code=trust_remote_code,
    )

    def made(factor: float) -> Any:
        return compose(
            *(
                control(
                    v,
                    unit=unit,
                    layers=layers,
                    positions=positions,
                    any_model=any_model,
                    factor=factor,
                )
                for v in vectors
            )
        )

    with made(1.0).on(lm):
        pass  # a vector that does not fit is refused now, not at the first answer
    template = getattr(lm.tokenizer, "chat_template", None) is not None
    _greet(lm.name, vectors, template=template)
    factor, off, turn = 1.0, False, 0
    history: list[dict[str, str]] = []
    while (line := _ask()) is not None:
        word, _, rest = line.partition(" ")
        if word == "/quit":
            break
        if word in ("/on", "/off"):
            off = word == "/off"
            console.note("vectors off" if off else f"vectors on, factor {factor:g}")
        elif word == "/reset":
            history.clear()
            console.note("conversation forgotten")
        elif word == "/strength":
            read = _factor(rest)
            factor, off = (factor, off) if read is None else (read, False)
        elif word.startswith("/"):
            console.note(_HELP)
        elif line:
            prompt = line
            if template:
                history.append({"role": "user", "content": line})
                prompt = chat_prompt(lm.tokenizer, history)
            turn += 1
            try:
                with nullcontext() if off else made(factor).on(lm):
                    answer = lm.generate(
                        prompt,
                        max_new_tokens=max_new_tokens,
                        sample=sample,
                        seed=seed + turn,
                    )
            except KeyboardInterrupt:
                console.note("\nanswer stopped")
                if template:
                    history.pop()
                continue
            if template:
                history.append({"role": "assistant", "content": answer})
            typer.echo(answer if template else f"{line}{answer}")


def _greet(name: str, vectors: list[Any], *, template: bool) -> None:
    used = ", ".join(
        f"{v.value.concept} at {v.strength:g} (layers "
        f"{', '.join(map(str, v.value.layers))})"
        for v in vectors
    )
    console.note(f"{name} with {used or 'no vector'}. /help lists commands.")
    if not template:
        console.note("no chat template: each line you type is continued by itself")


def _ask() -> str | None:
    """The next line, or None when the person has left."""
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  (line editing and history)
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        console.note("")
        return None


def _factor(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        console.note(f"cannot read {text!r}; write a number, such as /strength 1.5")
        return None
    console.note(f"factor {found:g}")
    return found
