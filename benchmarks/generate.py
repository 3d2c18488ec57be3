"""Greedy generation of 64 tokens: what the hook costs."""

import torch
from common import (
    Ratio,
    Report,
    arguments,
    prompts,
    race,
    random_lm,
    random_vector,
    ratio,
    show,
)

from contrans.control import Steer
from contrans.models import LM


def tokens(lm: LM, ids: torch.Tensor, new: int, steer: Steer | None) -> torch.Tensor:
    """Continuations, steered or not."""

    def run() -> torch.Tensor:
        return lm.model.generate(
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
def plain_hook(lm: LM, ids: torch.Tensor, new: int, steer: Steer) -> torch.Tensor:
    """The same by the plainest forward hook there is."""
    ((layer, push),) = steer.pushes(lm.layers).items()
    push = push.to(lm.device, lm.dtype)

    def hook(_module, _args, out):
        return (
            out + push if isinstance(out, torch.Tensor) else (out[0] + push, *out[1:])
        )

    handle = lm.blocks[layer].register_forward_hook(hook)
    try:
        return tokens(lm, ids, new, None)
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
        times = race(
            {
                "steered": lambda ids=ids: tokens(lm, ids, new, steer),
                "unsteered": lambda ids=ids: tokens(lm, ids, new, None),
                "plain forward hook": lambda ids=ids: plain_hook(lm, ids, new, steer),
            },
            options,
            more=4,
        )
        speed = Ratio(
            "speed of steered / unsteered", ratio(times, "unsteered", "steered"), 0.98
        )
        on = f"{lm.name}, {options.dtype}, {new} tokens, batch {batch}"
        checks = {"same tokens as a plain hook": equal}
        found.append(Report("generate", on, times, [speed], checks))
    return found


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
