"""The published data on small models: every protocol, whole, with checks on a sample.

    python -m contrans.experiments.real_data.run --data FOLDER -o docs/results

All 817 questions of TruthfulQA, 200 prompts of ToxiGen, the six published emotion files
and WikiText-2. On the embedded zoo the numbers are near chance, and that is expected:
what is tested is that the protocols run whole on the real files, and that their scores
equal independent computations. Every finished part is kept, so an interrupted run goes
on.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from contrans.control.steer import Steer
from contrans.core.cache import Cache, cache_folder, cache_key
from contrans.core.files import write_json, write_text
from contrans.core.version import __version__
from contrans.data import EMOTIONS, read_pairs
from contrans.data.toxigen import read_labelled
from contrans.evaluation import evaluate, named_task
from contrans.evaluation.task import Task
from contrans.experiments.real_data import criteria as checks
from contrans.experiments.real_data.page import page
from contrans.models.collect import collect_pairs
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.vectors.concepts import concept_vector
from contrans.vectors.transplant import paper_layer

MODELS = ("zoo/large", "zoo/large-aligned")
PROMPTS, SAMPLE = 200, 5
"""ToxiGen prompts, and items that are computed a second time."""
FILES = {
    "truthfulqa": "truthfulqa/mc_task.json",
    "toxigen": "toxigen/prompts",
    "labels": "toxigen/annotated_train.csv.gz",
    "emotions": "emotions/contrans",
    "wikitext": "wikitext2/wiki.test.raw",
}
"""Where the published files are, below the folder of data."""


@dataclass(frozen=True, slots=True)
class Part:
    """One task with the controls it is measured under."""

    title: str
    task: Task
    controls: Callable[[LM], dict[str, Control]]
    recounts: tuple[Callable[[LM], checks.Check | None], ...] = ()
    """Computations of a sample by other means; None where one cannot be done."""


def parts(
    data: Path, *, limit: int | None, new_tokens: int, seed: int
) -> Iterator[Part]:
    """The tasks, from the published files.

    Args:
        data: the folder of the published files.
        limit: so many items at most; None takes all.
        new_tokens: of each generation.
        seed: for whatever is drawn.

    Raises:
        FileNotFoundError: naming the file that is missing.
    """
    for name in FILES.values():
        if not (data / name).exists():
            raise FileNotFoundError(
                f"no {data / name}; --data needs the folder that holds "
                f"{', '.join(FILES.values())}"
            )
    where = {name: data / file for name, file in FILES.items()}
    sample = min(limit or SAMPLE, SAMPLE)
    truth: Any = named_task("truthfulqa_mc1", where["truthfulqa"], limit=limit)
    yield Part(
        "TruthfulQA, multiple choice",
        truth,
        _unedited,
        (
            lambda lm: checks.check_truthfulqa(lm, truth, sample),
            lambda lm: checks.check_harness(lm, truth, sample),
        ),
    )
    toxic: Any = named_task(
        "toxigen",
        where["toxigen"],
        limit=limit or PROMPTS,
        seed=seed,
        settings={"labelled": str(where["labels"]), "max_new_tokens": new_tokens},
    )
    texts, labels = read_labelled(where["labels"])
    yield Part(
        "ToxiGen",
        toxic,
        _unedited,
        (lambda lm: checks.check_classifier(lm, toxic, texts, labels, seed),),
    )
    for emotion in EMOTIONS:
        refine = where["emotions"] / f"refine_{emotion}.json"
        task: Any = named_task(
            "emotions",
            where["emotions"] / f"eval_{emotion}.json",
            limit=limit,
            settings={"refine_file": str(refine)},
        )
        yield Part(
            "Published emotion prompts",
            task,
            lambda lm, refine=refine: _own_vector(lm, refine),
            (lambda lm, task=task: checks.check_emotions(lm, task, sample),)
            if emotion == EMOTIONS[0]
            else (),
        )
    plain: Any = named_task("perplexity", where["wikitext"], limit=limit)
    yield Part(
        "WikiText-2",
        plain,
        _unedited,
        (lambda lm: checks.check_perplexity(lm, plain, sample),),
    )


def _unedited(_lm: LM) -> dict[str, Control]:
    return {"no edit": NoControl()}


def _own_vector(lm: LM, refine: Path) -> dict[str, Control]:
    """The model's own vector from the published pairs, at the published depth."""
    pairs = read_pairs(refine)
    layer = paper_layer(lm.layers)
    vector = concept_vector(collect_pairs(lm, pairs, layers=[layer]))
    return {"no edit": NoControl(), "own vector x 1": Steer(vector, strength=1.0)}


def run(
    data: Path,
    models: Sequence[str] = MODELS,
    *,
    limit: int | None = None,
    new_tokens: int = 40,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure every part on every model; parts that are known are not run again.

    Args:
        data: the folder that holds the published files, see `FILES`.
        models: names of models.
        limit: so many items of each task: a quick look.
        new_tokens: tokens of a ToxiGen continuation (the protocol: 512; the zoo writes
            lines far shorter).
        seed: of drawn prompts, the classifier and the intervals.
        cache: folder of finished parts.
        progress: called with a line for each part.
    """
    kept = Cache(cache or cache_folder())
    found: list[dict[str, Any]] = []
    todo = list(parts(data, limit=limit, new_tokens=new_tokens, seed=seed))
    for name in models:
        lm = load_model(name)
        for part in todo:
            key = cache_key("published data", lm=lm, task=part.task, seed=seed)
            entry = kept.json(
                key, lambda part=part, lm=lm: _measure(lm, part, seed, kept)
            )
            found.append({"model": name, "title": part.title, **entry})
            if progress is not None:
                progress(f"{name}: {part.task.name} ({entry['seconds']:.0f} s)")
    return {
        "contrans": __version__,
        "models": list(models),
        "limit": limit,
        "seed": seed,
        "new_tokens": new_tokens,
        "parts": found,
    }


def _measure(lm: LM, part: Part, seed: int, cache: Cache) -> dict[str, Any]:
    start = perf_counter()
    results = evaluate(lm, part.task, part.controls(lm), seed=seed, cache=cache)
    made = [check(lm) for check in part.recounts]
    return {
        **json.loads(results.to_json()),
        "checks": [asdict(check) for check in made if check is not None],
        "seconds": round(perf_counter() - start, 1),
    }


def main(
    data: Annotated[Path, typer.Option(help="Folder of the published files.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for real-data.md and .json.")
    ] = Path("docs/results"),
    models: Annotated[str, typer.Option(help="Models, by comma.")] = ",".join(MODELS),
    limit: Annotated[int | None, typer.Option(help="So many items of each.")] = None,
    new_tokens: Annotated[int, typer.Option(help="Of a continuation.")] = 40,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace results.")] = False,
) -> None:
    """Run the published protocols on small models and write what came out."""
    results = run(
        data,
        models.split(","),
        limit=limit,
        new_tokens=new_tokens,
        seed=seed,
        progress=lambda line: typer.echo(line, err=True),
    )
    write_json(out / "real-data.json", results, force=force)
    write_text(out / "real-data.md", page(results), force=force)
    typer.echo(page(results))


if __name__ == "__main__":
    typer.run(main)
