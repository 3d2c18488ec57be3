"""How time grows with the number of texts, width, depth and number of concepts."""

import math
import time

import torch
from common import HERE, Ratio, Report, arguments, prompts, random_lm, show

from contrans.models.collect import collect
from contrans.vectors.ridge import Factor


def best(function, rounds: int) -> float:
    """Least CPU time of some runs."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def curves(options) -> dict[str, tuple[list[int], list[float], float]]:
    """Sizes, seconds, and the power of the size by which the work grows."""
    steps, rounds = (3, 2) if options.quick else (4, options.rounds)
    texts = prompts("anger", 100)
    found: dict[str, tuple[list[int], list[float], float]] = {}
    lm = random_lm(width=256, depth=4)
    sizes = [25 * 2**i for i in range(steps)]
    times = [best(lambda n=n: collect(lm, texts[:n]), rounds) for n in sizes]
    found["texts"] = sizes, times, 1.0
    sizes = [256 * 2**i for i in range(steps - 1)]
    times = []
    for width in sizes:
        wide = random_lm(width=width, depth=2)
        times.append(best(lambda wide=wide: collect(wide, texts[:32]), rounds))
    found["width"] = sizes, times, 2.0
    sizes = [2 * 2**i for i in range(steps)]
    times = []
    for depth in sizes:
        deep = random_lm(width=256, depth=depth)
        times.append(best(lambda deep=deep: collect(deep, texts[:32]), rounds))
    found["depth"] = sizes, times, 1.0
    x, y = torch.randn(400, 1024), torch.randn(400, 1024)
    factor = Factor.of(x)
    strength = factor.choose(y).strength
    sizes = [8 * 2**i for i in range(steps + 2)]
    times = [
        best(lambda k=k: factor.directions(torch.randn(k, 1024), y, strength), rounds)
        for k in sizes
    ]
    found["concepts"] = sizes, times, 1.0
    return found


def plot(found: dict, path) -> None:
    """Time against size on double logarithmic axes, the work as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(3 * len(found), 3))
    for axis, (name, (sizes, times, power)) in zip(axes, found.items(), strict=True):
        work = [times[0] * (size / sizes[0]) ** power for size in sizes]
        axis.loglog(sizes, times, "o-", label="time")
        axis.loglog(sizes, work, "--", label="work")
        axis.set(title=name, xlabel=name)
    axes[0].set_ylabel("CPU seconds")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main(options) -> list[Report]:
    found = curves(options)
    plot(found, HERE / "growth.svg")
    ratios = []
    for name, (sizes, times, power) in found.items():
        slope = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
        ratios.append(
            Ratio(
                f"exponent of {name}; that of the work is {power:g}",
                slope,
                power + 0.1,
                at_least=False,
            )
        )
    seconds = {
        f"{name} = {size}": [t]
        for name, (sizes, times, _) in found.items()
        for size, t in zip(sizes, times, strict=True)
    }
    return [Report("growth", "![growth](growth.svg)", seconds, ratios)]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
