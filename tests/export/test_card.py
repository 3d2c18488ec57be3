"""What the card of a baked checkpoint says of its base."""

import pytest
import yaml

from contrans.export.checkpoint.model_card import model_card

REPORT = {
    "revision": None,
    "fingerprint": "abc",
    "concepts": ["anger"],
    "layers": [1],
    "lengths": {1: 2.0},
    "architecture": "llama",
    "base_architecture": "llama",
    "slot": "mlp.down_proj.bias",
    "scale": 1.0,
    "dtypes": ["F32"],
    "rounding": 0.0,
    "added": 0,
    "config": {},
    "context": None,
    "warnings": [],
}


def head_and_card(base, folder) -> tuple[dict, str]:
    card = model_card({**REPORT, "base": base}, [], {}, folder)
    return yaml.safe_load(card.split("---")[1]), card


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_repository_of_the_hub_is_the_base(here):
    head, card = head_and_card("meta-llama/Llama-2-7b-hf", here)
    assert head["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert "# meta-llama/Llama-2-7b-hf with anger" in card


def test_a_folder_that_looks_like_a_repository_is_not_named_as_one(here):
    (here / "models" / "llama").mkdir(parents=True)
    head, card = head_and_card("models/llama", here)
    assert "base_model" not in head
    assert "models/llama" not in card
    assert "# llama with anger baked in" in card


def test_a_model_of_the_zoo_keeps_its_name(here):
    (here / "zoo" / "large").mkdir(parents=True)
    head, card = head_and_card("zoo/large", here)
    assert "base_model" not in head
    assert "# zoo/large with anger" in card
