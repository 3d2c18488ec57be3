"""`contrans eval`: vectors measured on held-out prompts."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import options, screen


def evaluate(
    model: options.Model,
    concept: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|FILE", help="What to measure: a concept's task. Repeatable."
        ),
    ],
    steer: options.Steers = None,
    strength: options.Strengths = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    positions: options.Positions = "all",
    split: Annotated[
        str,
        typer.Option(metavar="test|validate", help="Choose on validate, report test."),
    ] = "test",
    perplexity: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|builtin", help="Also the perplexity on these texts."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many prompts.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            help="A random vector of the same length beside each vector.",
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Also write the results."),
    ] = None,
    seed: options.Seed = 0,
    any_model: options.AnyModel = False,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    revision: options.Revision = None,
    blocks: options.Blocks = None,
    trust_remote_code: options.TrustRemoteCode = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Measure a model with and without vectors, on prompts no vector was made from.

    Each --steer is a row of its own, beside no edit and a random vector of the same
    length; intervals are 95% bootstrap intervals.

    Examples:
      contrans eval zoo/large --concept anger --steer contrans-demo
      contrans eval MODEL --concept honesty --concept fairness --steer DIR -o r.json
      contrans eval MODEL --concept anger --steer a.safetensors --strength 2 \
          --layers 24 --perplexity builtin --json

    Next: contrans show r.json; other strengths with --split validate.
    """
    screen.check_choice("split", split, ("test", "validate"))
    if out is not None:
        screen.check_new(out, force=force)
    screen.quiet()
    from contrans.cli.steering import load_vectors, steer as control
    from contrans.cli.tables import eval_table
    from contrans.control import NoControl, random_like
    from contrans.data import load_concept, load_corpus
    from contrans.evaluation import evaluate as measure, make_task
    from contrans.models import load_model
    from contrans.store import write_text

    vectors = load_vectors(steer or [], strength, unit)
    tasks = [
        make_task(load_concept(name, seed=seed), split, limit=limit)  # type: ignore[arg-type]
        for name in concept
    ]
    texts = None
    if perplexity is not None:
        corpus = load_corpus(None if perplexity == "builtin" else perplexity)
        texts = list(corpus.texts[:_PERPLEXITY_TEXTS])
    lm = load_model(
        model,
        dtype=dtype,
        device_map=device_map,
        quantize=quantize,  # type: ignore[arg-type]
        revision=revision,
        blocks=blocks,
        trust_remote_code=trust_remote_code,
    )
    rows: dict[str, Any] = {"no edit": NoControl()}
    options_ = {
        "unit": unit,
        "layers": layers,
        "positions": positions,
        "any_model": any_model,
    }
    for vector in vectors:
        label = f"{vector.label} x {vector.strength:g}"
        rows[label] = control(vector, **options_)
        if controls:
            rows[f"random like {vector.label}"] = control(
                vector, value=random_like(vector.value, seed=seed), **options_
            )
    with screen.Bars() as bars:
        results = measure(
            lm,
            tasks,
            rows,
            perplexity_texts=texts,
            baseline="no edit",
            seed=seed,
            progress=bars.stage("evaluate"),
        )
    found = results.to_json()
    if out is not None:
        write_text(out, found + "\n", force=force)
    typer.echo(found if json_ else eval_table(json.loads(found)))


_PERPLEXITY_TEXTS = 200
"""Texts that perplexity is measured on at most."""
