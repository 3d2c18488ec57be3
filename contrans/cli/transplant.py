"""`contrans transplant`: the main job; its last stage alone is `through_map`."""

import json
import os
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.version import __version__
from contrans.library.entries import is_reference


def transplant(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Model that has the concept: hub id, folder or zoo/NAME. Or a vector "
            "(.safetensors or NAME@VERSION), when TARGET is a map.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Model that receives it; or a map (.safetensors or NAME@VERSION).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Folder of results; FILE for two files."
        ),
    ],
    concept: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Built-in concept (contrans ls concepts), or NAME@VERSION of your "
            "library (contrans concepts list).",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Your own pairs: JSON {"pos": [...], "neg": [...]}, JSON Lines with '
            "positive and negative, or CSV with that header.",
        ),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="For your own pairs: the emotion word that the steered target should "
            "answer. Without it, held-out pairs are scored by likelihood.",
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Text to fit the map on (.txt a line each, .jsonl; .gz). It must vary "
            "along the concept; the built-in text does for the built-in concepts.",
        ),
    ] = None,
    perplexity: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Text to measure perplexity on, at most 200 texts; without it, every "
            "tenth text of the corpus, which the map then does not see.",
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(metavar="auto|S:T", help="Source and target block, from zero."),
    ] = "auto",
    strength: Annotated[
        str,
        typer.Option(
            metavar="auto|VALUE",
            help="Multiplier of the mapped vector; auto searches on validation prompts "
            "within the budget.",
        ),
    ] = "auto",
    kl: Annotated[
        float | None,
        typer.Option(
            metavar="NATS",
            help="Instead of --strength: how far the edit is to move the predictions on "
            "neutral text, in nats per token (0.1 is gentle, 0.5 strong).",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="ridge, contrans (the paper, exactly), procrustes or low_rank.",
        ),
    ] = "ridge",
    map_source: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model that SOURCE was tuned from; the paper fits maps between "
            "base models.",
        ),
    ] = None,
    aligned_target: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Tuned model of TARGET's shape: adds the Self-Align reference.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="heldout|paper",
            help="paper: refine and test on the same published prompts, labelled so.",
        ),
    ] = "heldout",
    eval_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Published prompts for --protocol paper."),
    ] = None,
    kl_budget: Annotated[
        float,
        typer.Option(
            metavar="NATS", help="Largest dose that auto may spend, in nats per token."
        ),
    ] = 0.5,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            help="Instead: the largest ratio of perplexities, such as 1.15. Measured at "
            "every strength, which takes longer.",
        ),
    ] = None,
    grid: options.Grid = "kl",
    baselines: options.Baselines = "",
    instruction: options.Instruction = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many test prompts: a quick look."),
    ] = None,
    seed: options.Seed = 0,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    blocks_source: options.Blocks = None,
    blocks_target: options.Blocks = None,
    trust_remote_code: options.TrustRemoteCode = False,
    same_space: Annotated[
        bool,
        typer.Option(
            "--same-space",
            help="Two files only: the vector comes from a tuned copy of the model that "
            "the map starts at.",
        ),
    ] = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Carry a concept from SOURCE into TARGET and measure, honestly, what that did.

    Refines the concept in the source, fits a linear map between both models on plain
    text, chooses layers and strength on validation prompts within a budget of nats,
    then tests once on held-out prompts beside random and shuffled controls. Every stage
    is cached: after an interruption the same command goes on.

    Examples:
      contrans transplant zoo/small-aligned zoo/large --concept anger -o anger
      contrans transplant meta-llama/Llama-2-7b-chat-hf meta-llama/Llama-2-13b-hf \
          --map-source meta-llama/Llama-2-7b-hf --concept honesty -o honesty-13b
      contrans transplant SOURCE TARGET --pairs mine.jsonl --layers 24:30 -o mine
      contrans transplant anger.safetensors link.safetensors -o anger-13b.safetensors

    The folder then holds vector.safetensors, report.md, report.html and results.json.
    Read the report; then try the vector:

      contrans generate TARGET "Your prompt" --steer DIR --compare
      contrans chat TARGET --steer DIR
    """
    files = [
        name.endswith(".safetensors") or is_reference(name) for name in (source, target)
    ]
    settings = {
        "answer": answer,
        "corpus": corpus,
        "perplexity": perplexity,
        "layers": layers,
        "strength": strength,
        "kl": kl,
        "method": method,
        "map_source": map_source,
        "aligned_target": aligned_target,
        "protocol": protocol,
        "eval_file": eval_file,
        "kl_budget": kl_budget,
        "budget": budget,
        "grid": grid,
        "baselines": baselines,
        "instruction": instruction,
        "limit": limit,
        "seed": seed,
        "dtype": dtype,
        "device_map": device_map,
        "quantize": quantize,
        "blocks_source": blocks_source,
        "blocks_target": blocks_target,
        "trust_remote_code": trust_remote_code,
    }
    if any(files):
        idle = [name for name in settings if settings[name] != DEFAULTS[name]]
        idle += ["concept"] * (concept is not None) + ["pairs"] * (pairs is not None)
        if idle:
            raise ValueError(
                f"{', '.join('--' + name.replace('_', '-') for name in idle)}: of no use "
                "where a finished vector goes through a finished map; leave it out"
            )
        from contrans.cli.map import through_map

        through_map(source, target, out, files, same_space, force=force, as_json=json_)
        return
    if same_space:
        raise typer.BadParameter(
            "--same-space is for a vector and a map, not for models"
        )
    if (concept is None) == (pairs is None):
        raise typer.BadParameter(
            "name the concept with --concept NAME or --pairs FILE (one of them)"
        )
    if pairs is not None and not pairs.is_file():
        raise FileNotFoundError(
            f"no file {pairs}; --pairs needs a file of prompt pairs"
        )
    run(
        source,
        target,
        out=out,
        concept=str(concept or pairs),
        **settings,
        force=force,
        as_json=json_,
    )


DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in signature(transplant).parameters.items()
    if name not in ("source", "target", "out", "pairs", "same_space", "force", "json_")
}
"""What the pipeline is told where nothing else was said."""
_FILES = ("concept", "corpus", "perplexity", "eval_file")
_MODELS = ("source", "target", "map_source", "aligned_target")


def _finished(out: Path, command: dict[str, Any]) -> dict[str, Any] | None:
    """Results of exactly this command, found without importing torch.

    Files and models of the user may have changed since: then, the pipeline compares them.
    """
    if any(command[name] and Path(command[name]).exists() for name in _FILES + _MODELS):
        return None
    if os.environ.get("CONTRANS_ZOO"):
        return None
    if is_reference(str(command["concept"])):
        return None
    from contrans.core.results import read_results

    try:
        found = read_results(out / "results.json")
    except (OSError, ValueError):  # of an earlier run; the pipeline says what to do
        return None
    kept = ("contrans.json", "vector.safetensors")
    if not all((out / name).is_file() for name in kept):
        return None
    same = found.command == command and found.contrans == __version__
    return found.as_dict() if same else None


def run(
    source: str,
    target: str,
    *,
    out: Path,
    as_json: bool,
    force: bool,
    **settings: Any,
) -> dict[str, Any]:
    """Run the pipeline with bars and print its results.

    Args:
        source: see `transplant`.
        target: see `transplant`.
        out: folder of results.
        as_json: print the results as JSON instead of the table.
        force: run even where the results are already there.
        **settings: what differs from `DEFAULTS`.
    """
    from contrans.library.concepts import pin_concept

    settings = DEFAULTS | settings
    settings["concept"] = pin_concept(settings["concept"])
    results = None
    if not force:
        results = _finished(out, {"source": source, "target": target, **settings})
    if results is None:
        results, worked = _run(source, target, out, force=force, **settings)
    else:
        worked = False
    if not worked:
        console.note(
            f"already done: {out} holds the results of exactly this command "
            "(--force makes them again)"
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        from contrans.report.transplant import summary

        typer.echo(f"\n{summary(results)}\n\nreport: {out / 'report.html'}")
    return results


def _run(
    source: str, target: str, out: Path, **settings: Any
) -> tuple[dict[str, Any], bool]:
    """The results, and whether there was anything to do."""
    with console.Bars() as bars:
        console.quiet()
        from contrans.experiments.transplant.run import run_transplant

        results = run_transplant(
            source,
            target,
            out=out,
            progress=bars,
            notify=lambda message: bars.note(f"warning: {message}"),
            **settings,
        )
    return results, bars.used
