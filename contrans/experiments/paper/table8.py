"""Table 8: which tokens gain and lose probability at the edited place.

The stream of the last token after the edited block goes through the model's own final
norm and unembedding, before and after the edit; for each text the ten tokens that gain
and the ten that lose most are kept and counted.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch

from contrans.control.steer import random_like
from contrans.experiments.paper.baselines import into
from contrans.experiments.paper.claims import apart, average, judge, pooled
from contrans.experiments.paper.concept_tasks import Subject, emotions, honesty
from contrans.experiments.paper.plan import Model
from contrans.experiments.paper.transplants import Route, best
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.models.hooks import edit_residual
from contrans.models.lm import LM
from contrans.models.scoring import continuation_ids
from contrans.report.blocks import Table
from contrans.report.figures import bars
from contrans.report.sheet import Sheet

MOST = 10
SHOWN = 8
WHERE = "appendix B.3, Table 8"


def run(lab: Lab) -> Sheet:
    """Six emotions and honesty; the same for random vectors of equal length."""
    plan = lab.plan
    assert plan.emotions is not None
    place = plan.emotions.targets[0].model
    route, rows = Route(plan.emotions.weak, place), []
    named, at_random, texts, others, agreeing = {}, {}, {}, [], []
    for name, subject in emotions(plan, lab.limit).items():
        planted = best(lab, route, subject)
        found = _shifts(lab, place, subject, planted)
        drawn = Planted(random_like(planted.vector, seed=1000), *_rest(planted))
        other = _shifts(lab, place, subject, drawn)
        words = _first_tokens(lab.lm(place), subject)
        right = words[subject.answer or name]
        rest = [i for word, i in words.items() if word != subject.answer]
        texts[name] = (*subject.test_task.texts, *subject.positives)
        named[name] = [float(right in up) for up in found["up"]]
        at_random[name] = [float(right in up) for up in other["up"]]
        others += [np.mean([i in down for i in rest]) for down in found["down"]]
        agreeing += _agreement(found["up"])
        rows.append(_row(lab.lm(place), name, found))
    subject = honesty(plan, lab.limit)
    series = plan.series[0]
    path = into(series, series.targets[-1])
    honest = _shifts(lab, path.target, subject, best(lab, path, subject))
    rows.append(_row(lab.lm(path.target), "honesty", honest))
    names = list(named)
    return Sheet(
        title="Tokens that gain and lose probability",
        about=f"Emotions in {place}, honesty in {path.target}, on test prompts. "
        f"(token, k): among the {MOST} largest changes of k texts.",
        tables=(Table("", "Tokens", ("concept", "n", "gain", "lose"), tuple(rows)),),
        claims=(
            judge(
                "the emotion's own word gains (the paper: some related tokens)",
                WHERE,
                pooled(
                    [(named[n], at_random[n]) for n in names], [texts[n] for n in names]
                ),
                above=0,
                how=f"share of texts with the word among the {MOST} largest gains, "
                "minus that of a random vector of equal length",
            ),
            judge(
                "words of the other emotions lose",
                WHERE,
                average(others, [text for name in names for text in texts[name]]),
                above=MOST / len(lab.lm(place).tokenizer),
                how=f"share of the other five words among the {MOST} largest losses; "
                "the bound is chance",
            ),
            judge(
                "for honesty no clear tokens change regularly",
                WHERE,
                apart(agreeing, _agreement(honest["up"])),
                above=0,
                how="agreement of texts on their gaining tokens, emotions minus honesty",
            ),
        ),
        notes=(
            "The words are compared by their first sub-token.",
            f"A text's agreement is the mean share of other texts that its {MOST} "
            "gaining tokens also gain in.",
        ),
        draw=lambda: bars(
            names,
            {
                "random vector": [average(at_random[n]) for n in names],
                "transplant": [average(named[n]) for n in names],
            },
            "share of texts whose word gains",
        ),
    )


def _rest(planted: Planted) -> tuple[tuple[int, int], float, float]:
    return planted.layers, planted.raw, planted.relative


def _first_tokens(lm: LM, subject: Subject) -> dict[str, int]:
    """The first sub-token of every emotion word, as the model would go on."""
    task: Any = subject.test_task
    prompt = subject.test_task.texts[0]
    return {w: continuation_ids(lm, prompt, f" {w}")[0] for w in task.options}


def _shifts(
    lab: Lab, model: Model, subject: Subject, planted: Planted
) -> dict[str, list[list[int]]]:
    """Per text, the tokens with the largest gains and losses of probability."""
    layer, texts = planted.layers[1], list(subject.test_task.texts)
    if subject.answer is not None:
        texts += subject.positives
    push = planted.raw * planted.vector[layer]

    def make(lm: LM) -> dict[str, list[list[int]]]:
        states = lab.stages.states(lm, texts, [layer], f"states, {subject.name}")
        stream = states.at(layer)
        change = lens(lm, stream + push) - lens(lm, stream)
        return {
            "up": change.topk(MOST).indices.tolist(),
            "down": (-change).topk(MOST).indices.tolist(),
        }

    return lab.kept("lens", model, make, layer=layer, texts=texts, push=push, n=MOST)


@torch.no_grad()
def lens(lm: LM, states: torch.Tensor) -> torch.Tensor:
    """Probabilities of the next token, read from any stream by the model's own head.

    The states stand in for the output of the last block of a one-token text.
    """
    ids = torch.full((len(states), 1), lm.pad_id, device=lm.device)

    def put(hidden: torch.Tensor) -> torch.Tensor:
        return states[:, None].to(hidden)

    with edit_residual(lm, {lm.layers - 1: put}):
        logits = lm.model(input_ids=ids).logits[:, -1]
    return logits.float().softmax(-1).cpu()


def _agreement(tokens: list[list[int]]) -> list[float]:
    """Per text, how far it agrees with the others, as the jackknife's pseudo-values.

    Their mean is the mean share of other texts that a text's tokens also gain in. That
    is an average over pairs of texts, so the shares depend on each other and their own
    spread is about half of what it should be; pseudo-values of such an average (Efron
    and Stein 1981) have the right one.
    """
    n = len(tokens)
    often = Counter(token for row in tokens for token in row)
    shares = np.array(
        [np.mean([(often[t] - 1) / max(n - 1, 1) for t in row]) for row in tokens]
    )
    if n < 3:
        return shares.tolist()
    return ((2 * (n - 1) * shares - n * shares.mean()) / (n - 2)).tolist()


def _row(lm: LM, name: str, found: dict[str, list[list[int]]]) -> tuple[Any, ...]:
    def told(rows: list[list[int]]) -> str:
        often = Counter(token for row in rows for token in row).most_common(SHOWN)
        return ", ".join(
            f"({str(lm.tokenizer.decode([t])).strip()}, {k})" for t, k in often
        )

    return name, len(found["up"]), told(found["up"]), told(found["down"])
