"""`contrans export`: what it writes, says and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from contrans.cli.steering import load_vectors, steer
from contrans.core import artifacts
from contrans.models.loading import load_model

CLOSE = 1e-4
STRANGER = """
import sys
sys.modules["contrans"] = None
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt").input_ids
with torch.no_grad():
    save_file({"ids": ids, "logits": model(ids).logits.contiguous()}, sys.argv[3])
assert not [name for name in sys.modules if name.startswith("contrans.")]
"""
TEXT = "Scenario: You lost your keys.\nThe emotion of the above scenario is"


@pytest.fixture
def transplanted(tmp_path):
    """A finished transplant from zoo/small-aligned into zoo/large, made small."""
    from contrans.core.types import ConceptVector

    lm = load_model("zoo/large")
    drawn = torch.randn(1, lm.hidden, generator=torch.Generator().manual_seed(0))
    vector = ConceptVector(
        drawn,
        layers=(3,),
        model=lm.fingerprint,
        concept="anger",
        name="zoo/large",
        provenance={"method": "transplant/ridge", "strength": 0.9},
    )
    folder = tmp_path / "anger"
    artifacts.save(vector, folder / "vector.safetensors")
    results = {
        "verdict": "Transplanted: ridge moved token accuracy by +0.917.",
        "target": {"name": "zoo/large", "fingerprint": lm.fingerprint},
        "layers": {"source": 2, "target": 3},
        "strength": {"raw": 0.9, "relative": 0.45},
        "task": {"name": "anger", "metric": "token accuracy", "n": 60, "chance": 0.17},
        "rows": [
            {"name": "no edit", "value": 0.02, "low": 0.0, "high": 0.05},
            {
                "name": "ridge",
                "value": 0.93,
                "low": 0.87,
                "high": 0.98,
                "difference": {"value": 0.91, "low": 0.83, "high": 0.98},
                "perplexity": {"value": 3.6, "ratio": 1.13},
            },
        ],
        "warnings": ["the corpus is short"],
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_a_vector_of_the_zoo_is_baked_and_served(ok, transplanted):
    said = ok("export", transplanted, "--bake", "zoo/large", "-o", "large-angry")
    assert "vllm serve large-angry" in said.stdout
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, "large-angry", TEXT, "said.safetensors"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    from safetensors.torch import load_file

    found = load_file("said.safetensors")
    lm = load_model("zoo/large")
    assert found["ids"].tolist() == lm.encode([TEXT])
    control = steer(load_vectors([str(transplanted)], None, "raw")[0])
    assert control.strength == 0.9  # the one that the transplant chose
    with control.on(lm), torch.no_grad():
        hooked = lm.model(found["ids"]).logits
        # the zoo is stored in bfloat16, and so is the bias: compare at its precision
    stored = load_file("large-angry/model.safetensors")
    bias = stored["model.layers.3.mlp.down_proj.bias"]
    assert bias.dtype == torch.bfloat16
    torch.testing.assert_close(found["logits"], hooked, atol=0.05, rtol=0.05)
    exact = artifacts.load(transplanted / "vector.safetensors")
    exact = type(exact)(
        bias.float()[None], layers=(3,), model=exact.model, name=exact.name
    )
    from contrans.control.steer import Steer

    with Steer(exact).on(lm), torch.no_grad():
        rounded = lm.model(found["ids"]).logits
    torch.testing.assert_close(found["logits"], rounded, atol=CLOSE, rtol=CLOSE)
    assert (found["logits"] - lm.model(found["ids"]).logits).abs().max() > 0.5


def test_what_transplant_wrote_is_baked(ok, main_job, models):
    """The real main job on tiny models, and its folder as it is."""
    ok(*main_job)
    ok("export", "out", "--bake", models["target"], "-o", "baked")
    results = json.loads(Path("out/results.json").read_text())
    card = Path("baked/README.md").read_text()
    assert results["verdict"].split(":")[0] in card
    assert "The edit measured is the edit baked" in card
    lm = load_model(models["target"], dtype="float32")
    ids = torch.tensor(lm.encode(["Number 3 made me very"]))
    with steer(load_vectors(["out"], None, "raw")[0]).on(lm), torch.no_grad():
        hooked = lm.model(ids).logits
    with torch.no_grad():
        baked = load_model("baked", dtype="float32").model(ids).logits
    torch.testing.assert_close(baked, hooked, atol=CLOSE, rtol=CLOSE)


def test_the_card_says_what_from_what_and_with_which_effect(ok, transplanted):
    ok("export", transplanted, "--bake", "zoo/large", "-o", "out")
    card = Path("out/README.md").read_text()
    for part in (
        "# zoo/large with anger baked in",
        "blocks): 3",
        "mlp.down_proj.bias",
        "transplant/ridge",
        "ridge moved token accuracy by +0.917",
        "| ridge | 0.930 [0.870, 0.980] | +0.910 [+0.830, +0.980] | 3.6 | 1.13 |",
        "The edit measured is the edit baked",
        "the corpus is short",
        "vllm serve",
        "## Licence",
    ):
        assert part in card, part
    index = json.loads(Path("out/contrans.json").read_text())
    assert index["kind"] == "baked-model"
    assert index["report"]["base"] == "zoo/large"


def test_another_strength_is_not_passed_off_as_measured(ok, transplanted):
    ok("export", transplanted, "--bake", "zoo/large", "-o", "out", "--strength", "2")
    card = Path("out/README.md").read_text()
    assert "**The edit baked is not the one measured**" in card
    assert "The edit measured is the edit baked" not in card


def test_json_and_force(ok, fails, transplanted):
    job = ["export", transplanted, "--bake", "zoo/large", "-o", "out", "--json"]
    written = json.loads(ok(*job).stdout)["written"]
    assert written[0]["kind"] == "bake"
    assert written[0]["report"]["layers"] == [3]
    assert "--force" in fails(*job)
    ok(*job, "--force")


def test_several_forms_at_once_and_back(ok, transplanted):
    pytest.importorskip("gguf", reason="gguf is not installed")
    ok(
        "export",
        transplanted,
        *("--gguf", "anger.gguf", "--lm-eval", "anger.pt"),
        *("--steering-vectors", "sv.pt", "--repeng", "repeng.gguf"),
    )
    wanted = 0.9 * artifacts.load(transplanted / "vector.safetensors")[3]
    for file in ("anger.gguf", "anger.pt", "sv.pt", "repeng.gguf"):
        found = load_vectors([file], None, "raw")[0]
        assert found.strength == 1.0
        torch.testing.assert_close(found.value[3], wanted)
        ok("export", file, "--bake", "zoo/large", "--any-model", "-o", f"from-{file}")
        assert Path(f"from-{file}", "model.safetensors").is_file()


def test_a_file_that_names_no_model_asks_for_a_word(ok, fails, transplanted):
    ok("export", transplanted, "--steering-vectors", "sv.pt")
    said = fails("export", "sv.pt", "--bake", "zoo/large", "-o", "out")
    assert "does not say which model" in said
    assert "--any-model" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what to write"),
        (["--bake", "zoo/large"], "give -o"),
        (["-o", "x", "--gguf", "y.gguf"], "-o is for"),
        (["--bake", "zoo/large", "--bake-gguf", "x", "-o", "y"], "one by one"),
    ],
)
def test_options_that_do_not_go_together(fails, transplanted, arguments, said):
    shown = " ".join(fails("export", transplanted, *arguments, code=2).split())
    assert said in shown.replace("│ ", "")


def test_mistakes_are_one_message(fails, transplanted, models):
    wrong = fails("export", transplanted, "--bake", models["target"], "-o", "out")
    assert "width 160" in wrong
    assert "contrans transplant" in wrong
    wrong = fails(
        "export", transplanted, "--bake", "zoo/large", "-o", "out", "--layers", "5"
    )
    assert "no direction for layer 5" in wrong
    assert "no file" in fails("export", "nowhere.safetensors", "--gguf", "a.gguf")
    assert not Path("out").exists()


def test_the_model_itself_as_gguf(ok):
    pytest.importorskip("gguf", reason="gguf is not installed")
    ok("export", "--gguf-model", "zoo/small", "-o", "small.gguf")
    assert Path("small.gguf").read_bytes()[:4] == b"GGUF"


def test_a_control_vector_knows_its_model(ok, fails, transplanted, models):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    ok("export", transplanted, "--gguf", "anger.gguf", "--repeng", "repeng.gguf")
    for file in ("anger.gguf", "repeng.gguf"):
        hint = gguf.GGUFReader(file).fields["controlvector.model_hint"].contents()
        assert hint == "llama"
    vector = artifacts.load(transplanted / "vector.safetensors")
    from dataclasses import replace

    deep = replace(vector, layers=(99,))
    artifacts.save(deep, "deep.safetensors")
    said = fails("export", "deep.safetensors", "--gguf", "deep.gguf")
    assert "no block 99" in said
    assert "blocks, 0 to " in said
    said = fails(
        "export", transplanted, "--gguf", "x.gguf", "--model", models["target"]
    )
    assert "width 160" in said
    assert "does not fit" in said
    said = fails("export", transplanted, "--gguf", "x.gguf", "--model", "no-such-model")
    assert "no model 'no-such-model'" in said
    artifacts.save(replace(vector, name="gone/model"), "gone.safetensors")
    ok("export", "gone.safetensors", "--gguf", "gone.gguf")  # cannot be looked up
    assert not Path("x.gguf").exists()


def test_the_command_for_the_harness_is_one_that_it_can_run(ok, transplanted):
    from contrans.models import zoo

    said = ok("export", transplanted, "--lm-eval", "anger.pt").stdout
    assert f"pretrained={zoo.path('zoo/large')}" in said
    assert f"tokenizer={zoo.tokenizer_path()}" in said
    assert "steer_path=anger.pt" in said
    written = json.loads(
        ok("export", transplanted, "--lm-eval", "b.pt", "--json").stdout
    )
    assert written["written"][0]["report"]["hookpoints"] == ["layers.3"]


def test_what_was_baked_is_shown(ok, transplanted):
    ok("export", transplanted, "--bake", "zoo/large", "-o", "out")
    said = ok("show", "out").stdout
    assert "anger baked into zoo/large" in said
    assert "mlp.down_proj.bias of block 3" in said
    assert json.loads(ok("show", "out", "--json").stdout)["kind"] == "baked-model"


def test_a_name_of_the_library_is_exported_with_its_results(
    ok, main_job, models, monkeypatch
):
    monkeypatch.setenv("CONTRANS_LIBRARY", str(Path("library").resolve()))
    ok(*main_job)
    ok("concepts", "add", "out", "--name", "anger-13b")
    ok("export", "anger-13b@1", "--bake", models["target"], "-o", "baked")
    assert "The edit measured is the edit baked" in Path("baked/README.md").read_text()
    ok("export", "anger-13b", "--lm-eval", "anger.pt", "--model", models["target"])
    assert load_vectors(["anger.pt"], None, "raw")[0].strength == 1.0
