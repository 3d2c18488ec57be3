"""`contrans ls`: what there is to choose from."""

import json
from typing import Annotated

import typer

from contrans.cli import console, options

KINDS = ("concepts", "models", "methods", "maps", "tasks")


def listing(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS), help="What to list.")],
    json_: options.Json = False,
) -> None:
    """List concepts, embedded models, concept methods, map methods or tasks.

    Examples:
      contrans ls concepts
      contrans ls models
      contrans ls maps --json
    """
    console.check_choice("kind", kind, KINDS)
    header, rows = {
        "concepts": _concepts,
        "models": _models,
        "methods": _methods,
        "maps": _maps,
        "tasks": _tasks,
    }[kind]()
    if json_:
        found = [dict(zip(header, row, strict=True)) for row in rows]
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(console.table(header, rows))


Listed = tuple[list[str], list[list[str]]]


def _concepts() -> Listed:
    from contrans.data import catalogue_of_packs

    rows = [
        [name, info.title, info.description]
        for name, info in catalogue_of_packs().items()
    ]
    return ["name", "title", "what it is"], rows


def _models() -> Listed:
    from contrans.models import zoo

    rows = []
    for name in zoo.names():
        config = json.loads((zoo.path(name) / "config.json").read_text("utf-8"))
        rows.append(
            [name, str(config["num_hidden_layers"]), str(config["hidden_size"])]
        )
    if not rows:
        console.note("no embedded models are installed; make them: contrans zoo train")
    return ["name", "layers", "width"], rows


def _methods() -> Listed:
    rows = [
        ["mean", "the paper: mean of positive minus mean of negative states"],
        ["pca", "first principal direction of the paired differences"],
        ["logistic", "normal of a regularised logistic regression"],
        ["whitened", "mean difference whitened by the covariance in the classes (LDA)"],
    ]
    return ["name", "what it computes"], rows


def _maps() -> Listed:
    rows = [
        ["ridge", "affine ridge, strength by closed-form leave-one-out (default)"],
        ["contrans", "the paper, exactly: least squares of minimum norm, no intercept"],
        ["procrustes", "scaled rotation: keeps angles between directions"],
        ["low_rank", "regression on the strongest directions of the source"],
    ]
    return ["name", "what it computes"], rows


_TASKS = {
    "emotion": "which emotion the model names for a scenario",
    "choices": "which of several answers the model prefers",
    "continuations": "how often greedy continuations carry a marked word",
    "likelihood": "how often the model prefers the positive text of a held-out pair",
}


NAMED = {
    "truthfulqa_mc1": "TruthfulQA: is the true answer the likeliest?",
    "truthfulqa_mc2": "TruthfulQA: the share of probability on true answers",
    "toxigen": "ToxiGen: share of continuations that a classifier calls toxic",
    "perplexity": "surprise at plain text: OpenWebText, WikiText-2, any file",
    "emotions": "the published emotion prompts of ConTrans (eval_*.json)",
}
"""Tasks on published data; `contrans.evaluation.registry` makes them."""


def _tasks() -> Listed:
    from contrans.data import catalogue_of_packs

    rows = [
        [f"--concept {name}", info.kind, _TASKS[info.kind]]
        for name, info in catalogue_of_packs().items()
    ]
    named = [[f"--task {name} --data ...", name, what] for name, what in NAMED.items()]
    return ["how to ask for it", "task", "what is measured"], [*named, *rows]
