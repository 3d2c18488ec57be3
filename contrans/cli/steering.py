"""From --steer, --strength, --unit and --layers to controls.

Imports torch: verbs import this module inside their functions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrans.cli import console
from contrans.control.steer import Steer
from contrans.core.parsing import parse_layers
from contrans.core.types import ConceptVector
from contrans.export.open_vector import read_vector
from contrans.library import file_named, named
from contrans.models.lm import LM


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """A vector as named on the command line, with the strength it is used at."""

    label: str
    value: ConceptVector
    strength: float
    kl: float | None = None
    """Or the dose that the strength is to have in the model, in nats per token."""


def load_vectors(
    files: Sequence[str],
    strengths: Sequence[float] | None,
    unit: str,
    kls: Sequence[float] | None = None,
) -> list[Vector]:
    """Read the vectors and decide their strengths.

    Args:
        files: files, folders or entries of the library.
        strengths: one for each, or one for all; None takes what was chosen.
        unit: "raw", or "relative" to the residual norm.
        kls: doses in nats in their place, one for each or one for all; `dosed` finds the
            strengths once the model is there.

    Raises:
        FileNotFoundError, ValueError, KeyError: see `contrans.core.artifacts.load`; also when
            the numbers of vectors and strengths differ.
    """
    console.check_choice("unit", unit, ("raw", "relative"))
    given, wanted = list(strengths or []), list(kls or [])
    if wanted and (given or unit != "raw"):
        raise ValueError(
            "--kl says how strong the edit is; leave out --strength and --unit"
        )
    for option, what, numbers in (
        ("strength", "strengths", given),
        ("kl", "doses", wanted),
    ):
        if len(numbers) not in (0, 1, len(files)):
            raise ValueError(
                f"{len(numbers)} {what} for {len(files)} vectors; give one --{option} for "
                "all, or one for each in the order of --steer"
            )
    found = []
    for i, file in enumerate(files):
        path = file_named(file, "vector")
        vector, chosen = read_vector(path)
        if given:
            strength = given[i % len(given)]
        elif unit == "raw":
            strength = chosen
        else:
            raise ValueError(
                "--unit relative needs --strength, such as 0.3 (30% of the stream)"
            )
        label = path.parent.name or "." if Path(file).is_dir() else path.stem
        label = file if named(file) else label
        kl = wanted[i % len(wanted)] if wanted else None
        found.append((Vector(label, vector, strength, kl), file))
    return _told_apart(found)


def _told_apart(found: list[tuple[Vector, str]]) -> list[Vector]:
    """Vectors of one label and strength are called what the user called them."""
    count = Counter((vector.label, vector.strength) for vector, _ in found)
    return [
        replace(vector, label=file)
        if count[vector.label, vector.strength] > 1
        else vector
        for vector, file in found
    ]


def dosed(lm: LM, vectors: Sequence[Vector], **how: Any) -> list[Vector]:
    """The vectors at the strengths that have their doses in this model, each by itself.

    Args:
        lm: the model.
        vectors: from `load_vectors`; those without a dose stay as they are.
        **how: layers, positions and any_model, as of `steer`.

    Raises:
        ValueError: for a dose that is none, or that no strength has.
    """
    from contrans.evaluation.dose import neutral_texts, strength_for

    found = []
    for vector in vectors:
        if vector.kl is None:
            found.append(vector)
            continue
        with steer(vector, **how).on(lm):  # whatever is wrong, it is wrong now
            pass
        raw, dose = strength_for(
            lm,
            neutral_texts(),
            lambda x, v=vector: steer(replace(v, strength=x), **how),
            vector.kl,
            start=abs(vector.strength) or 1.0,
        )
        found.append(replace(vector, strength=float(f"{raw:.4g}")))
        shares = [
            vector.value.relative_strength(layer, raw) for layer in vector.value.layers
        ]
        known = [share for share in shares if share is not None]
        share = f", relative {max(known):.2g}" if known else ""
        console.note(
            f"{vector.label}: {dose.kl:.3f} \u00b1 {dose.stderr:.3f} nats per token (95th "
            f"percentile {dose.p95:.3f}) on neutral text at strength {raw:.4g}{share}"
        )
    return found


def steer(
    vector: Vector,
    *,
    unit: str = "raw",
    layers: str | None = None,
    positions: str = "all",
    any_model: bool = False,
    factor: float = 1.0,
    value: Any = None,
) -> Steer:
    """A control from a vector; `value` replaces it, as a random control does.

    Args:
        vector: from `load_vectors`.
        unit: "raw", or "relative" to the residual norm.
        layers: such as "3" or "2-5"; None takes all.
        positions: "all", "prompt" or "generated".
        any_model: take a vector of another model too.
        factor: of the strength.
        value: a concept vector in its place.
    """
    console.check_choice("positions", positions, ("all", "prompt", "generated"))
    return Steer(
        vector.value if value is None else value,
        layers=parse_layers(layers),
        strength=vector.strength * factor,
        unit=unit,  # type: ignore[arg-type]
        positions=positions,  # type: ignore[arg-type]
        any_model=any_model,
    )
