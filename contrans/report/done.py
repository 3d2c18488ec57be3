"""What a transplant did, as the report tells it: models, data, map and choices."""

from collections.abc import Mapping

from contrans.report.blocks import (
    Block,
    Command,
    Facts,
    Results,
    Words,
    choosing_prompts,
    describe_model,
    repeat_command,
)
from contrans.report.format import count, fixed, number, one_line, pick, whole


def done(results: Results) -> tuple[Block, ...]:
    """Who took part, what was chosen and how, and the command that repeats it."""
    concept = pick(results, "concept") or {}
    pairs = ", ".join(
        f"{whole(pick(concept, 'pairs', split))} {split}"
        for split in ("refine", "validate", "test")
    )
    facts = [
        ("Source", describe_model(pick(results, "source")), "has the concept"),
        ("Target", describe_model(pick(results, "target")), "receives it"),
    ]
    for key, name, why in (
        ("map_source", "Map source", "the map was fitted from this model"),
        ("aligned_target", "Aligned target", "gave the Self-Align reference"),
    ):
        if isinstance(pick(results, key), Mapping):
            facts.append((name, describe_model(pick(results, key)), why))
    facts += [
        (
            "Concept",
            f"{one_line(concept.get('name'))} (pairs: {pairs})",
            f"answer {one_line(concept.get('answer'))}, task "
            f"{one_line(concept.get('task'))}, from {one_line(concept.get('origin'))}, "
            f"digest {one_line(concept.get('digest'), 13)}",
        ),
        ("Corpus", *_corpus(results)),
        (
            "Map",
            one_line(pick(results, "map", "method")),
            f"fitted on {whole(pick(results, 'map', 'n'))} texts, judged on "
            f"{whole(pick(results, 'map', 'n_test'))} others",
        ),
        ("Layers", *_chosen_layers(results)),
        ("Strength", *_chosen_strength(results)),
    ]
    blocks: list[Block] = [Facts(tuple(facts))]
    command = repeat_command(results)
    if command:
        blocks += [Words(("To repeat it:",)), Command(command)]
    return tuple(blocks)


def _corpus(results: Results) -> tuple[str, str]:
    corpus = pick(results, "corpus") or {}
    cut = [
        f"{whole(pick(corpus, 'truncated', side))} too long for the {side}"
        for side in ("source", "target")
        if number(pick(corpus, "truncated", side))
    ]
    meaning = "; ".join(
        [f"digest {one_line(corpus.get('digest'), 13)}", *(cut or ["none cut"])]
    )
    return f"{one_line(corpus.get('name'))} ({whole(corpus.get('n'))} texts)", meaning


def _chosen_layers(results: Results) -> tuple[str, str]:
    how, where = pick(results, "layers", "how"), choosing_prompts(results)
    meaning = {
        "auto": f"found by diagnostics, then by effect on {where}",
        "given": "given by the user",
    }.get(str(how), one_line(how))
    source, target = (pick(results, "layers", side) for side in ("source", "target"))
    return f"{count(source)} \u2192 {count(target)}", f"{meaning}; counted from 0"


def _chosen_strength(results: Results) -> tuple[str, str]:
    strength = pick(results, "strength") or {}
    how = {
        "auto": (
            "the gentlest of the largest effects within the budget on "
            f"{choosing_prompts(results)}"
        ),
        "given": "given by the user",
    }.get(str(strength.get("how")), one_line(strength.get("how")))
    return (
        f"raw {fixed(strength.get('raw'), 2)}, relative "
        f"{fixed(strength.get('relative'), 2)}",
        f"{how}; perplexity budget {fixed(strength.get('budget'), 2)}",
    )
