"""Results of a made-up transplant, complete and typed."""

from typing import Any

from contrans.core.results import (
    CandidateInfo,
    Change,
    ConceptInfo,
    CorpusInfo,
    DecisionInfo,
    DiagnosisInfo,
    DoseInfo,
    EffectRow,
    FineScore,
    Generation,
    Kind,
    LayerReliability,
    LayersInfo,
    MapInfo,
    ModelInfo,
    PairCounts,
    PerplexityTexts,
    Promise,
    RowPerplexity,
    StrengthInfo,
    TaskInfo,
    TransplantResults,
    TriedPoint,
    Truncated,
)
from contrans.core.version import __version__


def effect_row(
    name: str,
    kind: Kind,
    value: float,
    low: float,
    high: float,
    *,
    base: float = 0.0,
    ratio: float = 1.1,
    **fields: Any,
) -> EffectRow:
    """A line of the table; its interval is also that of the change from `base`."""
    change = Change(value=value - base, low=low - base, high=high - base)
    given = {"raw": None, "relative": None, "dose": None, "extra": {}, "fine": None}
    given |= fields
    return EffectRow(
        name=name,
        kind=kind,
        value=value,
        low=low,
        high=high,
        difference=None if kind == "base" else change,
        perplexity=RowPerplexity(value=10 * ratio, stderr=0.5, ratio=ratio),
        **given,
    )


def fine_score(row: EffectRow, name: str = "margin") -> FineScore:
    """The numbers of a line as those of its finest score."""
    return FineScore(
        name=name,
        value=row.value,
        low=row.low,
        high=row.high,
        difference=row.difference,
        extra=row.extra,
    )


def transplant_results(**fields: Any) -> TransplantResults:
    """Results in which every field has something to say."""
    model = ModelInfo("zoo/small", "f1", 4, 32, 128, "float32", "t1")
    dose = DoseInfo(0.3, 1.2, 0.02, 500)
    point = TriedPoint(2, 3, 1.0, 0.3, 0.4, 0.5, 0.4, 0.6, 1.5, 0.1, dose, 11.0, 1.1)
    given = {
        "contrans": __version__,
        "command": {"source": "zoo/small", "target": "zoo/large", "seed": 0},
        "source": model,
        "target": ModelInfo("zoo/large", "f2", 6, 64, 128, "float32", "t1"),
        "map_source": None,
        "aligned_target": model,
        "concept": ConceptInfo(
            "anger", "Anger", "anger", "emotion", "pack", "d1", PairCounts(60, 20, 40)
        ),
        "corpus": CorpusInfo("built-in", 1000, "d2", Truncated(0, 2)),
        "reliability": (LayerReliability(2, 0.4, 0.9, 1.5),),
        "map": MapInfo(
            "ridge", 900, 100, 0.6, None, 12.5, 30, 6.65, 0.02, ("a warning",)
        ),
        "diagnosis": DiagnosisInfo(0.9, 0.5, 0.47, 0.8, 0.3, 1.0, ()),
        "decision": DecisionInfo(
            "validation",
            "the largest margin within the budget",
            "token accuracy",
            "margin",
            stuck=False,
            candidates=(CandidateInfo(2, 3, 0.4, 1.5, 0.1, 1.4),),
            promises=(Promise(2, 3, 0.4),),
        ),
        "layers": LayersInfo(2, 3, "auto", (point,)),
        "strength": StrengthInfo(1.0, 0.3, dose, "auto", 0.5, "nats", (point,)),
        "task": TaskInfo(
            "anger, test",
            "token accuracy",
            None,
            higher_is_better=True,
            n=40,
            split="test",
            protocol="heldout",
        ),
        "rows": (
            effect_row("no edit", "base", 0.1, 0.0, 0.2, ratio=1.0),
            effect_row("ridge", "method", 0.6, 0.4, 0.8, base=0.1, raw=1.0, dose=dose),
            effect_row("random", "control", 0.1, 0.0, 0.2, base=0.1, raw=1.0),
        ),
        "perplexity_texts": PerplexityTexts(66, 134, shared=False),
        "generations": (Generation("The", " dog", " angry dog"),),
        "warnings": ("read the controls",),
        "verdict": "Transplanted: ridge moved token accuracy by +0.500",
        "seed": 0,
        "seconds": {"search": 1.5},
    }
    return TransplantResults(**given | fields)
