"""What was tested is said in one place, and everywhere else the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

from contrans.core.version import (
    LOWEST_TRANSFORMERS,
    NEWEST_TRANSFORMERS,
    __version__,
    newer_than_tested,
)

ROOT = Path(__file__).parents[1].parent
RELEASE = r"\d+\.\d+\.\d+"


def test_readme_names_the_tested_versions():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(rf"[Tt]ested[^.|]*?({RELEASE})[^.|]*?({RELEASE})", readme)
    assert named == [(LOWEST_TRANSFORMERS, NEWEST_TRANSFORMERS)] * 2
    assert re.findall(rf"any transformers from ({RELEASE})", readme) == [
        LOWEST_TRANSFORMERS
    ]


def test_the_package_asks_for_the_lowest_tested_version():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest, below = re.findall(rf'"transformers>=({RELEASE}),<(\d+)"', project)[0]
    assert lowest == LOWEST_TRANSFORMERS
    assert int(NEWEST_TRANSFORMERS.split(".")[0]) < int(below)
    assert re.findall(r'^version = "(.*)"', project, re.M) == [__version__]


def test_ci_takes_the_versions_from_the_package_and_its_list_exists():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'models_with "$(tested LOWEST)"' in script
    assert 'models_with "$(tested NEWEST)"' in script
    assert not re.findall(r"transformers==\d", script)
    matrix = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert f'transformers: ["{LOWEST_TRANSFORMERS}", "newest"]' in matrix
    listed = (ROOT / ".ci" / "model-tests").read_text(encoding="utf-8").split("\n")
    files = [line for line in listed if line and not line.startswith("#")]
    assert len(files) > 5
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_a_newer_version_is_named_once():
    code = (
        "import transformers; transformers.__version__ = '99.1.0'\n"
        "import contrans as ct; ct.load_model('zoo/small'); ct.load_model('zoo/small')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    message = newer_than_tested("99.1.0")
    assert message is not None
    assert done.stderr.count(message) == 1
    for version in (LOWEST_TRANSFORMERS, NEWEST_TRANSFORMERS, "5.24.9", "5.9.1"):
        assert newer_than_tested(version) is None
    for version in ("5.25.0", "5.25.0.dev0", "6.0.0rc1"):
        assert version in (newer_than_tested(version) or "")
