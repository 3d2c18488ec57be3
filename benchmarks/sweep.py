"""A sweep of 8 strengths over 6 layers of the upper half, against 48 single runs."""

import torch
from common import Ratio, Report, arguments, race, random_lm, random_vector, ratio, show
from emotion import scenarios

from contrans.control.steer import Steer
from contrans.models.lm import LM
from contrans.models.scoring import last_token_logits, last_token_logits_under


def apart(lm: LM, rows: list, steers: list[Steer], share: bool) -> list[torch.Tensor]:
    """Our own task with last-position logits, once per point."""
    found = []
    for steer in steers:
        with steer.on(lm):
            logits = dict(last_token_logits(lm, rows, share=share))
        found.append(torch.stack([logits[i] for i in range(len(rows))]))
    return found


def together(
    lm: LM, rows: list, steers: list[Steer], share: bool
) -> list[torch.Tensor]:
    """All points in one pass."""
    found: list[list] = [[None] * len(rows) for _ in steers]
    for control, row, logits in last_token_logits_under(lm, rows, steers, share=share):
        found[control][row] = logits
    return [torch.stack(line) for line in found]


def main(options) -> list[Report]:
    lm = random_lm(dtype=options.dtype, device=options.device)
    n = 4 if options.quick else 8
    count, first = (2, 8) if options.quick else (8, lm.layers // 2)
    rows = lm.encode(scenarios(options, "anger", n))
    vector = random_vector(lm)
    steers = [
        Steer(vector, layers=(layer,), strength=0.25 * (i + 1))
        for layer in range(first, lm.layers)
        for i in range(count)
    ]
    some = steers[::count]  # one strength a layer: the others take as long
    equal = {}
    for share in (True, False):
        singly, at_once = (
            apart(lm, rows, some, share),
            together(lm, rows, steers, share),
        )
        equal[share] = all(
            torch.equal(a, b) for a, b in zip(singly, at_once[::count], strict=True)
        )
    times = race(
        {
            "together": lambda: together(lm, rows, steers, True),
            "together, without shared prefixes": lambda: together(
                lm, rows, steers, False
            ),
            "apart": lambda: apart(lm, rows, some, True),
            "apart, without shared prefixes": lambda: apart(lm, rows, some, False),
        },
        options,
    )
    for name in ("apart", "apart, without shared prefixes"):
        times[name] = [count * seconds for seconds in times[name]]
    ratios = [
        Ratio(
            "apart / together, shared prefixes in both",
            ratio(times, "apart", "together"),
        ),
        Ratio(
            "apart / together, shared prefixes in neither",
            ratio(
                times,
                "apart, without shared prefixes",
                "together, without shared prefixes",
            ),
        ),
        Ratio(
            "apart without shared prefixes / together",
            ratio(times, "apart, without shared prefixes", "together"),
            4.5,
        ),
    ]
    checks = {
        "bit-equal": equal[True],
        "bit-equal without shared prefixes": equal[False],
    }
    on = (
        f"{lm.name}, {options.dtype}, {n} six-shot prompts, {len(steers)} points; apart: "
        f"{len(some)} of them, times {count}"
    )
    return [Report("sweep", on, times, ratios, checks)]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
