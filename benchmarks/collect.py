"""Hidden states of 200 + 200 emotion prompts, all layers, last token."""

from functools import partial

import torch
from common import (
    Ratio,
    Report,
    arguments,
    fast_bfloat16,
    prompts,
    race,
    random_lm,
    ratio,
    show,
)

from contrans.models.collect import collect
from contrans.models.lm import LM
from contrans.models.prefix_tree import PrefixTree


@torch.no_grad()
def published(lm: LM, texts: list[str]) -> torch.Tensor:
    """One text at a time, with logits and all hidden states."""
    found = []
    for row in lm.encode(texts):
        ids = torch.tensor([row], device=lm.device)
        states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states
        found.append(torch.stack([h[0, -1].float().cpu() for h in states[1:]]))
    return torch.stack(found)


@torch.no_grad()
def batched(lm: LM, texts: list[str], size: int = 32) -> torch.Tensor:
    """What most tools do: left-padded batches with logits and all hidden states."""
    found = []
    lm.tokenizer.padding_side = "left"
    for start in range(0, len(texts), size):
        inputs = lm.tokenizer(
            texts[start : start + size], return_tensors="pt", padding=True
        ).to(lm.device)
        inputs.pop("token_type_ids", None)
        states = lm.model(**inputs, output_hidden_states=True).hidden_states
        found.append(torch.stack([h[:, -1].float().cpu() for h in states[1:]], 1))
    return torch.cat(found)


@torch.no_grad()
def floor(lm: LM, tokens: int, size: int = 1024) -> None:
    """The matrix products of the blocks alone, for as many tokens."""
    layers = [m for m in lm.blocks.modules() if isinstance(m, torch.nn.Linear)]
    for start in range(0, tokens, size):
        rows = min(size, tokens - start)
        for layer in layers:
            x = _inputs(rows, layer.in_features, lm)
            torch.nn.functional.linear(x, layer.weight)


_KEPT: dict[tuple, torch.Tensor] = {}


def _inputs(rows: int, width: int, lm: LM) -> torch.Tensor:
    key = (rows, width, lm.dtype, lm.device)
    if key not in _KEPT:
        _KEPT[key] = torch.randn(rows, width, dtype=lm.dtype, device=lm.device)
    return _KEPT[key]


BARS = {  # (published, every peer, floor) plain; (published, floor) compiled
    "float32": ((3.8, 1.7, 1.4), (4.0, 1.35)),
    "bfloat16": ((7.5, 1.6, 2.6), (10.0, 2.1)),
}


WIDE = {"float32": 1.1, "bfloat16": 1.4}
"""Times the matrix products at width 2,048."""


def measure(options) -> Report:
    lm = random_lm(dtype=options.dtype, device=options.device)
    texts = prompts("anger", 20 if options.quick else 200)
    tokens = sum(map(len, lm.encode(texts)))
    deep = round(0.75 * lm.layers) - 1  # three quarters of the blocks run
    methods = {
        "contrans": partial(collect, lm, texts),
        "contrans, a row for each text": partial(collect, lm, texts, share=False),
        "contrans, one layer at 3/4": partial(collect, lm, texts, layers=[deep]),
        "published loop": partial(published, lm, texts),
        "batches of 32, all hidden states": partial(batched, lm, texts),
        "matrix products only": partial(floor, lm, tokens),
    }
    if not options.quick:
        methods["contrans, compiled"] = partial(collect, lm, texts, compile=True)
    error = difference(lm, published(lm, texts), texts)
    times = race(methods, options)
    plain, fast = BARS[options.dtype]
    ratios = [
        Ratio(
            "published / contrans",
            ratio(times, "published loop", "contrans"),
            plain[0],
        ),
        Ratio(
            "batches of 32 / contrans",
            ratio(times, "batches of 32, all hidden states", "contrans"),
            plain[1],
        ),
        Ratio(
            "contrans / floor",
            ratio(times, "contrans", "matrix products only"),
            plain[2],
            at_least=False,
        ),
        Ratio(
            "published / floor", ratio(times, "published loop", "matrix products only")
        ),
        Ratio(
            "a row for each text / contrans",
            ratio(times, "contrans, a row for each text", "contrans"),
        ),
        Ratio(
            "all layers / one layer",
            ratio(times, "contrans", "contrans, one layer at 3/4"),
            1.25,
        ),
    ]
    if "contrans, compiled" in methods:
        ratios += [
            Ratio(
                "published / compiled",
                ratio(times, "published loop", "contrans, compiled"),
                fast[0],
            ),
            Ratio(
                "compiled / floor",
                ratio(times, "contrans, compiled", "matrix products only"),
                fast[1],
                at_least=False,
            ),
        ]
    on = f"{lm.name}, {options.dtype}, {len(texts)} prompts of {tokens} tokens in all"
    unique = PrefixTree(lm.encode(texts)).unique
    notes = [
        f"{unique} of the {tokens} tokens differ in themselves or in what stands before "
        "them; the others do not run twice. The floor and the other ways run them all."
    ]
    return Report("collect", on, times, ratios, {"relative error": error}, notes)


def measure_wide(options) -> Report:
    """Where products are large: how little is left above them."""
    lm = random_lm(width=2048, dtype=options.dtype, device=options.device)
    texts = prompts("anger", 50)
    tokens = sum(map(len, lm.encode(texts)))
    methods = {
        "contrans": partial(collect, lm, texts),
        "batches of 32, all hidden states": partial(batched, lm, texts),
        "matrix products only": partial(floor, lm, tokens),
    }
    error = difference(lm, batched(lm, texts), texts)
    times = race(methods, options)
    ratios = [
        Ratio(
            "batches of 32 / contrans",
            ratio(times, "batches of 32, all hidden states", "contrans"),
        ),
        Ratio(
            "contrans / floor",
            ratio(times, "contrans", "matrix products only"),
            WIDE[options.dtype],
            at_least=False,
        ),
    ]
    on = f"{lm.name}, {options.dtype}, {len(texts)} prompts of {tokens} tokens in all"
    return Report("collect", on, times, ratios, {"relative error": error})


def difference(lm: LM, expected: torch.Tensor, texts: list[str]) -> str:
    """How far we are from another way's states below the last block.

    The last hidden state that transformers returns is after the final norm.
    """
    inner = slice(0, lm.layers - 1)
    gap = (collect(lm, texts).values - expected)[:, inner]
    return f"{gap.norm() / expected[:, inner].norm():.1e}"


def main(options) -> list[Report]:
    if options.dtype == "bfloat16" and not fast_bfloat16(options.device):
        note = "this processor has no fast bfloat16 products: not measured"
        return [Report("collect", "bfloat16", {}, [], notes=[note])]
    found = [measure(options)]
    return found if options.quick else [*found, measure_wide(options)]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
