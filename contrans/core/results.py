"""The result of a transplant as a typed value, from where it is made to the page.

What is not here cannot be written, and what is missing or renamed is an error where it
is made, not a dash in the report. `results.json` is `as_dict()` of it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from contrans.core.files import finite

SCHEMA = 3
"""Version of the form of results.json: raised when a field comes, goes or changes."""
STRICT = ConfigDict(extra="forbid")
"""All fields and no others."""


def _or_nan(value: Any) -> Any:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_or_nan)]
"""A number; where it is not finite, JSON has null."""
Kind = Literal["base", "method", "reference", "control"]


@dataclass(frozen=True, config=STRICT)
class ModelInfo:
    """A model that took part."""

    name: str
    fingerprint: str
    layers: int
    hidden: int
    context: int
    dtype: str
    tokenizer: str


@dataclass(frozen=True, config=STRICT)
class PairCounts:
    """Prompt pairs of each split."""

    refine: int
    validate: int
    test: int


@dataclass(frozen=True, config=STRICT)
class ConceptInfo:
    """What was carried over."""

    name: str
    title: str
    answer: str | None
    task: str
    origin: str
    digest: str
    pairs: PairCounts


@dataclass(frozen=True, config=STRICT)
class Truncated:
    """Corpus texts that lost their beginning in either model."""

    source: int
    target: int


@dataclass(frozen=True, config=STRICT)
class CorpusInfo:
    """What the map was fitted on."""

    name: str
    n: int
    digest: str
    truncated: Truncated


@dataclass(frozen=True, config=STRICT)
class LayerReliability:
    """How dependable the concept is at a layer of the source."""

    layer: int
    cosine: Number
    auroc: Number
    separation: Number


@dataclass(frozen=True, config=STRICT)
class MapInfo:
    """The map that was used, and what held-out text says about it."""

    method: str
    n: int
    n_test: int
    r2: float | None
    r2_differences: float | None
    effective_rank: Number
    rank: int
    ridge: Number
    loo_error: float | None
    warnings: tuple[str, ...]
    left_out: tuple[int, ...] = ()
    """Texts that took no part in the fit."""


@dataclass(frozen=True, config=STRICT)
class DiagnosisInfo:
    """What the map does to the concept, before anything was tried."""

    span: Number
    spread: Number
    cosine_own: Number
    auroc: Number
    r2_pairs: Number
    length_ratio: Number
    warnings: tuple[str, ...]


@dataclass(frozen=True, config=STRICT)
class DoseInfo:
    """How far an edit moves the predictions on neutral text, in nats per token."""

    kl: Number
    """Mean divergence from the unedited model."""
    p95: Number
    """95th percentile over tokens."""
    stderr: Number
    """Standard error of the mean, over texts."""
    tokens: int
    """Tokens whose prediction was compared."""


@dataclass(frozen=True, config=STRICT)
class TriedPoint:
    """What one strength at one pair of layers did on validation prompts."""

    source: int
    target: int
    raw: float
    relative: float
    effect: Number
    value: Number
    low: Number
    high: Number
    fine: Number
    fine_stderr: Number
    dose: DoseInfo | None
    perplexity: float | None
    """None where the budget is one of nats, which needs no perplexity."""
    perplexity_ratio: float | None


@dataclass(frozen=True, config=STRICT)
class CandidateInfo:
    """A pair of layers: what the diagnosis says of it, and what validation says."""

    source: int
    target: int
    promise: Number
    effect: Number
    stderr: Number
    shrunk: Number


@dataclass(frozen=True, config=STRICT)
class Promise:
    """What the diagnosis promises of a pair of layers."""

    source: int
    target: int
    promise: Number


@dataclass(frozen=True, config=STRICT)
class DecisionInfo:
    """What chose layers and strength, and why."""

    how: str
    why: str
    score: str
    fine: str | None
    stuck: bool
    candidates: tuple[CandidateInfo, ...]
    promises: tuple[Promise, ...]


@dataclass(frozen=True, config=STRICT)
class LayersInfo:
    """The layers, how they were chosen, and everything that was tried."""

    source: int
    target: int
    how: str
    tried: tuple[TriedPoint, ...]


@dataclass(frozen=True, config=STRICT)
class StrengthInfo:
    """The strength, how it was chosen, and what was tried at the chosen layers."""

    raw: float
    relative: float
    dose: DoseInfo
    """On the texts that layers and strength were chosen with."""
    how: str
    budget: float
    budget_unit: Literal["nats", "perplexity"]
    """Nats per token, or a ratio of perplexities."""
    curve: tuple[TriedPoint, ...]


@dataclass(frozen=True, config=STRICT)
class TaskInfo:
    """What was tested."""

    name: str
    metric: str
    chance: float | None
    higher_is_better: bool
    n: int
    split: str
    protocol: str


@dataclass(frozen=True, config=STRICT)
class Change:
    """A difference from no edit, over the same items, with its interval."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True, config=STRICT)
class FineScore:
    """The finest score of a task under one control."""

    name: str
    value: Number
    low: Number
    high: Number
    difference: Change | None
    extra: dict[str, Number]
    """Further numbers, such as the strongest of several draws."""


@dataclass(frozen=True, config=STRICT)
class RowPerplexity:
    """Perplexity under one control, and over that without an edit."""

    value: Number
    stderr: Number
    ratio: Number


@dataclass(frozen=True, config=STRICT)
class EffectRow:
    """One line of the effect table."""

    name: str
    kind: Kind
    raw: float | None
    relative: float | None
    dose: DoseInfo | None
    """On the texts of the result; of several draws, the means. None for no edit, and for
    what is no edit of the residual stream."""
    value: Number
    low: Number
    high: Number
    difference: Change | None
    """From no edit; None for no edit itself."""
    extra: dict[str, Number]
    fine: FineScore | None
    perplexity: RowPerplexity


@dataclass(frozen=True, config=STRICT)
class PerplexityTexts:
    """Texts that perplexity was measured on."""

    validate: int
    test: int
    shared: bool
    """Whether the reported ones are those that chose the strength."""


@dataclass(frozen=True, config=STRICT)
class Generation:
    """How the target goes on from a prompt, without and with the edit."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True, config=STRICT)
class TransplantResults:
    """Everything that a transplant found."""

    contrans: str
    command: dict[str, Any]
    """The settings, by name."""
    source: ModelInfo
    target: ModelInfo
    map_source: ModelInfo | None
    aligned_target: ModelInfo | None
    concept: ConceptInfo
    corpus: CorpusInfo
    reliability: tuple[LayerReliability, ...]
    map: MapInfo
    diagnosis: DiagnosisInfo
    decision: DecisionInfo
    layers: LayersInfo
    strength: StrengthInfo
    task: TaskInfo
    rows: tuple[EffectRow, ...]
    perplexity_texts: PerplexityTexts
    generations: tuple[Generation, ...]
    warnings: tuple[str, ...]
    verdict: str
    seed: int
    seconds: dict[str, float]
    schema: Literal[3] = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it: plain values, null for what is not finite."""
        return json.loads(json.dumps(finite(asdict(self))))


_READER: TypeAdapter[TransplantResults] = TypeAdapter(TransplantResults)


def results_from(found: Mapping[str, Any], where: str = "results") -> TransplantResults:
    """What `as_dict` gave.

    Args:
        found: the plain values.
        where: they are from, for errors.

    Raises:
        ValueError: when they are of another version, or a field is missing, unknown or
            of another kind; the message names the first.
    """
    schema = found.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        other = "a newer" if newer else "an older"
        raise ValueError(
            f"{where}: written by {other} contrans ({found.get('contrans', 'unknown')}), "
            f"whose results have another form (schema {schema}, not {SCHEMA}); run the "
            "same command again with --force"
        )
    try:
        return _READER.validate_python(dict(found))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{where} is not what contrans writes: {place}: {first['msg']} "
            f"({error.error_count()} such faults); run the same command again with "
            "--force"
        ) from error


def read_results(path: str | Path) -> TransplantResults:
    """The results in a file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it does not hold results of this version.
    """
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no results of a transplant, but another JSON")
    return results_from(found, str(path))
