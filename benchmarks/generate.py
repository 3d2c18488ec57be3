"""Greedy generation of 64 tokens: what the hook costs.

A hook costs microseconds a token, and a machine's speed drifts by more from one generation to
the next. So the methods generate side by side, one token of each after another, each on a
model of its own that shares the weights; the median time of a token is compared.
"""

from functools import partial

import torch
from common import (
    Ratio,
    Report,
    arguments,
    prompts,
    random_lm,
    random_vector,
    ratio,
    show,
)
from lockstep import lockstep, twin
from transformers import StoppingCriteria, StoppingCriteriaList

from contrans.control.steer import Steer
from contrans.models.lm import LM


def tokens(
    lm: LM,
    ids: torch.Tensor,
    new: int,
    steer: Steer | None,
    watch: StoppingCriteria | None = None,
) -> torch.Tensor:
    """Continuations, steered or not."""

    def run() -> torch.Tensor:
        return lm.model.generate(
            stopping_criteria=StoppingCriteriaList([watch] if watch else []),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=lm.pad_id,
        )

    if steer is None:
        return run()
    with steer.on(lm):
        return run()


@torch.no_grad()
def plain_hook(
    lm: LM,
    ids: torch.Tensor,
    new: int,
    steer: Steer,
    watch: StoppingCriteria | None = None,
) -> torch.Tensor:
    """The same by the plainest forward hook there is."""
    ((layer, push),) = steer.pushes(lm.layers).items()
    push = push.to(lm.device, lm.dtype)

    def hook(_module, _args, out):
        return (
            out + push if isinstance(out, torch.Tensor) else (out[0] + push, *out[1:])
        )

    handle = lm.blocks[layer].register_forward_hook(hook)
    try:
        return tokens(lm, ids, new, None, watch)
    finally:
        handle.remove()


def main(options) -> list[Report]:
    lm = random_lm(dtype=options.dtype, device=options.device)
    lm.model.generation_config.eos_token_id = None
    new, found = (16 if options.quick else 64), []
    steer = Steer(random_vector(lm), layers=(6,), strength=1.0)
    for batch in (1, 16):
        row = lm.encode(prompts("anger", 1))[0]
        ids = torch.tensor([row] * batch, device=lm.device)
        equal = torch.equal(
            tokens(lm, ids, new, steer), plain_hook(lm, ids, new, steer)
        )
        times = lockstep(
            {
                "steered": partial(tokens, twin(lm), ids, new, steer),
                "unsteered": partial(tokens, twin(lm), ids, new, None),
                "plain forward hook": partial(plain_hook, twin(lm), ids, new, steer),
            },
            options,
        )
        speed = Ratio(
            "speed of steered / unsteered",
            ratio(times, "unsteered", "steered"),
            0.98,
        )
        on = f"{lm.name}, {options.dtype}, {new} tokens, batch {batch}; seconds a token"
        checks = {"same tokens as a plain hook": equal}
        found.append(Report("generate", on, times, [speed], checks))
    return found


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
