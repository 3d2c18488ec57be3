"""`contrans compare`: an A/B test of two vectors, or of two models."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.files import check_file

_FORMATS = (".md", ".html", ".json")


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="With --model: a vector file, a folder of transplant, NAME@VERSION of "
            "the library, or none. Without it: a model.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The same for the other side.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Hub id, folder or zoo/NAME."),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A concept's task, such as anger. Repeatable.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A published task, as in contrans eval. Repeatable."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="File, folder or hub id of each --task."),
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|HUB",
            help="Multiple-choice questions (ARC, MMLU, your own). Repeatable.",
        ),
    ] = None,
    perplexity: Annotated[
        str, typer.Option(metavar="FILE|builtin|none", help="Neutral texts.")
    ] = "builtin",
    strength: Annotated[
        list[float] | None,
        typer.Option(
            metavar="VALUE",
            help="One for both vectors, or one for each. Without it: the strength "
            "written into the file, else 1.",
        ),
    ] = None,
    kl: options.KLs = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    positions: options.Positions = "all",
    limit: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="At most so many items.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="test|validate", help="Of the concepts' items.")
    ] = "test",
    generations: Annotated[
        int, typer.Option(min=0, metavar="N", help="Prompts continued side by side.")
    ] = 0,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A prompt for that; without any, those of the tasks."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Write .md, .html or .json. Repeatable."
        ),
    ] = None,
    seed: options.Seed = 0,
    any_model: options.AnyModel = False,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    quantize: options.Quantize = None,
    trust_remote_code: options.TrustRemoteCode = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Is B better than A? The same prompts under both, and a verdict with its size.

    Says "better", "worse" or "no difference at n prompts" by paired intervals, and which
    difference so many prompts can show. Several tasks are corrected together (Holm). The
    same command goes on after an interruption.

    Examples:
      contrans compare none contrans-demo --model zoo/large --concept anger
      contrans compare old.safetensors new.safetensors --model MODEL \
          --concept honesty --questions arc.jsonl --generations 5 -o ab.html
      contrans compare anger@1 anger@2 --model MODEL --concept anger --strength 2
      contrans compare zoo/large zoo/large-aligned --concept zoo-honesty

    Next: contrans check, to keep what was won.
    """
    names = list(concept or [])
    if not names and not questions and not task:
        raise typer.BadParameter("give --concept NAME, --questions FILE or --task NAME")
    if len(task or []) != len(data or []):
        raise typer.BadParameter("give each --task its --data, in the same order")
    for path in out or []:
        if path.suffix not in _FORMATS:
            raise typer.BadParameter(f"{path}: -o writes {', '.join(_FORMATS)}")
        check_file(path, force=force)
    console.check_choice("split", split, ("test", "validate"))
    console.check_choice("unit", unit, ("raw", "relative"))
    console.check_choice("positions", positions, ("all", "prompt", "generated"))
    if model is None and (strength or kl or layers):
        raise typer.BadParameter(
            "--strength, --kl and --layers need --model and vectors"
        )
    if strength and kl:
        raise typer.BadParameter("--strength and --kl both say how strong; give one")
    given_by, strengths = ("kl", kl) if kl else ("strength", list(strength or []))
    if len(strengths) > 2:
        raise ValueError(f"{len(strengths)} strengths for two sides; give one or two")
    from contrans.experiments.checks.suite import TaskSpec

    shared: dict[str, Any] = {"limit": limit}
    given = [(name, TaskSpec(concept=name, split=split, **shared)) for name in names]
    given += [(q, TaskSpec(questions=q, **shared)) for q in questions or []]
    given += [
        (name, TaskSpec(task=name, data=path, **shared))
        for name, path in zip(task or [], data or [], strict=True)
    ]
    specs = _titled(given)
    if perplexity != "none":
        title = "perplexity" if "perplexity" not in specs else "neutral perplexity"
        specs[title] = TaskSpec(perplexity=perplexity, **shared)
    console.quiet()
    from contrans.core.files import finite, write_text
    from contrans.experiments.ab import compare_ab
    from contrans.experiments.checks.resolve import get_task
    from contrans.report.ab import shown, to_html, to_markdown

    how = {
        "unit": unit,
        "layers": layers,
        "positions": positions,
        "any_model": any_model,
    }
    loading = {"dtype": dtype, "device_map": device_map, "quantize": quantize}
    arms = [
        _arm(
            name,
            model,
            {given_by: strengths[i % len(strengths)]} if strengths else {},
            how,
        )
        for i, name in enumerate((a, b))
    ]
    sides = [_side(arm, loading) for arm in _told_apart(arms)]
    tasks = [get_task(name, spec, None, seed=seed) for name, spec in specs.items()]
    with console.Bars() as bars:
        found = compare_ab(
            sides[0],
            sides[1],
            tasks,
            generations=generations or (len(prompt) if prompt else 0),
            prompts=prompt or (),
            seed=seed,
            trust_remote_code=trust_remote_code,
            progress=bars,
        )
    as_json = json.dumps(finite(found.as_dict()), indent=2, ensure_ascii=False)
    for path in out or []:
        text = {
            ".md": lambda: to_markdown(found),
            ".html": lambda: to_html(found),
            ".json": lambda: as_json + "\n",
        }[path.suffix]()
        write_text(path, text, force=force)
    typer.echo(as_json if json_ else shown(found))


def _titled(given: list[tuple[str, Any]]) -> dict[str, Any]:
    """Tasks by short names; by what the user wrote, where those are the same.

    Raises:
        ValueError: when one task is given twice.
    """
    count = Counter(_title(name) for name, _ in given)
    found: dict[str, Any] = {}
    for name, spec in given:
        title = _title(name) if count[_title(name)] == 1 else name
        if spec.task is not None and count[title] > 1:
            title = f"{name} ({spec.data})"
        if title in found:
            raise ValueError(f"{title} is given twice; give each task once")
        found[title] = spec
    return found


def _title(name: str) -> str:
    """A task's name: of a file, its own name without folder and ending."""
    return Path(name).stem if Path(name).suffix else name


def _arm(
    name: str, model: str | None, strength: dict[str, float], how: dict[str, Any]
) -> dict[str, Any]:
    """One side as plain values; its strength as one or as a dose, where one is given."""
    if model is None:
        return {"label": name, "model": name, "vector": None}
    if name == "none":
        return {"label": "no edit", "model": model, "vector": None}
    if not strength and how["unit"] == "relative":
        raise ValueError("--unit relative needs --strength, such as 0.3")
    plain = Path(name)
    label = plain.stem if plain.suffix == ".safetensors" else plain.name or name
    vector = {"model": model, "file": name, **strength, **how}
    return {"label": label, "model": model, "vector": vector}


def _told_apart(arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two labels that differ: with the strength, or else A and B."""
    for arm in arms:
        known = arm["vector"] or {}
        if "strength" in known:
            arm["label"] += f" x {known['strength']:g}"
        elif "kl" in known:
            arm["label"] += f" at {known['kl']:g} nats"
    if arms[0]["label"] == arms[1]["label"]:
        for arm, letter in zip(arms, "AB", strict=True):
            arm["label"] = f"{letter} ({arm['label']})"
    return arms


def _side(arm: dict[str, Any], loading: dict[str, Any]) -> Any:
    from contrans.experiments.ab import Arm
    from contrans.experiments.checks.suite import ModelSpec, VectorSpec

    vector = None if arm["vector"] is None else VectorSpec(**arm["vector"])
    return Arm(arm["label"], ModelSpec(name=arm["model"], **loading), vector)
