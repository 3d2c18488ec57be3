"""`contrans eval`: vectors measured on held-out prompts."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def evaluate(
    model: options.Model,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE", help="What to measure: a concept's task. Repeatable."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What to measure: a published task, with its --data. Repeatable; see "
            "contrans ls tasks.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH|ID",
            help="File, folder or hub id (OWNER/NAME:CONFIG:SPLIT) of each --task.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the tasks that know it, such as form=inst. Repeatable.",
        ),
    ] = None,
    steer: options.Steers = None,
    strength: options.Strengths = None,
    kl: options.KLs = None,
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
    expert: options.Expert = None,
    anti_expert: options.AntiExpert = None,
    instruction: options.Instruction = None,
    aligned: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A row with this model in MODEL's place."),
    ] = None,
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
    length; intervals are at 95%. The baselines of the paper are rows
    too: proxy-tuning (--expert, --anti-expert), an --instruction, an --aligned model.
    Measurements are cached; after an interruption the same command goes on.

    Examples:
      contrans eval zoo/large --concept anger --steer contrans-demo
      contrans eval MODEL --concept honesty --concept fairness --steer DIR -o r.json
      contrans eval MODEL --concept anger --steer a.safetensors --strength 2 \
          --layers 24 --perplexity builtin --json
      contrans eval MODEL --task truthfulqa_mc1 --data mc_task.json --steer DIR \
          --expert SMALL-CHAT --anti-expert SMALL --instruction "Be honest."
      contrans eval MODEL --task toxigen --data toxigen/prompts --limit 200 \
          --set classifier=tomh/toxigen_roberta

    Next: contrans show r.json; other strengths with --split validate.
    """
    console.check_choice("split", split, ("test", "validate"))
    if not concept and not task:
        raise typer.BadParameter("say what to measure: --concept NAME or --task NAME")
    if len(task or []) != len(data or []):
        raise typer.BadParameter(
            f"{len(task or [])} --task and {len(data or [])} --data; give each task its "
            "data, in the same order"
        )
    if out is not None:
        check_file(out, force=force)
    console.quiet()
    from contrans.cli.baselines import baselines, task_settings
    from contrans.cli.steering import dosed, load_vectors, steer as control
    from contrans.control.steer import random_like
    from contrans.core.cache import Cache, cache_folder
    from contrans.core.files import write_text
    from contrans.data import load_corpus
    from contrans.evaluation import evaluate as measure, make_task, named_task
    from contrans.library.concepts import load_concept
    from contrans.models.edits import NoControl
    from contrans.models.loading import load_model
    from contrans.report.scores import shown

    vectors = load_vectors(steer or [], strength, unit, kl)
    tasks = [
        make_task(load_concept(name, seed=seed), split, limit=limit)  # type: ignore[arg-type]
        for name in concept or []
    ]
    for name, given in zip(
        task or [], task_settings(task or [], settings), strict=True
    ):
        source = (data or [])[len(tasks) - len(concept or [])]
        tasks.append(named_task(name, source, limit=limit, seed=seed, settings=given))
    texts = None
    if perplexity is not None:
        corpus = load_corpus(None if perplexity == "builtin" else perplexity)
        texts = list(corpus.texts[:_PERPLEXITY_TEXTS])
    loading = {
        "dtype": dtype,
        "device_map": device_map,
        "quantize": quantize,
        "trust_remote_code": trust_remote_code,
    }
    lm = load_model(model, revision=revision, blocks=blocks, **loading)  # type: ignore[arg-type]
    rows: dict[str, Any] = {"no edit": NoControl()}
    options_: dict[str, Any] = {
        "layers": layers,
        "positions": positions,
        "any_model": any_model,
    }
    vectors = dosed(lm, vectors, **options_)
    options_["unit"] = unit
    for vector in vectors:
        label = f"{vector.label} x {vector.strength:g}"
        if label in rows:
            raise ValueError(
                f"{label} is given twice; each --steer is a row of its own"
            )
        rows[label] = control(vector, **options_)
        if controls:
            rows[f"random like {label}"] = control(
                vector, value=random_like(vector.value, seed=seed), **options_
            )
    rows |= baselines(
        expert=expert,
        anti_expert=anti_expert,
        instruction=instruction,
        aligned=aligned,
        loading=loading,
    )
    with console.Bars() as bars:
        results = measure(
            lm,
            tasks,
            rows,
            perplexity_texts=texts,
            baseline="no edit",
            seed=seed,
            cache=Cache(cache_folder()),
            progress=bars.stage("evaluate"),
        )
    found = results.to_json()
    if out is not None:
        write_text(out, found + "\n", force=force)
    typer.echo(found if json_ else shown(json.loads(found)))


_PERPLEXITY_TEXTS = 200
"""Texts that perplexity is measured on at most."""
