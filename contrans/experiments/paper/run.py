"""Run recipes, write their folders, and sum their claims up on one page."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from contrans.core.files import atomic, digest, write_text
from contrans.core.version import __version__
from contrans.experiments.cached import Stages
from contrans.experiments.paper import RECIPES
from contrans.experiments.paper.plan import Plan
from contrans.experiments.paper.workbench import Lab
from contrans.report import markdown
from contrans.report.blocks import Block, Bullets, Heading, Mark, Page, Paragraph, Table
from contrans.report.plots import save_png
from contrans.report.sheet import Sheet, as_json, claims_of, claims_table, files_of

INDEX = "README.md"


@dataclass(frozen=True, slots=True)
class Done:
    """A recipe that ran, or the reason why it did not."""

    name: str
    results: dict[str, Any]
    """As in its JSON file; empty when it did not run."""
    seconds: float = 0.0
    resumed: bool = False
    why_not: str = ""


def run_recipes(
    names: Sequence[str],
    plan: Plan,
    stages: Stages,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    resume: bool = False,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Done]:
    """Run recipes on the models of a plan.

    Args:
        names: keys of `RECIPES`.
        plan: models, data and choices.
        stages: the cached stages; their cache makes every recipe resumable.
        out: folder for Markdown, CSV, LaTeX, JSON and figures; None writes nothing.
        limit: at most so many items per task; a trial, and marked as one.
        resume: take a recipe's results from `out` where they are of this very plan.
        force: replace what another run left in `out`.
        tell: called with a line as each recipe ends.

    Raises:
        FileExistsError: when `out` holds results and neither resume nor force is set.
        FileNotFoundError: when a model cannot be had; the message names it.
        ValueError: when a plan lacks what the only recipe asked for reads.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        _check(folder, names, resume=resume, force=force)
    if len(names) == 1 and (why := _why_not(names[0], plan)):
        raise ValueError(why)
    lab = Lab(plan, stages, limit=limit)
    key = digest([__version__, plan.model_dump(mode="json"), limit])
    done = []
    for name in names:
        done.append(_one(name, lab, folder, key, resume=resume))
        tell(_line(done[-1]))
    if folder is not None:
        write_text(
            folder / INDEX, markdown.render(index(done, plan, limit)), force=True
        )
    return done


def _why_not(name: str, plan: Plan) -> str:
    missing = plan.missing(RECIPES[name].needs)
    if not missing:
        return ""
    return (
        f"{name} reads {' and '.join(missing)}, which the plan {plan.title!r} leaves "
        "out; add the section (docs/recipes.md shows how), or run another recipe"
    )


def _one(name: str, lab: Lab, folder: Path | None, key: str, *, resume: bool) -> Done:
    if why := _why_not(name, lab.plan):
        return Done(name, {}, why_not=why)
    if resume and folder is not None:
        known = _known(folder / f"{name}.json", key)
        if known is not None:
            return Done(name, known, known.get("seconds", 0.0), resumed=True)
    start = time.perf_counter()
    lab.lm(lab.plan.first_model(RECIPES[name].needs))  # a missing model is told first
    module, _, function = RECIPES[name].where.partition(":")
    sheet: Sheet = getattr(import_module(module), function)(lab)
    sheet = _labelled(sheet, name, lab)
    seconds = round(time.perf_counter() - start, 1)
    results = as_json(sheet) | {"recipe": name, "plan": key, "seconds": seconds}
    if folder is not None:
        if sheet.draw is not None:
            with atomic(folder / f"{name}.png", force=True) as temporary:
                save_png(sheet.draw(), temporary, dpi=130)
        for file, text in files_of(sheet, name).items():
            if file == f"{name}.json":  # last: it says that the recipe is complete
                text = json.dumps(results, indent=1) + "\n"
            write_text(folder / file, text, force=True)
    return Done(name, results, seconds)


def _labelled(sheet: Sheet, name: str, lab: Lab) -> Sheet:
    notes = [*sheet.notes, *lab.plan.notes]
    if lab.limit is not None:
        notes.insert(0, f"limited to {lab.limit} items: a trial, not a result")
    title = f"{RECIPES[name].paper}: {sheet.title} ({lab.plan.title})"
    return Sheet(
        title, sheet.about, sheet.tables, sheet.claims, tuple(notes), sheet.draw
    )


def _known(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("plan") == key else None


def _check(folder: Path, names: Sequence[str], *, resume: bool, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; -o needs the name of a folder")
    there = [name for name in names if (folder / f"{name}.json").exists()]
    if there and not resume and not force:
        raise FileExistsError(
            f"{folder} already holds {', '.join(there)}; choose another folder, pass "
            "--resume to keep what is of this very plan, or --force to replace it"
        )


def _line(done: Done) -> str:
    if done.why_not:
        return f"{done.name}: not run: {done.why_not}"
    if done.resumed:
        return f"{done.name}: taken from the folder; {_count(done)}"
    return f"{done.name}: {done.seconds:.0f} s; {_count(done)}"


def _count(done: Done) -> str:
    verdicts = [claim["verdict"] for claim in done.results["claims"]]
    told = [
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in ("supported", "not supported", "undecided")
        if verdict in verdicts
    ]
    return "claims: " + ", ".join(told) if told else "no claims"


def index(done: Sequence[Done], plan: Plan, limit: int | None) -> Page:
    """The page of a folder: every claim of every recipe.

    Args:
        done: the recipes that ran.
        plan: the plan of the run.
        limit: items of a trial; None is the whole.
    """
    ran = [entry for entry in done if not entry.why_not]
    notes = [f"Limited to {limit} items: a trial, not a result."] if limit else []
    rows = [
        (
            Mark(RECIPES[entry.name].paper, link=f"{entry.name}.md"),
            RECIPES[entry.name].title,
            round(entry.seconds),
        )
        for entry in ran
    ]
    rows.append((Mark("all"), "", round(sum(entry.seconds for entry in ran))))
    claims = [(e.name, claim) for e in ran for claim in claims_of(e.results)]
    names = [Mark(name, link=f"{name}.md") for name, _ in claims]
    blocks: list[Block] = [
        Bullets((*notes, *plan.notes)),
        Paragraph(
            "Every table and figure of the paper (arXiv 2405.13578) on these models. A "
            "claim is supported when the 95% interval of its estimate lies inside the "
            "stated region, not supported when it lies outside, undecided otherwise. "
            '"ours" marks checks that the paper does not make.'
        ),
        Table("", "What ran.", ("recipe", "what", "seconds"), tuple(rows)),
        Heading("Claims"),
        claims_table([claim for _, claim in claims], names=names),
    ]
    skipped = tuple(f"{e.name}: {e.why_not}" for e in done if e.why_not)
    if skipped:
        blocks += [Heading("Not run"), Bullets(skipped)]
    return Page(f"Recipes: {plan.title}", "", tuple(blocks))
