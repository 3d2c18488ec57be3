"""The result of a transplant: typed, complete, and the same again from its file."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from pydantic import ValidationError

from contrans.core.results import (
    SCHEMA,
    CandidateInfo,
    DiagnosisInfo,
    DoseInfo,
    LayerReliability,
    MapInfo,
    TransplantResults,
    TriedPoint,
    read_results,
    results_from,
)
from contrans.core.types import FitReport
from contrans.evaluation import Measurement
from contrans.evaluation.dose import Dose
from contrans.experiments.cached import row
from contrans.experiments.search import Candidate, Point
from contrans.vectors.concepts import Reliability
from contrans.vectors.diagnostics import Diagnosis
from tests.result_parts import effect_row, transplant_results


def test_results_come_back_as_they_were(tmp_path):
    results = transplant_results()
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.as_dict(), allow_nan=False))
    assert read_results(path) == results
    assert results.as_dict()["schema"] == SCHEMA


def test_what_is_not_finite_is_null_in_the_file_and_nan_in_the_value():
    row = effect_row("ridge", "method", 0.5, 0.4, 0.6)
    odd = replace(row, perplexity=replace(row.perplexity, stderr=float("nan")))
    plain = transplant_results(rows=(odd,)).as_dict()
    assert plain["rows"][0]["perplexity"]["stderr"] is None
    again = results_from(plain).rows[0]
    assert again.perplexity.stderr != again.perplexity.stderr
    assert again.difference == row.difference


@pytest.mark.parametrize("name", [f.name for f in fields(TransplantResults)][:-1])
def test_a_missing_or_renamed_field_cannot_be_written(name):
    whole = transplant_results()
    given = {f.name: getattr(whole, f.name) for f in fields(whole)}
    value = given.pop(name)
    with pytest.raises(ValidationError, match=rf"(?m)^{name}$"):
        TransplantResults(**given)
    with pytest.raises(ValidationError, match=rf"(?m)^{name}s_$"):
        TransplantResults(**given, **{name: value, f"{name}s_": value})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("rows", 0, "perplexity", "ratio"), "rows.0.perplexity.ratio: Field required"),
        (("concept", "pairs", "test"), "concept.pairs.test: Field required"),
        (("strength", "curve", 0, "fine"), "strength.curve.0.fine: Field required"),
    ],
)
def test_a_field_that_is_missing_or_unknown_anywhere_in_a_file_is_named(path, said):
    plain = transplant_results().as_dict()
    place = plain
    for key in path[:-1]:
        place = place[key]
    value = place.pop(path[-1])
    with pytest.raises(ValueError, match=said):
        results_from(plain, "results.json")
    place[path[-1]], place["other"] = value, value
    with pytest.raises(ValueError, match=r"other: Unexpected keyword argument"):
        results_from(plain, "results.json")


@pytest.mark.parametrize(
    ("schema", "age"), [(None, "an older"), (1, "an older"), (SCHEMA + 1, "a newer")]
)
def test_results_of_another_version_say_so(schema, age):
    plain = transplant_results().as_dict() | {"schema": schema, "contrans": "9.8.7"}
    with pytest.raises(ValueError, match=rf"r\.json: written by {age} contrans \(9\.8"):
        results_from(plain, "r.json")


@pytest.mark.parametrize(
    ("made", "kept", "beside"),
    [
        (FitReport, MapInfo, {"method", "left_out"}),
        (Diagnosis, DiagnosisInfo, set()),
        (Reliability, LayerReliability, set()),
        (Point, TriedPoint, set()),
        (Candidate, CandidateInfo, set()),
        (Dose, DoseInfo, set()),
    ],
)
def test_results_keep_every_field_of_what_is_made(made, kept, beside):
    """So that a run does not end in an error about a field that was added."""
    there = {f.name for f in fields(kept)}
    assert {f.name for f in fields(made)} | beside == there | beside
    assert beside <= there


def test_a_row_is_made_of_what_was_measured():
    found = [
        Measurement(np.array(v), {"margin": np.array(m)}, fine="margin", losses=losses)
        for v, m, losses in (
            ([0.0, 0.0, 1.0], [-1.0, -2.0, 0.5], ((20.0, 10.0), (30.0, 10.0))),
            ([1.0, 0.0, 1.0], [1.0, -0.5, 1.5], ((21.0, 10.0), (31.0, 10.0))),
            ([1.0, 1.0, 1.0], [2.0, 1.5, 2.5], ((22.0, 10.0), (32.0, 10.0))),
        )
    ]
    base, *draws = found
    doses = [Dose(0.2, 0.9, 0.01, 500), Dose(0.4, 1.5, 0.03, 500)]
    line = row(
        "random", "control", draws, base, higher_is_better=True, raw=2.0, doses=doses
    )
    assert line.dose is not None
    found = (line.dose.kl, line.dose.p95, line.dose.stderr, line.dose.tokens)
    assert found == pytest.approx((0.3, 1.2, 0.02, 500))
    assert (line.kind, line.raw, line.relative) == ("control", 2.0, None)
    assert line.value == pytest.approx(5 / 6)
    assert line.difference is not None
    assert line.difference.value == pytest.approx(0.5)
    assert line.fine is not None
    assert line.fine.value == pytest.approx(np.mean([2 / 3, 2.0]))
    assert line.extra["strongest draw"] == 1.0
    assert line.fine.extra["strongest draw"] == 2.0
    assert line.perplexity.value == pytest.approx(np.exp([2.6, 2.7]).mean())
    assert line.perplexity.ratio == pytest.approx(np.exp([0.1, 0.2]).mean())


def test_nothing_changes_results():
    with pytest.raises(AttributeError):
        transplant_results().verdict = "better"
