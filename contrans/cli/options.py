"""Options that several verbs share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

from contrans.core.parsing import parse_layers as parse_layers


def _dtype(value: str) -> str:
    return _one_of(value, ("auto", "float32", "bfloat16", "float16"))


def _quantize(value: str | None) -> str | None:
    return None if value is None else _one_of(value, ("8bit", "4bit"))


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r}; choose {' or '.join(known)}")
    return value


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Hub id, folder, GGUF file, named model or zoo/NAME."
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="DTYPE", help="auto, float32, bfloat16 or float16.", callback=_dtype
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(metavar="MAP", help="As in transformers, such as auto."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        metavar="8bit|4bit",
        help="Load in fewer bits (needs a GPU).",
        callback=_quantize,
    ),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where the blocks are, for an unknown architecture: model.layers.",
    ),
]
Revision = Annotated[
    str | None, typer.Option(metavar="REV", help="Branch, tag or commit on the hub.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that comes with a model. Off by default."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]
NewFile = Annotated[
    Path, typer.Option("-o", "--out", metavar="FILE", help="File to write.")
]
Steers = Annotated[
    list[str] | None,
    typer.Option(
        "--steer",
        metavar="FILE",
        help="A concept vector, or the folder that `transplant` wrote. Repeatable.",
    ),
]
Strengths = Annotated[
    list[float] | None,
    typer.Option(
        "--strength",
        metavar="VALUE",
        help="One for all vectors, or one for each, in their order. Without it: the "
        "strength that `transplant` chose and wrote into the file, else 1.",
    ),
]
KLs = Annotated[
    list[float] | None,
    typer.Option(
        "--kl",
        metavar="NATS",
        help="Instead of --strength: how far each vector is to move the predictions on "
        "neutral text, in nats per token (0.1 is gentle, 0.5 strong). One or one each.",
    ),
]
Unit = Annotated[
    str,
    typer.Option(
        metavar="raw|relative",
        help="raw multiplies the vector as fitted; relative is a share of the mean "
        "length of the residual stream (0.1 is gentle, above 1 is too much).",
    ),
]
SteerLayers = Annotated[
    str | None,
    typer.Option(
        metavar="LAYERS",
        help="Blocks to edit: 24, 4,5,6 or 20-28. Without it: all in the file.",
    ),
]
Positions = Annotated[
    str, typer.Option(metavar="all|prompt|generated", help="Tokens to edit.")
]
Grid = Annotated[
    str,
    typer.Option(
        metavar="kl|relative|paper",
        help="Strengths that auto tries: of given doses in nats, shares of the residual "
        "norm, or 0.3 to 1.5.",
    ),
]
Baselines = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Further rows, by comma: align-training (needs --aligned-target), "
        "inst-align, proxy (needs --map-source); or 'all' that can be made.",
    ),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="What inst-align puts before every prompt; without it, words for the "
        "concept.",
    ),
]
Expert = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Proxy-tuning: a small tuned model, whose difference to --anti-expert is "
        "added to the logits.",
    ),
]
AntiExpert = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Proxy-tuning: the base of --expert."),
]
AnyModel = Annotated[
    bool,
    typer.Option(
        "--any-model",
        help="Accept a vector made for other weights of this width, such as the "
        "unquantised model.",
    ),
]


def parse_pair(text: str) -> tuple[int, int]:
    """A source and a target layer, "24:30".

    Raises:
        ValueError: when the text is not of that form.
    """
    source, _, target = text.partition(":")
    try:
        return int(source), int(target)
    except ValueError:
        raise ValueError(
            f"cannot read layers {text!r}; write SOURCE:TARGET, such as 24:30"
        ) from None
