"""The verb `recipe`."""

import json
import subprocess
import sys

import pytest

from contrans.experiments.paper import RECIPES
from contrans.models import zoo
from tests.recipe_plans import quick_plan

needs_zoo = pytest.mark.skipif(not zoo.names(), reason="weights are not trained yet")


def test_the_list_names_every_recipe_without_torch():
    code = (
        "import sys; from contrans.cli import app; "
        "app(['recipe', 'list'], standalone_mode=False); "
        "assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, entry in RECIPES.items():
        assert name in done.stdout
        assert entry.paper in done.stdout


def test_the_list_as_json(ok):
    found = json.loads(ok("recipe", "list", "--json").stdout)
    assert list(found) == list(RECIPES)
    assert found["figure4"]["needs"] == ["sizes"]


@needs_zoo
def test_one_recipe_from_a_plan_of_ones_own(ok, fails, tmp_path):
    plan = quick_plan(tmp_path)
    words = ["recipe", "run", "figure8", "--models", plan, "--limit", 3, "-o", "out"]
    done = ok(*words, "--json")
    found = json.loads(done.stdout)["figure8"]
    assert {claim["verdict"] for claim in found["claims"]} <= {
        "supported",
        "not supported",
        "undecided",
    }
    assert json.loads((tmp_path / "out" / "figure8.json").read_text()) == found
    assert "already holds figure8" in fails(*words)
    assert "taken from the folder" in ok(*words, "--resume").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tabel1"], "did you mean 'table1'"),
        (["table1", "--models", "zo"], "did you mean 'zoo'"),
        (["table1", "--models", "none.yaml"], "no file none.yaml"),
        (["table1", "--limit", "1"], "limit 1 is too small"),
    ],
)
def test_a_mistake_is_one_message(fails, words, message):
    assert message in fails("recipe", "run", *words)


def test_a_plan_without_what_a_recipe_reads(fails, tmp_path):
    (tmp_path / "plan.yaml").write_text("title: poor")
    said = fails("recipe", "run", "figure4", "--models", "plan.yaml")
    assert "figure4 reads sizes, which the plan 'poor' leaves out" in said
