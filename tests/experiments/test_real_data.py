"""The published protocols on a zoo model: whole, resumable, and equal to a recount."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from contrans.experiments.real_data.page import page
from contrans.experiments.real_data.run import FILES, parts, run

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*mc_task\.json; --data needs"):
        list(parts(tmp_path, limit=1, new_tokens=4, seed=0))


def test_every_protocol_runs_and_is_checked(tmp_path):
    if not all((SHARED / name).exists() for name in FILES.values()):
        pytest.skip("the published data are not beside the project")
    said = []
    found = run(
        SHARED,
        ["zoo/small"],
        limit=2,
        new_tokens=4,
        cache=tmp_path,
        progress=said.append,
    )
    assert len(said) == len(found["parts"]) == 9
    checked = [check for part in found["parts"] for check in part["checks"]]
    assert len(checked) == 4 + bool(find_spec("lm_eval"))
    assert all(check["passed"] for check in checked)
    text = page(found)
    assert "A quick look" in text
    assert "truthfulqa_mc1" in text
    assert "own vector x 1" in text
    assert "**differs**" not in text
    # The second run measures nothing.
    again = run(SHARED, ["zoo/small"], limit=2, new_tokens=4, cache=tmp_path)
    assert again == found
