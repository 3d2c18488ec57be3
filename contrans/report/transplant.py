"""The page of a transplant, from its results: what happened, then how, then the limits.

Anything that is missing, None or NaN in the results is shown as a dash.
"""

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from contrans.report import html, markdown, terminal
from contrans.report.blocks import (
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Figure,
    Heading,
    Mark,
    Page,
    Paragraph,
    Sides,
    Table,
    Tone,
)
from contrans.report.format import (
    MISSING,
    clean,
    count,
    entries,
    excerpt,
    fixed,
    interval,
    number,
    one_line,
    pick,
    plus_minus,
    share,
    times,
    whole,
)
from contrans.report.search import best_tried

Results = Mapping[str, Any]
GENERATIONS = 12
"""Generations shown; `results.json` has them all."""
IN_SAMPLE = (
    "These numbers are in-sample. The published protocol tests on the very scenarios "
    "that the vector was refined on, so they flatter the method and say nothing about "
    "new prompts. Use them only to compare with the publication; for evidence, run "
    "again with --protocol heldout."
)
TONES: dict[str, Tone] = {
    "Transplanted": "good",
    "Undecided": "unsure",
    "No effect": "bad",
    "Not beyond": "bad",
    "No-go": "bad",
}
"""Colour of the verdict, by how it begins."""
ROWS = {
    "no edit": "the target as it is",
    "ridge": "the concept of the source through a ridge map, added to the target",
    "ConTrans": "the same through the map of the paper: least squares of minimum norm",
    "Procrustes": "the same through a rotation",
    "low rank": "the same through a map of low rank",
    "Self-Align": "the vector of the aligned model of the target's own shape",
    "target's own vector": "a vector refined in the target itself",
    "random vector, equal norm": "directions without meaning, as long as the vector",
    "map on shuffled pairs, equal norm": "the concept through a map fitted on texts that "
    "were paired wrongly, brought to the same length",
    "Align-Training": "the aligned model itself in place of the target",
    "Inst-Align": "no edit; the prompt asks for the concept",
    "EFT / proxy-tuning": "no edit; the logits are moved by what tuning did to the source",
}
"""What the rows of the effect table are."""
FACTS = {
    "span": "share of the concept that the corpus covers; below 0.5 most of it is lost",
    "spread": "how much corpus texts differ along the concept; the pairs have 1, below "
    "0.1 maps learn nothing about it",
    "cosine_own": "agreement with the target's own vector; below 0.4 expect little effect",
    "auroc": "how well the mapped vector tells the target's own held-out pairs apart; 0.5 "
    "is chance",
    "r2_pairs": "how well mapped pair differences predict the target's, on held-out pairs",
    "length_ratio": "length of the mapped vector over that of the target's own",
}
"""What each figure of the diagnosis says."""


def to_html(results: Results) -> str:
    """The whole report with figures, as the text of one self-contained file.

    Args:
        results: what `run_transplant` returns, or `results.json`. Anything may be
            missing, None or NaN; it is shown as a dash.
    """
    return html.render(page(results))


def to_markdown(results: Results) -> str:
    """The whole report as GitHub-flavoured Markdown, without figures.

    Args:
        results: as for `to_html`.
    """
    return markdown.render(page(results))


def page(results: Results) -> Page:
    """The report as blocks; sections that have nothing to say are left out."""
    sections: dict[str, list[Block]] = {
        "In short": _short_answer(results),
        "Effect": _effect(results),
        "What was done": _done(results),
        "Compatibility": _compatibility(results),
        "Strength": _strength(results),
        "Layers": _layers(results),
        "Generations": _generations(results),
        "Limits and notes": _limits(results),
    }
    blocks = [
        block
        for heading, below in sections.items()
        if below
        for block in (Heading(heading), *below)
    ]
    version = one_line(pick(results, "contrans"))
    return Page(_title(results), f"Report of contrans {version}", tuple(blocks))


def _title(results: Results) -> str:
    concept = pick(results, "concept", "title") or pick(results, "concept", "name")
    source, target = (pick(results, side, "name") for side in ("source", "target"))
    names = [one_line(name, 80) for name in (concept, source, target)]
    end = " (in-sample)" if is_in_sample(results) else ""
    return f"{names[0]}: {names[1]} \u2192 {names[2]}{end}"


def is_in_sample(results: Results) -> bool:
    """Whether the run used the published protocol, which tests on what it refined on."""
    return pick(results, "task", "protocol") == "paper"


def _short_answer(results: Results) -> list[Block]:
    blocks: list[Block] = []
    messages = tuple(one_line(w) for w in entries(results, "warnings"))
    if messages:
        title = "Warning" if len(messages) == 1 else f"{len(messages)} warnings"
        blocks.append(Callout("warning", title, messages))
    if is_in_sample(results):
        blocks.append(Callout("alarm", "IN-SAMPLE", (IN_SAMPLE,)))
    verdict = one_line(pick(results, "verdict"))
    tones: list[Tone] = [t for how, t in TONES.items() if verdict.startswith(how)]
    tones.append("")
    blocks.append(Callout(tones[0], "Verdict", (verdict,)))
    blocks.append(Paragraph(meaning(results)))
    return [*blocks, *_samples(results)[:1]]


def meaning(results: Results) -> str:
    """What the score is, in one sentence, and which way is better."""
    concept, task = pick(results, "concept"), pick(results, "task")
    answer = one_line(pick(concept, "answer"))
    name = one_line(pick(concept, "title") or pick(concept, "name"))
    said = {
        "emotion": f"how often the target names {answer} for scenes of other emotions",
        "likelihood": f"how often the target finds the text with {name} likelier than "
        "the one without, over held-out pairs",
    }.get(str(pick(concept, "task")), one_line(pick(task, "name")))
    more = {"True": f"more is more {name}", "False": "lower is better"}
    way = more.get(str(pick(task, "higher_is_better")), "")
    return f"The score, {one_line(pick(task, 'metric'))}: {said}" + (
        f"; {way}." if way else "."
    )


def measured(results: Results) -> str:
    """What a number of the effect table is: metric, n, chance, split, protocol."""
    task = pick(results, "task")
    better = {"True": "higher is better", "False": "lower is better"}
    parts = [
        f"{one_line(pick(task, 'name'))}: {one_line(pick(task, 'metric'))}",
        better.get(str(pick(task, "higher_is_better")), ""),
        f"n = {whole(pick(task, 'n'))} prompts",
        _fluent(results),
        f"chance {fixed(pick(task, 'chance'))}",
        f"split {one_line(pick(task, 'split'))}",
        f"protocol {one_line(pick(task, 'protocol'))}",
        "IN-SAMPLE" if is_in_sample(results) else "",
    ]
    return ", ".join(part for part in parts if part) + "."


def _fluent(results: Results) -> str:
    """How many texts perplexity is measured on."""
    known = pick(results, "perplexity_texts")
    if known is None:
        return ""
    test, validate = (whole(pick(known, part)) for part in ("test", "validate"))
    if pick(known, "shared"):
        return f"perplexity on {test} texts, which also chose the strength"
    return f"perplexity on {test} texts; {validate} others chose the strength"


def effect_table(results: Results) -> Table:
    """One row per condition, with intervals and perplexity."""
    rows = entries(results, "rows")
    names = (one_line(pick(row, "name")) for row in rows)
    body = tuple(
        (
            Mark(name, hint=ROWS.get(name, "")),
            interval(row),
            interval(pick(row, "difference"), sign=True),
            fixed(pick(row, "raw"), 2),
            fixed(pick(row, "relative"), 2),
            fixed(pick(row, "dose", "kl"), 2),
            plus_minus(
                pick(row, "perplexity", "value"), pick(row, "perplexity", "stderr")
            ),
            times(pick(row, "perplexity", "ratio")),
        )
        for name, row in zip(names, rows, strict=True)
    )
    header = ("", one_line(pick(results, "task", "metric") or "score", 40))
    header += ("against no edit", "raw", "relative", "nats")
    header += ("perplexity ± s.e.", "ratio")
    strong = tuple(i for i, row in enumerate(rows) if pick(row, "kind") == "method")[:1]
    return Table("", measured(results), header, body, strong=strong)


def _effect(results: Results) -> list[Block]:
    table = effect_table(results)
    if not table.rows:
        return [Paragraph("Nothing was measured: the results hold no rows.")]
    told = "; ".join(f"{line[0]} {line[1]}" for line in table.texts())
    figure = _figure(
        results,
        "effect",
        f"Dot plot of {one_line(pick(results, 'task', 'metric'))}: {told}",
        "Each row with its 95% interval. Squares: no edit; circles: methods; triangles: "
        "controls; diamonds: what the target could do with its own vector.",
    )
    names = [line[0] for line in table.texts()]
    explained = tuple(f"{n}: {ROWS[n]}" for n in names if n in ROWS)
    reading = (
        "Brackets: 95% intervals. The change is paired: the same prompts with and "
        "without the edit. An interval that excludes 0 is an effect; one beyond the "
        "controls is an effect of the concept and not of just any push of that length. "
        "Raw and relative: strength as a multiple of the vector, and as a share of the "
        "length of the residual stream. Nats: the dose, the mean divergence per token from "
        "the predictions without the edit, on neutral texts. Perplexity (lower is "
        "better) is measured under exactly the same edit, on texts that the map did not "
        "see; compare and eval read others, so their perplexities differ."
    )
    return [figure, table, Paragraph(reading), Bullets(explained), *_extras(results)]


def _figure(results: Results, name: str, alt: str, caption: str) -> Figure:
    return Figure(name, partial(_draw, name, results), alt, caption)


def _draw(name: str, results: Results) -> Any:
    from contrans.report.plots import FIGURES  # needs matplotlib

    return FIGURES[name](results)


def _extras(results: Results) -> list[Block]:
    """Further metrics of each row, when there are any."""
    rows = entries(results, "rows")
    names = list(dict.fromkeys(k for r in rows for k in (pick(r, "extra") or {})))
    if not names:
        return []

    def cell(value: object) -> Cell:
        return fixed(value) if number(value) is not None else one_line(value, 80)

    body = tuple(
        (one_line(pick(r, "name")), *(cell(pick(r, "extra", k)) for k in names))
        for r in rows
    )
    header = ("row", *map(one_line, names))
    return [Table("", "Further figures of the same prompts.", header, body)]


def _done(results: Results) -> list[Block]:
    """Who took part, what was chosen and how, and the command that repeats it."""
    concept, corpus, link = (pick(results, k) for k in ("concept", "corpus", "map"))
    pairs = ", ".join(
        f"{whole(pick(concept, 'pairs', split))} {split}"
        for split in ("refine", "validate", "test")
    )
    models = [
        ("source", "Source", "has the concept"),
        ("target", "Target", "receives it"),
        ("map_source", "Map source", "the map was fitted from this model"),
        ("aligned_target", "Aligned target", "gave the Self-Align reference"),
    ]
    cut = "; ".join(
        f"{whole(pick(corpus, 'truncated', side))} too long for the {side}"
        for side in ("source", "target")
        if number(pick(corpus, "truncated", side))
    )
    rows = [
        (name, _model(pick(results, key)), why)
        for key, name, why in models
        if key in ("source", "target") or isinstance(pick(results, key), Mapping)
    ]
    rows += [
        (
            "Concept",
            f"{one_line(pick(concept, 'name'))} (pairs: {pairs})",
            f"answer {one_line(pick(concept, 'answer'))}, task "
            f"{one_line(pick(concept, 'task'))}, from {one_line(pick(concept, 'origin'))}, "
            f"digest {one_line(pick(concept, 'digest'), 13)}",
        ),
        (
            "Corpus",
            f"{one_line(pick(corpus, 'name'))} ({whole(pick(corpus, 'n'))} texts)",
            f"digest {one_line(pick(corpus, 'digest'), 13)}; {cut or 'none cut'}",
        ),
        (
            "Map",
            one_line(pick(link, "method")),
            f"fitted on {whole(pick(link, 'n'))} texts, judged on "
            f"{whole(pick(link, 'n_test'))} others",
        ),
        ("Layers", *_chosen_layers(results)),
        ("Strength", *_chosen_strength(results)),
    ]
    blocks: list[Block] = [
        Table(
            "",
            "Who took part, and what was chosen.",
            ("what", "value", "how"),
            tuple(rows),
        )
    ]
    command = repeat_command(results)
    if command:
        blocks += [Paragraph("To repeat it:"), Code(command, "sh")]
    return blocks


def _model(model: object) -> str:
    if model is None:
        return MISSING
    digests = [clean(pick(model, key))[:12] for key in ("fingerprint", "tokenizer")]
    return (
        f"{one_line(pick(model, 'name'))} ({whole(pick(model, 'layers'))} blocks, width "
        f"{whole(pick(model, 'hidden'))}, context {whole(pick(model, 'context'))}, "
        f"{one_line(pick(model, 'dtype'))}; weights {digests[0]}, tokenizer {digests[1]})"
    )


def _choosing_prompts(results: Results) -> str:
    """The prompts on which layers and strength were chosen."""
    if is_in_sample(results):
        return "the test prompts themselves (in-sample)"
    return "validation prompts"


def _chosen_layers(results: Results) -> tuple[str, str]:
    how, where = pick(results, "layers", "how"), _choosing_prompts(results)
    told = {
        "auto": f"found by diagnostics, then by effect on {where}",
        "given": "given by the user",
    }.get(str(how), one_line(how))
    source, target = (pick(results, "layers", side) for side in ("source", "target"))
    return f"{count(source)} \u2192 {count(target)}", f"{told}; counted from 0"


def _chosen_strength(results: Results) -> tuple[str, str]:
    strength = pick(results, "strength")
    told = {
        "auto": "the gentlest of the largest effects within the budget on "
        f"{_choosing_prompts(results)}",
        "given": "given by the user",
    }.get(str(pick(strength, "how")), one_line(pick(strength, "how")))
    return (
        f"raw {fixed(pick(strength, 'raw'), 2)}, relative "
        f"{fixed(pick(strength, 'relative'), 2)}, {_dose(pick(strength, 'dose'))}",
        f"{told}; budget {fixed(pick(strength, 'budget'), 2)} {_unit(results)}",
    )


def _dose(dose: Any) -> str:
    """A dose with its standard error and tail."""
    kl, stderr, tail = (fixed(pick(dose, part), 3) for part in ("kl", "stderr", "p95"))
    return f"{kl} \u00b1 {stderr} nats per token (95th percentile {tail})"


def _unit(results: Results) -> str:
    """What the budget is of."""
    nats = pick(results, "strength", "budget_unit") == "nats"
    return "nats per token" if nats else "times the perplexity"


def _spent(
    results: Results,
) -> tuple[tuple[str, ...], Callable[[Any], tuple[str, ...]]]:
    """Columns of what points of the search cost, and their cells."""
    columns: list[tuple[str, Callable[[Any], str]]] = []
    points = entries(results, "layers", "tried")
    if any(pick(p, "dose") for p in points):
        columns.append(("nats", lambda p: fixed(pick(p, "dose", "kl"), 2)))
    if any(pick(p, "perplexity_ratio") is not None for p in points):
        columns.append(("perplexity", lambda p: fixed(pick(p, "perplexity"), 2)))
        columns.append(("ratio", lambda p: times(pick(p, "perplexity_ratio"))))
    header = tuple(name for name, _ in columns)
    return header, lambda point: tuple(cell(point) for _, cell in columns)


def repeat_command(results: Results, out: str = "repeated") -> str:
    """The shell command that runs the same again, every setting said.

    Args:
        results: the results.
        out: folder that the command writes.
    """
    command = pick(results, "command")
    if not isinstance(command, Mapping):
        return ""
    words = ["contrans", "transplant"]
    words += [shlex.quote(one_line(command.get(k))) for k in ("source", "target")]
    for key, value in command.items():
        if key in ("source", "target") or value in (None, False, ""):
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(shlex.quote(one_line(value)))
    return " ".join([*words, "-o", shlex.quote(out)])


def _compatibility(results: Results) -> list[Block]:
    found, link = pick(results, "diagnosis"), pick(results, "map")
    blocks: list[Block] = []
    notes = [*entries(found, "warnings"), *entries(link, "warnings")]
    if notes:
        lines = tuple(dict.fromkeys(map(one_line, notes)))
        blocks.append(Callout("warning", "This pair may not work", lines))
    names = ("Span", "Spread", "Cosine with own", "AUROC of pairs", "R² of pairs")
    rows = [
        (name, fixed(pick(found, key)), FACTS[key])
        for name, key in zip((*names, "Length ratio"), FACTS, strict=True)
    ]
    rows += [
        (
            "R² of states",
            fixed(pick(link, "r2")),
            "held-out variance that the map explains; high values alone promise nothing",
        ),
        (
            "R² of differences",
            fixed(pick(link, "r2_differences")),
            "the same for differences of states, in which the mean cancels",
        ),
        (
            "Effective rank",
            fixed(pick(link, "effective_rank"), 1),
            "directions that the corpus really uses; the map has rank "
            f"{whole(pick(link, 'rank'))}",
        ),
        (
            "Ridge",
            fixed(pick(link, "ridge")),
            f"strength per text; leave-one-out error {fixed(pick(link, 'loo_error'))}",
        ),
    ]
    title = (
        "Would this source work for this target? Asked before anything was generated."
    )
    table = Table("", title, ("figure", "value", "what it says"), tuple(rows))
    return [*blocks, table, *_reliability(results)]


def _reliability(results: Results) -> list[Block]:
    points = entries(results, "reliability")
    if not points:
        return []
    chosen = pick(results, "layers", "source")
    strong = tuple(
        i
        for i, p in enumerate(points)
        if chosen is not None and pick(p, "layer") == chosen
    )
    rows = tuple(
        (
            count(pick(p, "layer")),
            fixed(pick(p, "cosine")),
            fixed(pick(p, "auroc")),
            fixed(pick(p, "separation"), 2),
            "chosen" if i in strong else "",
        )
        for i, p in enumerate(points)
    )
    header = ("source layer", "cosine", "AUROC", "separation", "note")
    pairs = "validation pairs"
    if is_in_sample(results):
        pairs = "the refinement pairs (in-sample)"
    table = Table(
        "",
        f"Reliability of the concept in the source, on {pairs}: cosine between the "
        "differences of two pairs, AUROC of projections (0.5 is chance), separation "
        "in standard deviations.",
        header,
        rows,
        strong=strong,
    )
    alt = "; ".join(f"layer {r[0]}: AUROC {r[2]}, cosine {r[1]}" for r in rows)
    caption = "Reliability by source layer."
    return [_figure(results, "reliability", f"{caption} {alt}", caption), table]


def _strength(results: Results) -> list[Block]:
    """Effect and cost over strength."""
    points = entries(results, "strength", "curve")
    if not points:
        return []
    has_value = any(number(pick(p, "value")) is not None for p in points)
    chosen = number(pick(results, "strength", "raw"))
    strong = tuple(
        i
        for i, p in enumerate(points)
        if chosen is not None and number(pick(p, "raw")) == chosen
    )
    rows, (costs, spent) = [], _spent(results)
    for i, p in enumerate(points):
        effect: tuple[str, ...] = (interval({**p, "value": p.get("effect")}),)
        if has_value:
            effect = (interval(p), fixed(pick(p, "effect"), sign=True))
        cells = (fixed(pick(p, "relative"), 2), fixed(pick(p, "raw"), 2), *effect)
        rows.append((*cells, *spent(p), "chosen" if i in strong else ""))
    effects = ("value [95%]", "gain") if has_value else ("gain [95%]",)
    header = ("relative", "raw", *effects, *costs, "note")
    title = (
        f"Strengths tried at the chosen layers, on {_choosing_prompts(results)}. A gain "
        "is signed so that more is better."
    )
    figure = _figure(
        results,
        "strength",
        "Value and cost over strength; the table below has the numbers.",
        f"What more strength buys, and what it costs in {_unit(results)}. Dotted: the "
        "strength chosen; dashed: the budget.",
    )
    return [figure, Table("", title, header, tuple(rows), strong=strong)]


def _layers(results: Results) -> list[Block]:
    """The best point of each pair of layers tried."""
    best = best_tried(results)
    decided: list[Block] = []
    if why := pick(results, "decision", "why"):
        how = one_line(pick(results, "decision", "how"))
        decided.append(Paragraph(f"Decided by {how}: {one_line(why)}."))
    if not best:
        return decided
    chosen = pick(results, "layers", "source"), pick(results, "layers", "target")
    costs, spent = _spent(results)
    rows = tuple(
        (
            str(s),
            str(t),
            fixed(pick(p, "relative"), 2),
            fixed(pick(p, "raw"), 2),
            fixed(pick(p, "effect"), sign=True),
            *spent(p),
            "chosen" if (s, t) == chosen else "",
        )
        for (s, t), p in best.items()
    )
    header = ("source", "target", "relative", "raw", "gain", *costs, "note")
    where = _choosing_prompts(results)
    title = (
        f"The best strength of each pair of layers, on {where}, within the budget where "
        "one was."
    )
    strong = tuple(i for i, pair in enumerate(best) if pair == chosen)
    figure = _figure(
        results,
        "layers",
        "Heat map of the gain of each pair of layers; the table below has the numbers.",
        f"Gain of each pair of layers tried, on {where}. Framed: the chosen one.",
    )
    return [figure, Table("", title, header, rows, strong=strong), *decided]


def _samples(results: Results) -> list[Block]:
    return [
        Sides(
            excerpt(pick(g, "prompt")),
            (
                ("Without the edit", excerpt(pick(g, "before"))),
                ("With the edit", excerpt(pick(g, "after"))),
            ),
        )
        for g in entries(results, "generations")
    ]


def _generations(results: Results) -> list[Block]:
    """Generations without and with the edit, after the first, which opens the page."""
    known = _samples(results)
    shown = known[1:GENERATIONS]
    if len(known) > GENERATIONS:
        left = len(known) - GENERATIONS
        shown.append(Paragraph(f"{left} more generations are in results.json."))
    return shown


def _limits(results: Results) -> list[Block]:
    lines = [
        "Intervals are 95% intervals over prompts. They do not cover other "
        "pairs, corpora, seeds or wordings of the task.",
        "Raw strength multiplies the vector as fitted. Relative strength is its length "
        "as a share of the mean length of the target's residual stream at that layer. The "
        "dose in nats is what it does to predictions on neutral text, and the only one of "
        "the three that means the same in every model.",
    ]
    if any(pick(row, "kind") == "control" for row in entries(results, "rows")):
        lines.append(
            "Controls have the length of the transplanted vector: random directions, "
            "and a map fitted on shuffled pairs of texts, averaged over draws."
        )
    if is_in_sample(results):
        lines.insert(0, f"IN-SAMPLE: {IN_SAMPLE}")
    elif "auto" in [pick(results, part, "how") for part in ("layers", "strength")]:
        lines.insert(
            1,
            "What was not given by the user was chosen on validation prompts; the "
            "effect table is from other prompts, used once.",
        )
    names = [str(pick(results, side, "name") or "") for side in ("source", "target")]
    if any(name.startswith("zoo/") for name in names):
        lines.append(
            "The models of the zoo are tiny and live in a made-up world. They show how "
            "the method works, and are no evidence about large models."
        )
    seconds = pick(results, "seconds")
    if isinstance(seconds, Mapping) and seconds:
        parts = [f"{one_line(k)} {fixed(v, 1)}" for k, v in seconds.items()]
        total = sum(number(v) or 0.0 for v in seconds.values())
        lines.append(f"Seconds: {', '.join(parts)}; together {fixed(total, 1)}.")
    seed = pick(results, "seed")
    lines.append(f"Seed {count(seed) if seed is not None else MISSING}.")
    return [Bullets(tuple(lines))]


def summary(results: Results) -> str:
    """For a terminal: what was measured, the table, the choice made, and the verdict."""
    strength, layers = pick(results, "strength"), pick(results, "layers")
    title = f"{_title(results)}\n{measured(results)} Brackets: 95% intervals"
    table = effect_table(results)
    choice = (
        f"layers {count(pick(layers, 'source'))}:{count(pick(layers, 'target'))} "
        f"({one_line(pick(layers, 'how'))}), strength {fixed(pick(strength, 'raw'), 2)} = "
        f"{share(pick(strength, 'relative'))} of the residual stream = "
        f"{_dose(pick(strength, 'dose'))} "
        f"({one_line(pick(strength, 'how'))}), map {one_line(pick(results, 'map', 'method'))}"
        f" on {whole(pick(results, 'map', 'n'))} texts"
    )
    return "\n".join(
        (
            terminal.folded(title),
            "",
            terminal.table(table.columns, table.texts()),
            "",
            terminal.folded(choice),
            terminal.folded(meaning(results)),
            terminal.folded(one_line(pick(results, "verdict"))),
        )
    )


def first_sample(results: Results) -> str:
    """For a terminal: the first prompt, before and after."""
    return "\n".join(map(terminal.block, _samples(results)[:1]))
