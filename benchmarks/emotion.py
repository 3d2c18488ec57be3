"""The emotion task: 6 emotions, 200 prompts of other emotions, 4 strengths."""

import torch
from common import Ratio, Report, arguments, race, random_lm, random_vector, ratio, show

from contrans.control.steer import Steer
from contrans.data.catalogue import EMOTIONS
from contrans.data.pairs import read_pairs
from contrans.evaluation.tasks.emotions import fewshot_prefix
from contrans.library.concepts import load_concept
from contrans.models.lm import LM
from contrans.models.scoring import last_token_logits, last_token_logits_under
from contrans.vectors.transplant import paper_layer

STRENGTHS = (0.5, 1.0, 1.5, 2.0)


def scenarios(options, name: str, n: int) -> list[str]:
    """Six-shot prompts of other emotions: published ones if given, else our own."""
    if options.data is not None:
        path = options.data / "emotions" / "contrans" / f"eval_{name}.json"
        return list(read_pairs(path).negative[:n])
    return [fewshot_prefix() + t for t in load_concept(name).refine.negative[:n]]


@torch.no_grad()
def published(lm: LM, rows: list[list[int]], steer: Steer) -> list[int]:
    """One prompt at a time, all logits."""
    with steer.on(lm):
        return [
            int(
                lm.model(input_ids=torch.tensor([r], device=lm.device))
                .logits[0, -1]
                .argmax()
            )
            for r in rows
        ]


def batched(lm: LM, rows: list[list[int]], steers: list[Steer]) -> list[list[int]]:
    """Batches without shared prefixes, one strength at a time, last logits only."""
    found = []
    for steer in steers:
        with steer.on(lm):
            logits = dict(last_token_logits(lm, rows, share=False))
        found.append([int(logits[i].argmax()) for i in range(len(rows))])
    return found


def ours(lm: LM, rows: list[list[int]], steers: list[Steer]) -> list[list[int]]:
    """Shared prefixes once, the blocks below the edit once for all strengths."""
    found = [[0] * len(rows) for _ in steers]
    for control, row, logits in last_token_logits_under(lm, rows, steers):
        found[control][row] = int(logits.argmax())
    return found


def main(options) -> list[Report]:
    lm = random_lm(dtype=options.dtype, device=options.device)
    names = EMOTIONS[:1] if options.quick else EMOTIONS
    n, few, some = (40, 2, 4) if options.quick else (200, 4, 8)
    layer = paper_layer(lm.layers)
    work = {}
    for seed, name in enumerate(names):
        vector = random_vector(lm, seed=seed)
        steers = [Steer(vector, layers=(layer,), strength=s) for s in STRENGTHS]
        work[name] = (lm.encode(scenarios(options, name, n)), steers)
    rows, steers = work[names[0]]
    alone = [published(lm, rows[:few], steer) for steer in steers]
    same = alone == [line[:few] for line in ours(lm, rows, steers)]
    times = race(
        {
            "contrans, all": lambda: [ours(lm, *w) for w in work.values()],
            "batched, some prompts": lambda: batched(lm, rows[:some], steers),
            "published, few prompts": lambda: published(lm, rows[:few], steers[0]),
        },
        options,
    )
    total = len(names) * n * len(STRENGTHS)
    scale = {
        "contrans": [t / total for t in times["contrans, all"]],
        "batched": [
            t / (some * len(STRENGTHS)) for t in times["batched, some prompts"]
        ],
        "published": [t / few for t in times["published, few prompts"]],
    }
    ratios = [
        Ratio("published / contrans", ratio(scale, "published", "contrans"), 30),
        Ratio("batched / contrans", ratio(scale, "batched", "contrans"), 12),
    ]
    on = (
        f"{lm.name}, {options.dtype}, {len(names)} emotions x {n} prompts of about "
        f"{len(rows[0])} tokens x {len(STRENGTHS)} strengths at block {layer}; the "
        f"others on {few} and {some} prompts, per prompt"
    )
    return [Report("emotion task", on, times, ratios, {"same predictions": same})]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
