"""The command line: help, start-up, usage."""

import ast
import subprocess
import sys

import pytest

from contrans.cli import VERBS
from contrans.cli.options import parse_pair
from contrans.core.parsing import parse_layers

HELP_SECONDS = 0.2
"""Budget of `contrans --help` in processor time."""
VERB_HELP_SECONDS = 0.3
"""Budget of `contrans transplant --help` in processor time."""
SLACK = 2.0
"""A busy or slow machine may take this much longer before a test complains."""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("verb", [*VERBS, "zoo train", "zoo export"])
def test_help_of_every_verb(ok, verb):
    shown = ok(*verb.split(), "--help").stdout
    assert f"contrans {verb.split()[-1]}" in shown or "Usage:" in shown
    if " " not in verb:
        assert f"\n    contrans {verb}" in shown or verb in ("zoo", "ls")


def test_help_lists_every_verb_in_sections(ok):
    shown = ok("--help").stdout
    for verb in VERBS.values():
        assert f"\n{verb.section}:\n" in shown
    assert all(f"\n  {name} " in shown for name in VERBS)


def test_examples_are_not_rewrapped(ok):
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
    found = set(ast.literal_eval(python(code).splitlines()[-1]))
    assert {m for m in found if m.startswith("contrans.cli.")} == {
        "contrans.cli.basics"
    }
    rooms = {m.split(".")[1] for m in found}
    assert not rooms & {"data", "vectors", "report", "models", "library", "control"}


def test_version_and_module_entry():
    done = subprocess.run(
        [sys.executable, "-m", "contrans", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("contrans 0.")


def test_unknown_verb_names_the_nearest(fails):
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
def test_usage_errors_exit_2(fails, args):
    assert f"{args[0]} -h' for help" in fails(*args, code=2)


def test_layers_are_read():
    assert parse_layers("all") is None
    assert parse_layers("3") == [3]
    assert parse_layers("4-6,-1") == [4, 5, 6, -1]
    with pytest.raises(ValueError, match="cannot read layers '8-6'"):
        parse_layers("8-6")
    assert parse_pair("24:30") == (24, 30)
    for wrong in ("x", "1-", "4:5"):
        with pytest.raises(ValueError, match="cannot read layers"):
            parse_layers(wrong)
    with pytest.raises(ValueError, match="SOURCE:TARGET"):
        parse_pair("24")
