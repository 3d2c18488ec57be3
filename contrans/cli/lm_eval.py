"""`contrans lm-eval`: tasks of lm-evaluation-harness, steered."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.core.files import check_file


def lm_eval(
    model: options.Model,
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task", metavar="NAME", help="A task of the harness. Repeatable."
        ),
    ],
    steer: options.Steers = None,
    strength: options.Strengths = None,
    unit: options.Unit = "raw",
    layers: options.SteerLayers = None,
    positions: options.Positions = "all",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also without the vectors.")
    ] = False,
    include_path: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with YAML tasks of your own."),
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(metavar="N", help="Examples before each question.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many questions a task.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Prompts generated from at once.")
    ] = 16,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Ask as in a chat.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Also write the results."),
    ] = None,
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
    r"""Run tasks of lm-evaluation-harness on a model, with vectors added.

    The numbers are those of the harness's own model, and its log-likelihoods need less
    work, since what prompts have in common runs once. Several --steer are added
    together. Needs: pip install "contrans[lm-eval]".

    Examples:
      contrans lm-eval MODEL --task truthfulqa_mc1 --steer honesty-13b --compare
      contrans lm-eval zoo/large --task my_task --include-path tasks/ --limit 100
      contrans lm-eval MODEL --task arc_easy --steer a.safetensors --strength 2 \
          --layers 24 -o arc.json

    Next: contrans export VECTOR --lm-eval FILE, for machines without contrans.
    """
    if compare and not steer:
        raise typer.BadParameter("--compare needs --steer FILE to compare with")
    if out is not None:
        check_file(out, force=force)
    console.quiet()
    harness = _harness()
    from contrans.cli.steering import load_vectors, steer as control
    from contrans.control.steer import compose
    from contrans.core.files import write_text
    from contrans.evaluation.lm_eval import HarnessLM
    from contrans.models.loading import load_model

    vectors = load_vectors(steer or [], strength, unit)
    parts = [
        control(v, unit=unit, layers=layers, positions=positions, any_model=any_model)
        for v in vectors
    ]
    lm = load_model(
        model,
        dtype=dtype,
        device_map=device_map,
        quantize=quantize,  # type: ignore[arg-type]
        revision=revision,
        blocks=blocks,
        trust_remote_code=trust_remote_code,
    )
    manager = harness.tasks.TaskManager(
        include_path=None if include_path is None else str(include_path)
    )
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        raise ValueError(
            f"lm-evaluation-harness knows no task {unknown[0]!r}; `lm_eval ls tasks` "
            "lists them, and --include-path DIR adds your own"
        )
    steered = " + ".join(f"{v.label} x {v.strength:g}" for v in vectors) or "no edit"
    rows: dict[str, Any] = {"no edit": compose()} if compare else {}
    rows[steered] = compose(*parts)
    found: dict[str, Any] = {}
    for label, edit in rows.items():
        results = harness.simple_evaluate(
            model=HarnessLM(lm, edit, batch_size=batch_size),
            tasks=tasks,
            task_manager=manager,
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=chat_template,
            log_samples=False,
        )
        found[label] = results
        if not json_:
            typer.echo(f"{model}, {label}\n{harness.utils.make_table(results)}")
    text = json.dumps(found, indent=2, default=harness.utils.handle_non_serializable)
    if out is not None:
        write_text(out, text + "\n", force=force)
    if json_:
        typer.echo(text)


def _harness() -> Any:
    """The package, quiet."""
    import logging

    try:
        import lm_eval as harness
        import lm_eval.tasks
        import lm_eval.utils
    except ImportError as error:
        raise ImportError(
            f"lm-evaluation-harness is not installed ({error}); install it: "
            'pip install "contrans[lm-eval]"'
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return harness
