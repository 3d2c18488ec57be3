"""The acceptance bars of the zoo, and the page that shows them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from contrans.experiments.zoo.evidence import SHUFFLES


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and its bar."""

    name: str
    value: float
    bar: str
    holds: bool
    note: str = ""


def checks(measured: Sequence[dict[str, Any]]) -> list[Check]:
    """The acceptance bars, on the mean over the sets of models."""

    def emotion(key: str) -> float:
        return float(
            np.mean([[e[key] for e in m["emotions"].values()] for m in measured])
        )

    def other(name: str, key: str) -> float:
        return float(np.mean([m[name][key] for m in measured]))

    def every(key: str) -> bool:
        return all(e[key] for m in measured for e in m["emotions"].values())

    base = emotion("no edit")
    shuffled = f"best of {SHUFFLES} shuffled maps"
    h_base, f_base = other("honesty", "no edit"), other("fairness", "no edit")
    found = [
        Check("emotions: no edit", base, ".02 to .10", 0.02 <= base <= 0.10),
        *(
            Check(
                f"emotions: {m}, aligned source",
                emotion(m),
                ">= .80",
                emotion(m) >= 0.8,
            )
            for m in ("ConTrans", "ridge")
        ),
        *(
            Check(
                f"emotions: {key}",
                emotion(key),
                f"<= {base + 0.08:.3f} (no edit + .08)",
                emotion(key) <= base + 0.08,
            )
            for key in ("random", "another emotion", "shuffled map")
        ),
    ]
    gain = emotion("ridge") - emotion("base source, ridge, same raw")
    equal = emotion("ridge") - emotion("base source, ridge, equal norm")
    found.append(
        Check(
            "emotions: aligned minus base source, same raw strength",
            gain,
            ">= +.15",
            gain >= 0.15,
            f"at equal norm: {equal:+.3f}",
        )
    )
    neutral = emotion("neutral map")
    found.append(
        Check(
            "emotions: map on neutral text only",
            neutral,
            f"<= {base + 0.02:.3f} (no edit + .02), warned beforehand",
            neutral <= base + 0.02 and every("neutral map, warned"),
            f"R² {emotion('neutral map, R2'):.2f} against {emotion('broad map, R2'):.2f} "
            f"of the broad corpus; warned: {every('neutral map, warned')}",
        )
    )
    h = other("honesty", "ridge")
    found += [
        Check("honesty: gain", h - h_base, ">= +.15", h - h_base >= 0.15),
        Check(
            f"honesty: above the {shuffled}, equal norm",
            h - other("honesty", shuffled),
            ">= +.08",
            h - other("honesty", shuffled) >= 0.08,
        ),
        Check(
            "honesty: opposite sign",
            other("honesty", "opposite sign") - h_base,
            "<= -.15",
            other("honesty", "opposite sign") - h_base <= -0.15,
        ),
    ]
    f = other("fairness", "ridge")
    control = min(other("fairness", "random"), other("fairness", shuffled))
    ratio = other("fairness", "perplexity ratio")
    found += [
        Check(
            "fairness: fall of the unkind share",
            f_base - f,
            ">= .25",
            f_base - f >= 0.25,
        ),
        Check(
            "fairness: below every control", control - f, ">= .15", control - f >= 0.15
        ),
        Check("fairness: perplexity ratio", ratio, "<= 1.10", ratio <= 1.10),
        Check(
            "strength 0 is bit-identical",
            float(every("zero is identical")),
            "always",
            every("zero is identical"),
        ),
        Check(
            "effect over strength: largest fall up to relative strength 1",
            emotion("monotone"),
            "<= .02",
            emotion("monotone") <= 0.02,
        ),
    ]
    return found


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    columns = list(next(iter(rows.values())))
    lines = [
        "| | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, entry in rows.items():
        cells = (
            f"{entry[c]:.0f}"
            if (entry[c] == int(entry[c]) and c in ("n",)) or "layer" in c
            else f"{entry[c]:.3f}"
            for c in columns
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def to_markdown(measured: Sequence[dict[str, Any]]) -> str:
    """The page that is committed under `docs/results/`."""
    lines = [
        "# What the embedded zoo shows",
        "",
        "Printed by `contrans zoo evidence`. Layers and strength chosen on validation "
        "prompts, test prompts (unseen templates) touched once; the figures are means "
        f"over {len(measured)} training seed(s): "
        + ", ".join(m["models"] for m in measured)
        + ". A tiny microworld is no evidence about large models.",
        "",
        "| check | value | bar | holds | |",
        "| --- | ---: | --- | --- | --- |",
    ]
    lines += [
        f"| {c.name} | {c.value:.3f} | {c.bar} | {'yes' if c.holds else '**no**'} | {c.note} |"
        for c in checks(measured)
    ]
    for m in measured:
        lines += ["", f"## Models: {m['models']}", "", "Token Acc on negatives:", ""]
        lines += _table(m["emotions"])
        lines += ["", "Honesty and fairness:", ""]
        lines += _table({k: m[k] for k in ("honesty",)})
        lines += [""]
        lines += _table({k: m[k] for k in ("fairness",)})
    return "\n".join(lines) + "\n"


def as_json(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures and checks for programs."""
    return {"checks": [asdict(c) for c in checks(measured)], "measured": list(measured)}
