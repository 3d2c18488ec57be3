"""The sections of a report, in the order in which a reader asks."""

from collections.abc import Mapping

from contrans.report.blocks import (
    IN_SAMPLE,
    TABLE_HEADER,
    Block,
    Document,
    Facts,
    Note,
    Picture,
    Results,
    Section,
    Table,
    Words,
    choosing_prompts,
    curve,
    extras,
    measured,
    samples,
    table_lines,
    tried,
)
from contrans.report.done import done
from contrans.report.format import (
    MISSING,
    count,
    entries,
    fixed,
    is_in_sample,
    number,
    one_line,
    pick,
    whole,
)


def document(results: Results) -> Document:
    """The whole report as blocks."""
    concept = pick(results, "concept", "title") or pick(results, "concept", "name")
    source, target = (pick(results, side, "name") for side in ("source", "target"))
    names = [one_line(name, 80) for name in (concept, source, target)]
    title = f"{names[0]}: {names[1]} \u2192 {names[2]}"
    if is_in_sample(results):
        title += " (in-sample)"
    version = one_line(pick(results, "contrans"))
    return Document(title, f"Report of contrans {version}", sections(results))


def sections(results: Results) -> tuple[Section, ...]:
    """All sections that have something to say."""
    every = (
        Section("In short", _short_answer(results)),
        Section("Effect", _effect(results)),
        Section("What was done", done(results)),
        Section("Compatibility", _compatibility(results)),
        Section("Strength", _strength(results)),
        Section("Layers", _layers(results)),
        Section("Generations", samples(results)),
        Section("Limits and notes", _limits(results)),
    )
    return tuple(section for section in every if section.blocks)


def _short_answer(results: Results) -> tuple[Block, ...]:
    blocks: list[Block] = []
    messages = tuple(one_line(w) for w in entries(results, "warnings"))
    if messages:
        title = "Warning" if len(messages) == 1 else f"{len(messages)} warnings"
        blocks.append(Note("warning", title, messages))
    if is_in_sample(results):
        blocks.append(Note("alarm", "IN-SAMPLE", (IN_SAMPLE,)))
    verdict = one_line(pick(results, "verdict"))
    blocks.append(Note("verdict", "Verdict", (verdict,)))
    return tuple(blocks)


def _effect(results: Results) -> tuple[Block, ...]:
    lines = table_lines(results)
    if not lines:
        return (Words(("Nothing was measured: the results hold no rows.",)),)
    rows = entries(results, "rows")
    strong = tuple(i for i, row in enumerate(rows) if row.get("kind") == "method")[:1]
    caption = measured(results)
    table = Table(caption, tuple(TABLE_HEADER), tuple(lines), (0, 1), strong)
    summary = "; ".join(f"{line.name} {line.value}" for line in lines)
    picture = Picture(
        "effect",
        f"Dot plot of {one_line(pick(results, 'task', 'metric'))}: {summary}",
        "Each row with its 95% interval. Squares: no edit; circles: methods; triangles: "
        "controls; diamonds: what the target could do with its own vector.",
    )
    reading = (
        "The change is paired: the same prompts with and without the edit. An interval "
        "that excludes 0 is an effect; one beyond the controls is an effect of the "
        "concept and not of just any push of that length. Perplexity is measured under "
        "exactly the same edit."
    )
    return (picture, table, Words((reading,)), *extras(results))


def _compatibility(results: Results) -> tuple[Block, ...]:
    found = pick(results, "diagnosis") or {}
    link = pick(results, "map") or {}
    blocks: list[Block] = []
    notes = [*entries(found, "warnings"), *entries(link, "warnings")]
    if notes:
        lines = tuple(dict.fromkeys(map(one_line, notes)))
        blocks.append(Note("warning", "This pair may not work", lines))
    blocks.append(
        Facts(
            (
                (
                    "Span",
                    fixed(found.get("span")),
                    "share of the concept that the corpus covers; below 0.5 most of it "
                    "is lost",
                ),
                (
                    "Spread",
                    fixed(found.get("spread")),
                    "how much corpus texts differ along the concept; the pairs have 1, "
                    "below 0.1 maps learn nothing about it",
                ),
                (
                    "Cosine with own",
                    fixed(found.get("cosine_own")),
                    "agreement with the target's own vector; below 0.4 expect little effect",
                ),
                (
                    "AUROC of pairs",
                    fixed(found.get("auroc")),
                    "how well the mapped vector tells the target's own held-out pairs "
                    "apart; 0.5 is chance",
                ),
                (
                    "R² of pairs",
                    fixed(found.get("r2_pairs")),
                    "how well mapped pair differences predict the target's, on held-out "
                    "pairs",
                ),
                (
                    "Length ratio",
                    fixed(found.get("length_ratio")),
                    "length of the mapped vector over that of the target's own",
                ),
                (
                    "R² of states",
                    fixed(link.get("r2")),
                    "held-out variance that the map explains; high values alone promise "
                    "nothing",
                ),
                (
                    "R² of differences",
                    fixed(link.get("r2_differences")),
                    "the same for differences of states, in which the mean cancels",
                ),
                (
                    "Effective rank",
                    fixed(link.get("effective_rank"), 1),
                    f"directions that the corpus really uses; the map has rank "
                    f"{whole(link.get('rank'))}",
                ),
                (
                    "Ridge",
                    fixed(link.get("ridge")),
                    f"strength per text; leave-one-out error {fixed(link.get('loo_error'))}",
                ),
            )
        )
    )
    return (*blocks, *_reliability(results))


def _reliability(results: Results) -> tuple[Block, ...]:
    points = [p for p in entries(results, "reliability") if isinstance(p, Mapping)]
    if not points:
        return ()
    chosen = pick(results, "layers", "source")
    strong = tuple(
        i
        for i, p in enumerate(points)
        if chosen is not None and p.get("layer") == chosen
    )
    rows = tuple(
        (
            count(p.get("layer")),
            fixed(p.get("cosine")),
            fixed(p.get("auroc")),
            fixed(p.get("separation"), 2),
            "chosen" if i in strong else "",
        )
        for i, p in enumerate(points)
    )
    header = ("source layer", "cosine", "AUROC", "separation", "note")
    pairs = "the refinement pairs (in-sample)"
    if not is_in_sample(results):
        pairs = "validation pairs"
    table = Table(
        f"Reliability of the concept in the source, on {pairs}: cosine between the "
        "differences of two pairs, AUROC of projections (0.5 is chance), separation "
        "in standard deviations.",
        header,
        rows,
        (4,),
        strong,
    )
    alt = "; ".join(f"layer {r[0]}: AUROC {r[2]}, cosine {r[1]}" for r in rows)
    picture = Picture(
        "reliability",
        f"Reliability by source layer. {alt}",
        "Reliability by source layer.",
    )
    return (picture, table)


def _strength(results: Results) -> tuple[Block, ...]:
    table = curve(results)
    if table is None:
        return ()
    picture = Picture(
        "strength",
        "Value and perplexity ratio over strength; the table below has the numbers.",
        "What more strength buys, and what it costs in perplexity. Dotted: the strength "
        "chosen; dashed: the perplexity budget.",
    )
    return (picture, table)


def _layers(results: Results) -> tuple[Block, ...]:
    table, words = tried(results), ()
    if why := pick(results, "decision", "why"):
        how = one_line(pick(results, "decision", "how"))
        words = (Words((f"Decided by {how}: {one_line(why)}.",)),)
    if table is None:
        return words
    picture = Picture(
        "layers",
        "Heat map of the gain of each pair of layers; the table below has the numbers.",
        f"Gain of each pair of layers tried, on {choosing_prompts(results)}. Framed: the "
        "chosen one.",
    )
    return (picture, table, *words)


def _limits(results: Results) -> tuple[Block, ...]:
    lines = [
        "Intervals are 95% bootstrap intervals over prompts. They do not cover other "
        "pairs, corpora, seeds or wordings of the task.",
        "Raw strength multiplies the vector as fitted. Relative strength is its length "
        "as a share of the mean length of the target's residual stream at that layer.",
    ]
    if any(row.get("kind") == "control" for row in entries(results, "rows")):
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
    return (Words(tuple(lines)),)
