"""MC1: 50 questions behind a six-shot primer, against lm-evaluation-harness.

The harness is imported if it is installed beside us (`pip install "contrans[lm-eval]"`);
else the benchmark says so and times its algorithm, transcribed, instead.
"""

import random

import torch
from common import Ratio, Report, arguments, race, random_lm, ratio, show

from contrans.models.lm import LM
from contrans.models.scoring import continuation_ids, score_continuations

Items = list[tuple[list[int], list[int]]]


def questions(options, lm: LM, n: int) -> Items:
    """TruthfulQA if its file is given; else token rows of the same lengths."""
    path = options.data and options.data / "truthfulqa" / "mc_task.json"
    if path and path.exists():
        return _truthfulqa(path, lm, n)
    drawn = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [drawn.randrange(3, 8000) for _ in range(drawn.randint(low, high))]

    primer, found = ids(172, 172), []
    for _ in range(n):
        context = primer + ids(10, 26)
        found += [(context, ids(6, 18)) for _ in range(drawn.randint(3, 7))]
    return found


def _truthfulqa(path, lm: LM, n: int) -> Items:
    import json

    from contrans.evaluation.tasks.truthfulqa import PRIMER

    found = []
    for entry in json.loads(path.read_text(encoding="utf-8"))[:n]:
        prompt = f"{PRIMER}Q: {entry['question']}\nA:"
        context = lm.encode([prompt])[0]
        for choice in entry["mc1_targets"]:
            found.append((context, continuation_ids(lm, prompt, f" {choice}")))
    return found


def harness(lm: LM):
    """Scores by lm-evaluation-harness, and its name."""
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        return lambda items: transcribed(lm, items), "its algorithm, transcribed"
    import lm_eval

    theirs = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=16)

    def run(items: Items) -> torch.Tensor:
        requests = [(("", str(i)), c, r) for i, (c, r) in enumerate(items)]
        answers = theirs._loglikelihood_tokens(requests, disable_tqdm=True)
        return torch.tensor([answer[0] for answer in answers], dtype=torch.float64)

    return run, f"lm-evaluation-harness {lm_eval.__version__}, hf, batch 16"


@torch.no_grad()
def transcribed(lm: LM, items: Items, size: int = 16) -> torch.Tensor:
    """Longest first, padded, log-softmax of every position, one row a choice."""
    order = sorted(range(len(items)), key=lambda i: -sum(map(len, items[i])))
    total = torch.zeros(len(items), dtype=torch.float64)
    for start in range(0, len(order), size):
        some = order[start : start + size]
        rows = [(items[i][0] + items[i][1])[:-1] for i in some]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        logs = lm.model(input_ids=ids.to(lm.device)).logits.log_softmax(-1)
        for place, i in enumerate(some):
            context, rest = items[i]
            here = logs[place, len(context) - 1 : len(context) - 1 + len(rest)].cpu()
            picked = here.gather(-1, torch.tensor(rest)[:, None])
            total[i] = picked.double().sum()
    return total


def main(options) -> list[Report]:
    lm = random_lm(dtype=options.dtype, device=options.device)
    items = questions(options, lm, 6 if options.quick else 50)
    run, name = harness(lm)
    ours = score_continuations(lm, items).total
    gap = float((ours - run(items)).abs().max())
    times = race(
        {
            "contrans": lambda: score_continuations(lm, items),
            name: lambda: run(items),
        },
        options,
    )
    ratios = [Ratio("harness / contrans", ratio(times, name, "contrans"), 12)]
    rows = {tuple(c + r)[: i + 1] for c, r in items for i in range(len(c + r) - 1)}
    tokens = sum(len(c) + len(r) for c, r in items)
    on = f"{lm.name}, {options.dtype}, {len(items)} choices, {tokens} tokens"
    checks = {
        "largest difference of log-probabilities": f"{gap:.1e} (bar 1e-4)",
        "tokens in all / tokens that differ": f"{tokens / len(rows):.1f}",
    }
    return [Report("MC1", on, times, ratios, checks)]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
