"""One record per family, one door to a model's insides."""

import re
from pathlib import Path

import contrans
from contrans.models.anatomy import ANATOMY

ROOT = Path(contrans.__file__).parent


def test_records_hold_together():
    for kind, known in ANATOMY.items():
        assert known.blocks, kind
        # a family is baked in one way, or it is said why not
        ways = [known.bias is not None, known.as_llama is not None, known.unbaked != ""]
        assert sum(ways) <= 1, kind
        if known.bias is None:
            assert not known.biased, kind
            assert not known.bias_config, kind


def test_no_other_table_goes_by_the_family():
    """Families are named in the anatomy, and in the rule of two papers' tokenizers."""
    tables = []
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named = {kind for kind in ANATOMY if re.search(rf'^\s+"{kind}": ', text, re.M)}
        if len(named) > 1:
            tables.append(path.name)
    assert tables == ["anatomy.py"]


def test_one_door_to_the_insides_of_a_model():
    """Hooks and replaced methods are made in one file only."""
    doors = re.compile(
        r"register_forward|register_full_backward|\.forward = |setattr\(m"
    )
    found = {
        path.name
        for path in ROOT.rglob("*.py")
        if doors.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"patching.py"}
