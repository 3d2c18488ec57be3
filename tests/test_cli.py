"""The command line, from the outside: what is printed, written and returned."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contrans import store
from contrans.cli import VERBS, app, explain
from contrans.cli.options import parse_layers, parse_pair
from contrans.types import ConceptVector, LinearMap, PairedStates

HELP_SECONDS = 0.2
"""Budget of `contrans --help` in processor time."""
VERB_HELP_SECONDS = 0.3
"""Budget of `contrans transplant --help` in processor time."""
SLACK = 2.0
"""A busy or slow machine may take this much longer before a test complains."""

_saved: dict[str, Path] = {}


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Every test has its own working folder, cache, and no debugging."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CONTRANS_DEBUG", raising=False)


@pytest.fixture
def models(make_lm, tmp_path_factory) -> dict[str, str]:
    """Two tiny models of different families in folders, made once."""
    if not _saved:
        root = tmp_path_factory.mktemp("models")
        for name, family in (("source", "llama"), ("target", "gpt2")):
            lm = make_lm(family)
            lm.model.save_pretrained(root / name)
            lm.tokenizer.save_pretrained(root / name)
            _saved[name] = root / name
    return {name: str(_saved[name]) for name in ("source", "target")}


@pytest.fixture
def pairs(tmp_path) -> str:
    """A user's file of pairs."""
    file = tmp_path / "pairs.json"
    sides = {
        "pos": [f"Number {i} made me very glad" for i in range(40)],
        "neg": [f"Number {i} made me very sad" for i in range(40)],
    }
    file.write_text(json.dumps(sides))
    return str(file)


@pytest.fixture
def texts(tmp_path) -> str:
    """A user's corpus."""
    file = tmp_path / "texts.txt"
    words = ["the", "dog", "saw", "a", "glad", "red", "house", "and", "sad", "rain"]
    lines = [
        " ".join(words[(i * k) % len(words)] for k in range(1, 4 + i % 9))
        for i in range(1, 90)
    ]
    file.write_text("\n".join(dict.fromkeys(lines)))
    return str(file)


def run(*args, **options):
    return CliRunner().invoke(app, [str(a) for a in args], **options)


def ok(*args, **options):
    result = run(*args, **options)
    assert result.exit_code == 0, result.output
    return result


def fails(*args, code: int = 1, **options) -> str:
    """Run a command that a user got wrong; its one message."""
    result = run(*args, **options)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    if code == 1:
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.startswith(f"contrans {args[0]}: ")
    return result.stderr


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


# -- help and start-up ---------------------------------------------------------------


@pytest.mark.parametrize("verb", [*VERBS, "zoo train", "zoo export"])
def test_help_of_every_verb(verb):
    shown = ok(*verb.split(), "--help").stdout
    assert f"contrans {verb.split()[-1]}" in shown or "Usage:" in shown
    if " " not in verb:
        assert f"\n    contrans {verb}" in shown or verb in ("zoo", "ls")


def test_help_lists_every_verb_in_sections():
    shown = ok("--help").stdout
    for verb in VERBS.values():
        assert f"\n{verb.section}:\n" in shown
    assert all(f"\n  {name} " in shown for name in VERBS)


def test_examples_are_not_rewrapped():
    shown = ok("transplant", "--help").stdout
    assert "zoo/small-aligned zoo/large --concept anger -o anger\n" in shown
    assert "Llama-2-13b-hf \\\n        --map-source" in shown


@pytest.mark.parametrize(
    ("args", "budget"),
    [(["--help"], HELP_SECONDS), (["transplant", "--help"], VERB_HELP_SECONDS)],
)
def test_help_is_instant_and_imports_nothing_heavy(args, budget):
    code = f"""
import sys, time
start = time.process_time()
from contrans.cli import app
try:
    app({args!r}, prog_name="contrans")
except SystemExit:
    pass
spent = time.process_time() - start
heavy = {{"torch", "numpy", "transformers", "rich", "sklearn", "matplotlib"}}
print(f"\\n{{sorted(heavy & set(sys.modules))}} {{spent}}")
"""
    heavy, _, spent = python(code).splitlines()[-1].rpartition(" ")
    assert heavy == "[]"
    assert float(spent) < SLACK * budget


def test_help_imports_no_verb():
    code = """
import sys
from contrans.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print("\\n" + str(sorted(m for m in sys.modules if m.startswith("contrans."))))
"""
    found = python(code).splitlines()[-1]
    assert found == "['contrans.cli', 'contrans.registry']"


def test_version_and_module_entry():
    done = subprocess.run(
        [sys.executable, "-m", "contrans", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("contrans 0.")


# -- usage ---------------------------------------------------------------------------


def test_unknown_verb_names_the_nearest():
    assert "did you mean 'transplant'?" in fails("transplnt", code=2)


@pytest.mark.parametrize(
    "args",
    [
        ["transplant", "a"],
        ["transplant", "a", "b", "-o", "x"],
        ["transplant", "a", "b", "-o", "x", "--concept", "a", "--pairs", "b"],
        ["collect", "a", "-o", "x"],
        ["generate", "a", "b", "--compare"],
        ["generate", "a", "--no-such-option"],
        ["generate", "a", "b", "--max-new-tokens", "0"],
        ["ls"],
        ["generate", "a", "b", "--dtype", "float33"],
        ["generate", "a", "b", "--quantize", "3bit"],
    ],
)
def test_usage_errors_exit_2(args):
    fails(*args, code=2)


def test_layers_are_read():
    assert parse_layers("all") is None
    assert parse_layers("3") == [3]
    assert parse_layers("4-6,-1") == [4, 5, 6, -1]
    assert parse_pair("24:30") == (24, 30)
    for wrong in ("x", "1-", "4:5"):
        with pytest.raises(ValueError, match="cannot read layers"):
            parse_layers(wrong)
    with pytest.raises(ValueError, match="SOURCE:TARGET"):
        parse_pair("24")


# -- one message for every mistake ---------------------------------------------------


def test_messages_are_those_of_the_library():
    assert explain(ValueError("what, instead, next")) == "what, instead, next"
    assert explain(KeyError("unknown concept 'x'")) == "unknown concept 'x'"
    assert explain(FileNotFoundError("no file x")) == "no file x"
    assert explain(FileNotFoundError(2, "No such file", "x")) == "x: No such file"
    full = OSError(28, "could not write x: No space left on device")
    assert explain(full) == "could not write x: No space left on device"
    assert "--dtype bfloat16" in (explain(MemoryError()) or "")


def test_faults_of_the_program_keep_their_traceback():
    for fault in (KeyError("x"), KeyError(3), TypeError("x"), BrokenPipeError()):
        assert explain(fault) is None


def test_no_such_model(tmp_path):
    missing = tmp_path / "missing"
    said = fails("generate", missing, "hello")
    assert "no model" in said
    assert str(missing) in said


def test_no_such_zoo_model():
    assert "zoo" in fails("generate", "zoo/gigantic", "hello")


def test_no_such_concept(models):
    said = fails(
        "transplant", models["source"], models["target"], "--concept", "angr", "-o", "x"
    )
    assert "did you mean 'anger'?" in said
    assert not Path("x").exists()


def test_no_such_pairs_file():
    assert "no file nowhere.json" in fails(
        "transplant", "a", "b", "--pairs", "nowhere.json", "-o", "x"
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--method", "rigde", "did you mean 'ridge'?"),
        ("--protocol", "papers", "unknown protocol"),
        ("--layers", "24", "write SOURCE:TARGET"),
        ("--strength", "strong", "cannot read strength"),
        ("--budget", "0.5", "perplexity budget"),
    ],
)
def test_wrong_settings_are_named_before_a_model_is_loaded(option, value, said):
    base = ["transplant", "zoo/small", "zoo/large", "--concept", "anger", "-o", "x"]
    assert said in fails(*base, option, value)


def test_wrong_kind_of_file(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not safetensors")
    assert "not a readable safetensors file" in fails("show", other)
    note = tmp_path / "note.json"
    note.write_text("{}")
    assert "no results of contrans" in fails("show", note)
    note.write_text("{")
    assert "not readable JSON" in fails("show", note)
    assert "no file or folder" in fails("show", tmp_path / "gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nothing made by contrans" in fails("show", empty)


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("CONTRANS_DEBUG", "1")
    result = run("show", "gone")
    assert isinstance(result.exception, FileNotFoundError)


def test_interruption_says_what_is_kept(monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("contrans.pipeline.run_transplant", stop)
    result = run("transplant", "a", "b", "--concept", "anger", "-o", "x")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    assert "Traceback" not in result.output
    monkeypatch.setattr("contrans.cli.show._artefact", stop)
    Path("x.safetensors").touch()
    result = run("show", "x.safetensors")
    assert result.exit_code == 130
    assert "goes on" not in result.stderr


# -- the main job --------------------------------------------------------------------


@pytest.fixture
def main_job(models, pairs, texts) -> list[str]:
    """The shortest main job there is."""
    job = ["transplant", models["source"], models["target"], "--pairs", pairs]
    return [*job, "--corpus", texts, "--layers", "1:1", "--strength", "2", "-o", "out"]


def test_transplant_leaves_a_folder_and_runs_once(main_job, models, monkeypatch):
    first = ok(*main_job, "--json")
    results = json.loads(first.stdout)  # and nothing else is there
    assert results == json.loads(Path("out/results.json").read_text())
    names = {path.name for path in Path("out").iterdir()}
    assert {"vector.safetensors", "report.md", "report.html", "results.json"} <= names
    assert store.load("out/vector.safetensors").provenance["strength"] == 2.0

    again = ok(*main_job)
    assert "already done" in again.stderr
    assert results["verdict"] in again.stdout
    assert "out/report.html" in again.stdout
    shown = ok("show", "out").stdout
    assert results["verdict"] in shown
    assert "vector.safetensors: " in shown

    said = fails(*main_job, "--seed", "1")
    assert "--force" in said
    steer = ["--steer", "out", "--compare", "--max-new-tokens", "2", "--json"]
    assert json.loads(ok("generate", models["target"], "Hi", *steer).stdout)

    monkeypatch.setattr("contrans.stages.Stages.outcome", _never)
    assert run(*main_job, "--force").exit_code == 1  # it does measure again


def _never(*_args, **_options):
    raise ValueError("measured")


def test_a_finished_job_is_told_without_torch(tmp_path):
    from contrans import __version__
    from contrans.cli.transplant import DEFAULTS, _finished

    command = {"source": "a", "target": "b", **DEFAULTS, "concept": "anger"}
    assert _finished(tmp_path, command) is None
    (tmp_path / "contrans.json").write_text("{}")
    kept = {"command": command, "contrans": __version__}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    assert _finished(tmp_path, command) == kept
    assert _finished(tmp_path, command | {"seed": 1}) is None
    (tmp_path / "anger").touch()  # a file of the user: its content counts
    assert _finished(tmp_path, command) is None


def test_defaults_are_those_of_the_pipeline():
    from dataclasses import asdict

    from contrans.cli.transplant import DEFAULTS
    from contrans.settings import Settings

    chosen = asdict(Settings(source="a", target="b", concept="c"))
    assert chosen == DEFAULTS | {"source": "a", "target": "b", "concept": "c"}


# -- the stages, end to end ----------------------------------------------------------


@pytest.fixture
def stages(models, pairs, texts, tmp_path, tmp_path_factory) -> dict[str, str]:
    """Every file of the two-file form, made once by the commands themselves."""
    if "stages" not in _saved:
        folder = tmp_path_factory.mktemp("stages")
        _make_stages(models, pairs, texts)
        for file in tmp_path.glob("*.safetensors"):
            shutil.copy(file, folder)
        _saved["stages"] = folder
    for file in _saved["stages"].iterdir():
        shutil.copy(file, tmp_path)
    return models


def _make_stages(models, pairs, texts):
    source, target = models["source"], models["target"]
    ok("collect", source, "--pairs", pairs, "-o", "pairs.safetensors")
    held = ["--pairs", pairs, "--split", "validate", "-o", "held.safetensors"]
    ok("collect", source, *held)
    ok("collect", source, "--texts", texts, "--layers", "1", "-o", "s.safetensors")
    ok("collect", target, "--texts", texts, "--layers", "2", "-o", "t.safetensors")
    made = ["concept", "pairs.safetensors", "-o", "glad.safetensors"]
    ok(*made, "--held-out", "held.safetensors")
    ok("map", "s.safetensors", "t.safetensors", "-o", "link.safetensors")
    files = ["glad.safetensors", "link.safetensors"]
    ok("transplant", *files, "-o", "moved.safetensors")


def test_stages_write_what_the_library_reads(stages):
    kinds = {
        "pairs": PairedStates,
        "glad": ConceptVector,
        "link": LinearMap,
        "moved": ConceptVector,
    }
    for name, kind in kinds.items():
        assert isinstance(store.load(f"{name}.safetensors"), kind)
    glad, moved = store.load("glad.safetensors"), store.load("moved.safetensors")
    link = store.load("link.safetensors")
    assert moved.layers == (2,)
    assert moved.concept == glad.concept
    assert (moved[2] - link.directions(glad[1])).abs().max() < 1e-6
    assert glad.relative_strength(1) is not None
    assert moved.relative_strength(2) is not None  # norms travelled with the states

    # The files serve generate, eval and show.
    target = stages["target"]
    steer = ["--steer", "moved.safetensors", "--strength", "0.9", "--unit", "relative"]
    short = ["--max-new-tokens", "4"]
    rows = json.loads(
        ok(
            "generate", target, "one", "two", *steer, *short, "--compare", "--json"
        ).stdout
    )
    assert [row["prompt"] for row in rows] == ["one", "two"]
    assert any(row["before"] != row["after"] for row in rows)
    still = ["--steer", "moved.safetensors", "--strength", "0"]
    rows = json.loads(
        ok("generate", target, "one", *still, *short, "--compare", "--json").stdout
    )
    assert rows[0]["before"] == rows[0]["after"]
    shown = ok("show", "moved.safetensors").stdout
    assert "concept-vector" in shown
    assert "transplant/ridge" in shown
    facts = json.loads(ok("show", "link.safetensors", "--json").stdout)
    assert facts["kind"] == "linear-map"
    assert facts["report"]["n"] > 0
    assert "moved.safetensors" in ok("show", ".").stdout


def test_stages_refuse_what_does_not_fit(stages, texts):
    assert "is not overwritten" in fails(
        "concept", "pairs.safetensors", "-o", "glad.safetensors"
    )
    before = Path("glad.safetensors").read_bytes()
    ok("concept", "pairs.safetensors", "-o", "glad.safetensors", "--force")
    assert Path("glad.safetensors").read_bytes() == before
    assert "holds 'paired-states'" in fails(
        "map", "pairs.safetensors", "t.safetensors", "-o", "new.safetensors"
    )
    assert "did you mean" in fails(
        "concept", "pairs.safetensors", "--method", "mena", "-o", "new.safetensors"
    )
    assert "give two models, or a vector and a map" in fails(
        "transplant", "glad.safetensors", stages["target"], "-o", "new.safetensors"
    )
    wrong = ["generate", stages["target"], "x", "--steer"]
    assert "this vector was made for" in fails(*wrong, "glad.safetensors")
    assert "2 strengths for 1 vectors" in fails(
        *wrong, "moved.safetensors", "--strength", "1", "--strength", "2"
    )
    assert "did you mean 'relative'?" in fails(
        *wrong, "moved.safetensors", "--unit", "relativ"
    )
    assert "no direction for layer 0" in fails(
        *wrong, "moved.safetensors", "--layers", "0"
    )
    ok(
        "collect",
        stages["target"],
        "--texts",
        texts,
        "--limit",
        "50",
        "-o",
        "u.safetensors",
    )
    assert "different texts" in fails(
        "map", "s.safetensors", "u.safetensors", "-o", "new.safetensors"
    )
    assert "choose two with --layers" in fails(
        "map", "u.safetensors", "u.safetensors", "-o", "new.safetensors"
    )
    assert not Path("new.safetensors").exists()


def test_generate_reads_prompts_from_stdin(models):
    short = ["--max-new-tokens", "2", "--json"]
    found = json.loads(
        ok("generate", models["source"], *short, input="a\n\nb\n").stdout
    )
    assert [row["prompt"] for row in found] == ["a", "b"]
    assert "stdin holds no prompts" in fails("generate", models["source"], input="\n")


def test_chat_takes_commands(stages):
    said = "hello\n/strength 2\nhello\n/strength x\n/off\nhello\n/nonsense\n/quit\n"
    short = ["--max-new-tokens", "3", "--steer", "moved.safetensors"]
    result = ok("chat", stages["target"], *short, input=said)
    assert result.stdout.count("hello") == 3
    for expected in ("factor 2", "cannot read 'x'", "vectors off", "/strength X"):
        assert expected in result.stderr
    ok("chat", stages["target"], "--max-new-tokens", "2", input="hello\n")  # Ctrl-D


def test_eval_writes_and_shows(stages, pairs):
    steer = ["--steer", "moved.safetensors", "--strength", "2"]
    out = ["-o", "results.json"]
    result = ok("eval", stages["target"], "--concept", pairs, *steer, *out)
    assert "random like moved" in result.stdout
    written = json.loads(Path("results.json").read_text())
    controls = [row["control"] for row in written["rows"]]
    assert controls == ["no edit", "moved x 2", "random like moved"]
    assert ok("show", "results.json").stdout == result.stdout
    said = fails("eval", stages["target"], "--concept", pairs, *out)
    assert "is not overwritten" in said


@pytest.mark.parametrize("kind", ["concepts", "models", "methods", "maps", "tasks"])
def test_ls(kind):
    rows = json.loads(ok("ls", kind, "--json").stdout)
    if kind != "models":
        assert rows
    ok("ls", kind)


def test_ls_tells_the_methods_there_are():
    from contrans import concept, linear_map

    for kind, known in (("methods", concept.METHODS), ("maps", linear_map.METHODS)):
        rows = json.loads(ok("ls", kind, "--json").stdout)
        assert {row["name"] for row in rows} == set(known)
    assert "did you mean 'models'?" in fails("ls", "model")
