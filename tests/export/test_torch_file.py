"""Files of `torch.save` that are damaged."""

import random

import pytest
import torch

from contrans.export.torch_file import read_torch, write_torch

VALUE = {"a": torch.arange(6.0), "b": [1, {"c": "x"}]}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whatever_is_damaged_is_one_kind_of_error(tmp_path, zipped):
    path, draw = tmp_path / "v.pt", random.Random(0)
    torch.save(VALUE, path, _use_new_zipfile_serialization=zipped)
    whole, said = path.read_bytes(), []
    for _ in range(300):
        raw = bytearray(whole)
        for place in draw.sample(range(min(len(raw), 700)), 3):
            raw[place] = draw.randrange(256)
        path.write_bytes(raw)
        try:
            read_torch(path, instead="save it again")
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 100
    assert all("v.pt cannot be read" in message for message in said)


@pytest.mark.parametrize(
    "raw", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02(."], ids=repr
)
def test_short_files_are_refused(tmp_path, raw):
    path = tmp_path / "v.pt"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"v\.pt cannot be read"):
        read_torch(path, instead="save it again")


def test_a_whole_file_comes_back(tmp_path):
    write_torch(VALUE, tmp_path / "v.pt")
    found = read_torch(tmp_path / "v.pt", instead="")
    assert torch.equal(found["a"], VALUE["a"])
    assert found["b"] == VALUE["b"]
