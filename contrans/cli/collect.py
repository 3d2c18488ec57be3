"""`contrans collect`: hidden states to a file."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def collect(
    model: options.Model,
    out: options.NewFile,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Built-in concept, or file of pairs."),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|builtin", help="Plain texts, to fit a map on later."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="refine, validate or test.")
    ] = "refine",
    layers: Annotated[
        str | None,
        typer.Option(metavar="LAYERS", help="24, 4,5,6 or 20-28; without it: all."),
    ] = None,
    position: Annotated[
        str, typer.Option(metavar="last|mean|all", help="Which tokens of a text.")
    ] = "last",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N texts or pairs.")
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the blocks first: for large jobs."),
    ] = False,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    revision: options.Revision = None,
    blocks: options.Blocks = None,
    trust_remote_code: options.TrustRemoteCode = False,
    force: options.Force = False,
) -> None:
    """Read the hidden states of prompt pairs, or of plain texts, into a file.

    Layer L is the output of block L, counted from zero. Pairs become a concept with
    `contrans concept`; states of the same texts in two models become a map with
    `contrans map`.

    Examples:
      contrans collect zoo/small-aligned --pairs anger -o anger-states.safetensors
      contrans collect zoo/small --texts builtin --layers 3 -o source.safetensors
      contrans collect zoo/large --texts builtin --layers 5 -o target.safetensors

    Next:
      contrans concept anger-states.safetensors -o anger.safetensors
      contrans map source.safetensors target.safetensors -o link.safetensors
    """
    if (pairs is None) == (texts is None):
        raise typer.BadParameter("give --pairs NAME|FILE or --texts FILE (one of them)")
    chosen = options.parse_layers(layers)
    console.check_choice("split", split, ("refine", "validate", "test"))
    console.check_choice("position", position, ("last", "mean", "all"))
    check_file(out, force=force)
    console.quiet()
    from contrans.cli.residual_norms import measured
    from contrans.core.artifacts import save
    from contrans.core.types import PromptPairs
    from contrans.data import load_corpus
    from contrans.library.concepts import load_concept
    from contrans.models.collect import collect as read, collect_pairs
    from contrans.models.loading import load_model

    if pairs is not None:
        data: Any = getattr(load_concept(pairs, seed=seed), split)
        if limit is not None:
            data = PromptPairs(
                data.positive[:limit], data.negative[:limit], concept=data.concept
            )
        take: Any = collect_pairs
    else:
        data = load_corpus(None if texts == "builtin" else texts).texts[:limit]
        take = read
    lm = load_model(
        model,
        dtype=dtype,
        device_map=device_map,
        quantize=quantize,  # type: ignore[arg-type]
        revision=revision,
        blocks=blocks,
        trust_remote_code=trust_remote_code,
    )
    with console.Bars() as bars:
        if pairs is None:  # straight to the file, so that memory is no bound
            wanted = (
                range(lm.layers) if chosen is None else sorted(map(lm.layer, chosen))
            )
            norms: dict[str, Any] = {"norms": measured(lm, tuple(wanted))}
            kept = {"out": out, "force": force, "facts": norms}
        else:
            kept = {}
        states = take(
            lm,
            data,
            layers=chosen,
            position=position,
            compile=compiled,
            progress=bars.stage("collect"),
            **kept,
        )
        if pairs is not None:
            norms = {"norms": measured(lm, states.layers), "split": split}
            states = replace(
                states,
                positive=_remember(states.positive, norms),
                negative=_remember(states.negative, norms),
            )
            save(states, out, force=force)
    typer.echo(
        f"{out}: {len(states)} {'pairs' if pairs else 'rows'} of {lm.name}, layers "
        f"{', '.join(map(str, states.layers))}, width {lm.hidden}"
    )


def _remember(states: Any, facts: dict[str, Any]) -> Any:
    return replace(states, provenance={**states.provenance, **facts})
