"""`import contrans` is instant: heavy libraries come with the first use."""

import subprocess
import sys

import pytest

import contrans


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(found.stdout.split())


@pytest.mark.parametrize("code", ["import contrans", "import contrans.cli"])
def test_import_brings_nothing_heavy(code):
    heavy = {"torch", "numpy", "transformers", "sklearn", "scipy", "matplotlib"}
    assert not heavy & loaded_after(code)


def test_public_names_exist_and_are_listed():
    from importlib import import_module

    for name, module in contrans._WHERE.items():
        assert hasattr(import_module(f"contrans.{module}"), name)
        assert name in dir(contrans)
    assert contrans.Steer is import_module("contrans.control.steer").Steer
    with pytest.raises(AttributeError, match="no attribute 'steer'"):
        _ = contrans.steer
