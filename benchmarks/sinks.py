"""What one attention sink does to maps, norms and means, and what is left of it.

    python benchmarks/sinks.py SOURCE TARGET --layers 20:15

prints each figure with the sink and without, as contrans computes it by default. The
text that ends in its first token, `The`, is added to the corpus; the first column is
what contrans 0.1.0 gave.
"""

import argparse
from dataclasses import dataclass

import torch

from contrans.core.types import HiddenStates, LinearMap
from contrans.data import load_corpus
from contrans.evaluation.fluency import text_losses
from contrans.library.concepts import load_concept
from contrans.models.collect import collect, collect_pairs, measure_norms
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.vectors.concepts import concept_vector
from contrans.vectors.diagnostics import span
from contrans.vectors.maps import fit_linear_map
from contrans.vectors.sinks import outlying

SINK = "The"
"""A text of one token in most tokenizers."""
SEEDS = 5
"""Splits tried for one that fits on the sink, as the first seed of 0.1.0 may not."""
NORM_TEXTS = 64


@dataclass(frozen=True)
class Row:
    """One figure, with the sink and without."""

    name: str
    before: float
    after: float


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def fits(
    x: HiddenStates, y: HiddenStates, s: int, t: int
) -> tuple[LinearMap, LinearMap]:
    """The map with the sink among the texts fitted on, and the one without."""
    for seed in range(SEEDS):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        if int((order == len(x) - 1).nonzero()) >= len(x) // 5:
            break
    with_sink, without = (
        fit_linear_map(x, y, source_layer=s, target_layer=t, seed=seed, keep_sinks=keep)
        for keep in (True, False)
    )
    return with_sink, without


def of_map(source: LM, target: LM, texts: list[str], s: int, t: int, concept: str):
    x, y = collect(source, texts, layers=[s]), collect(target, texts, layers=[t])
    states = x.at(s).double()
    lengths, middle = states.norm(dim=1), states - states.mean(0)
    energy = middle.pow(2).sum(1)
    yield Row(
        "length of the last row, and the median one",
        float(lengths[-1]),
        float(lengths.median()),
    )
    yield Row("its share of the corpus variance", float(energy[-1] / energy.sum()), 0.0)
    pairs = load_concept(concept).refine
    v = concept_vector(collect_pairs(source, pairs, layers=[s]))[s]
    own = concept_vector(collect_pairs(target, pairs, layers=[t]))[t]
    links = fits(x, y, s, t)
    moved = [link.directions(v) for link in links]
    reports = [link.report for link in links]
    yield Row("ridge per row", *(report.ridge for report in reports))
    yield Row("held-out R2", *(report.r2 or 0.0 for report in reports))
    yield Row(f"coverage of {concept}", *(span(link, v) for link in links))
    yield Row("cosine with the target's own", *(cosine(m, own) for m in moved))
    yield Row("cosine of the two mapped vectors", cosine(*moved), 1.0)
    yield Row("texts left out", 0, len(reports[1].left_out))


def of_model(lm: LM, texts: list[str]):
    every = collect(lm, texts, position="all")
    lengths = every.values.double().norm(dim=-1)
    measured = measure_norms(lm, texts)
    for layer in sorted({5, 11, lm.layers * 2 // 3}):
        yield Row(
            f"{lm.name}, residual norm at block {layer}",
            float(lengths[:, layer].mean()),
            measured.means[layer],
        )
    mean = collect(lm, texts, position="mean").values.mean(0)
    parts = [part.mean(0) for part in every.values.split(list(every.counts or ()))]
    old = torch.stack(parts).mean(0)
    layer = lm.layers * 2 // 3
    yield Row(
        f"{lm.name}, length of the mean position at block {layer}",
        float(old[layer].norm()),
        float(mean[layer].norm()),
    )
    yield Row(
        f"{lm.name}, cosine of the two means", cosine(old[layer], mean[layer]), 1.0
    )
    sinks = int(outlying(lengths[:, layer]).sum())
    yield Row(f"{lm.name}, tokens of {len(lengths)} that are sinks there", sinks, 0)
    first, later = [], []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([lm.encode([text])[0]], device=lm.device)
            logs = lm.model(ids).logits[0, :-1].log_softmax(-1)
            losses = -logs.gather(1, ids[0, 1:, None])[:, 0]
            first.append(losses[:1])
            later.append(losses[1:])
    nll, tokens = map(sum, zip(*text_losses(lm, texts), strict=True))
    yield Row(
        f"{lm.name}, nats of the first prediction, and of later ones",
        float(torch.cat(first).mean()),
        float(torch.cat(later).mean()),
    )
    every_loss = torch.cat(first + later).mean()
    yield Row(f"{lm.name}, nats per token scored", float(every_loss), nll / tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--layers", default="20:15", help="S:T, as in 20:15")
    parser.add_argument("--texts", type=int, default=None, help="corpus texts; all")
    parser.add_argument("--concept", default="anger")
    options = parser.parse_args()
    s, t = map(int, options.layers.split(":"))
    texts = [*load_corpus(limit=options.texts).texts, SINK]
    source = load_model(options.source, dtype="float32")
    target = load_model(options.target, dtype="float32")
    print(f"{'':58} {'with':>10} {'without':>10}")
    rows = [of_map(source, target, texts, s, t, options.concept)]
    rows += [of_model(lm, texts[:NORM_TEXTS]) for lm in (source, target)]
    for group in rows:
        for row in group:
            print(f"{row.name:58} {row.before:10.4g} {row.after:10.4g}", flush=True)


if __name__ == "__main__":
    main()
