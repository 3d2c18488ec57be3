"""The command line: one message for every mistake of a user."""

from pathlib import Path

import pytest

from contrans.cli.basics import explain


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


def test_what_would_command_a_terminal_is_shown(fails, tmp_path):
    hostile = tmp_path / "red\x1b[31m\x9b2J\u202e.json"
    said = fails("concepts", "add", hostile, "--name", "mine")
    assert "red\\x1b[31m\\x9b2J\\u202e.json" in said
    assert not set(said) & set("\x1b\x9b\u202e")


def test_no_such_model(fails, tmp_path):
    missing = tmp_path / "missing"
    said = fails("generate", missing, "hello")
    assert "no model" in said
    assert str(missing) in said


def test_no_such_zoo_model(fails):
    assert "zoo" in fails("generate", "zoo/gigantic", "hello")


def test_no_such_concept(fails, models):
    said = fails(
        "transplant", models["source"], models["target"], "--concept", "angr", "-o", "x"
    )
    assert "did you mean 'anger'?" in said
    assert not Path("x").exists()


def test_no_such_pairs_file(fails):
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
def test_wrong_settings_are_named_before_a_model_is_loaded(fails, option, value, said):
    base = ["transplant", "zoo/small", "zoo/large", "--concept", "anger", "-o", "x"]
    assert said in fails(*base, option, value)


def test_wrong_kind_of_file(fails, tmp_path):
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


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setenv("CONTRANS_DEBUG", "1")
    result = run("show", "gone")
    assert isinstance(result.exception, FileNotFoundError)


def test_interruption_says_what_is_kept(run, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("contrans.experiments.transplant.run.run_transplant", stop)
    result = run("transplant", "a", "b", "--concept", "anger", "-o", "x")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    assert "Traceback" not in result.output
    monkeypatch.setattr("contrans.cli.show._artefact", stop)
    Path("x.safetensors").touch()
    result = run("show", "x.safetensors")
    assert result.exit_code == 130
    assert "goes on" not in result.stderr
