"""GGUF without llama.cpp: control vectors, models and baked models as files."""

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import PureWindowsPath

import gguf
import numpy as np
import pytest
import torch

import contrans as ct
from contrans.control.steer import Steer, compose
from contrans.core.types import ConceptVector
from contrans.export.constant import constant_edit
from contrans.export.gguf.bake import bake_gguf
from contrans.export.gguf.control_vector import (
    _check_name,
    read_control_vector,
    write_control_vector,
)
from contrans.export.gguf.model import interleave, write_model
from contrans.export.open_vector import read_vector
from contrans.models.anatomy import UnsupportedModelError
from contrans.models.edits import NoControl
from contrans.models.gguf_file import BLOCK_SIZES, open_gguf
from contrans.models.loading import wrap


@pytest.fixture
def vector() -> ConceptVector:
    directions = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    return ConceptVector(
        directions,
        layers=(1, 3),
        model="abc",
        concept="anger",
        norms=torch.tensor([1.5, 2.5]),
        name="some/model",
        provenance={"method": "mean-difference", "seed": 0},
    )


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def control_vector_bytes(
    directions, *, arch="controlvector", hint="llama", kind=0, form="<f4", axes=1
) -> bytes:
    """The bytes that repeng 0.4.0 writes, from the specification alone."""
    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text(arch),
        text(f"{arch}.model_hint") + struct.pack("<I", 8) + text(hint),
        text(f"{arch}.layer_count") + struct.pack("<II", 4, len(directions)),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(directions), len(entries))
    body, data = b"".join(entries), b""
    for name, row in directions.items():
        shape = [len(row), *[1] * (axes - 1)]
        body += text(name) + struct.pack(f"<I{axes}Q", axes, *shape)
        body += struct.pack("<IQ", kind, len(data))
        raw = np.asarray(row, form).tobytes()
        data += raw + b"\0" * (-len(raw) % 32)
    head += body
    return head + b"\0" * (-len(head) % 32) + data


def directions(vector) -> dict:
    return {f"direction.{layer}": vector[layer].numpy() for layer in vector.layers}


# control vectors


def test_our_file_comes_back_as_it_was(vector, tmp_path):
    write_control_vector(vector, tmp_path / "v.gguf")
    found = read_control_vector(tmp_path / "v.gguf")
    assert torch.equal(found.directions, vector.directions)
    assert torch.equal(found.norms, vector.norms)
    for name in ("layers", "model", "concept", "name", "provenance"):
        assert getattr(found, name) == getattr(vector, name)


def test_without_provenance_the_bytes_are_those_of_repeng(vector, tmp_path):
    path = tmp_path / "v.gguf"
    write_control_vector(vector, path, model_hint="llama", provenance=False)
    assert path.read_bytes() == control_vector_bytes(directions(vector))


def test_a_file_of_repeng_or_llama_cpp_is_read_as_applied(vector, tmp_path, make_lm):
    """`direction.N` is zero-based block N, whoever wrote it."""
    path = tmp_path / "happy.gguf"
    path.write_bytes(control_vector_bytes(directions(vector)))
    found = read_control_vector(path)
    assert found.layers == (1, 3)
    assert torch.equal(found.directions, vector.directions)
    assert (found.concept, found.model) == ("happy", "")
    assert found.provenance["hint"] == "llama"
    lm = make_lm("llama")
    wide = {"direction.1": np.ones(lm.hidden), "direction.2": np.ones(lm.hidden)}
    path.write_bytes(control_vector_bytes(wide))
    bound = read_control_vector(path, lm=lm)
    assert bound.model == lm.fingerprint
    with Steer(bound).on(lm):  # fits: no error
        pass


def test_strength_is_scaled_in(vector, tmp_path):
    steer = Steer(vector, layers=[3], strength=-2.0)
    write_control_vector(steer, tmp_path / "v.gguf")
    found = read_control_vector(tmp_path / "v.gguf")
    assert found.layers == (3,)
    assert torch.equal(found[3], -2.0 * vector[3])
    share = Steer(vector, layers=[3], strength=0.5, unit="relative")
    write_control_vector(share, tmp_path / "w.gguf")
    again = read_control_vector(tmp_path / "w.gguf")
    assert again.relative_strength(3) == pytest.approx(0.5, rel=1e-5)


def test_strength_is_not_applied_again(vector, tmp_path):
    """A file read, saved and used at the strength it names is what was written."""
    measured = replace(vector, provenance={**vector.provenance, "strength": 4.0})
    steer = Steer(measured, layers=[3], strength=4.0)
    for control in (steer, compose(steer, NoControl())):
        write_control_vector(control, tmp_path / "v.gguf", force=True)
        found = read_control_vector(tmp_path / "v.gguf")
        ct.save(found, tmp_path / "v.safetensors", force=True)
        kept, strength = read_vector(tmp_path / "v.safetensors")
        assert torch.equal(strength * kept[3], 4.0 * vector[3])
        assert kept.provenance["applied_strength"] == {"value": 4.0, "unit": "raw"}
        assert kept.provenance["method"] == "mean-difference"
    write_control_vector(measured, tmp_path / "bare.gguf")  # nothing is scaled in
    assert read_control_vector(tmp_path / "bare.gguf").provenance["strength"] == 4.0


def test_the_drive_of_windows_is_no_colon_in_the_name():
    _check_name(PureWindowsPath(r"C:\models\anger.gguf"))
    for name in (r"C:\models\a:b.gguf", r"C:\a:b\c.gguf"):
        with pytest.raises(ValueError, match="colon"):
            _check_name(PureWindowsPath(name))


def test_no_file_stays_open_after_an_error(vector, tmp_path, monkeypatch):
    writers = []

    def fail(writer, *_):
        assert writer.fout
        writers.append(writer)
        raise OSError(28, "No space left on device")

    for name in ("write_kv_data_to_file", "write_ti_data_to_file"):
        monkeypatch.setattr(gguf.GGUFWriter, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_control_vector(vector, tmp_path / "v.gguf")
    with pytest.raises(OSError, match="No space left"):
        write_model("zoo/small", tmp_path / "m.gguf")
    assert [writer.fout for writer in writers] == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_controls_are_summed(vector, tmp_path):
    both = compose(Steer(vector, layers=[1]), Steer(vector, strength=2.0), NoControl())
    assert set(constant_edit(both)) == {1, 3}
    assert torch.equal(constant_edit(both)[1], 3 * vector[1])
    write_control_vector(both, tmp_path / "v.gguf")
    assert torch.equal(read_control_vector(tmp_path / "v.gguf")[1], 3 * vector[1])


def test_the_library_of_llama_cpp_reads_our_file(vector, tmp_path):
    write_control_vector(vector, tmp_path / "v.gguf", model_hint="llama")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 2
    for tensor, layer in zip(reader.tensors, vector.layers, strict=True):
        assert tensor.name == f"direction.{layer}"
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [8]
        np.testing.assert_array_equal(tensor.data, vector[layer].numpy())


@pytest.mark.parametrize(
    ("control", "name", "message"),
    [
        (lambda v: ConceptVector(v.directions, (0, 1), "abc"), "v.gguf", "block 0"),
        (lambda v: v, "v:2.gguf", "colon"),
        (lambda v: Steer(v, layers=[]), "v.gguf", "no direction to write"),
        (lambda v: Steer(v, positions="prompt"), "v.gguf", "positions='prompt'"),
        (lambda v: Steer(v, skip_bos=True), "v.gguf", "skip_bos"),
        (lambda v: Steer(v, keep_norm=True), "v.gguf", "keep_norm"),
    ],
)
def test_what_cannot_be_written_is_refused(vector, tmp_path, control, name, message):
    with pytest.raises(ValueError, match=message):
        write_control_vector(control(vector), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_block_beyond_the_model_is_refused(vector, tmp_path):
    with pytest.raises(ValueError, match="no block 3; it has 3 blocks"):
        write_control_vector(vector, tmp_path / "v.gguf", depth=3)


def test_nothing_is_overwritten(vector, tmp_path):
    path = tmp_path / "v.gguf"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        write_control_vector(vector, path)
    assert path.read_text() == "mine"
    write_control_vector(vector, path, force=True)
    assert read_control_vector(path).layers == (1, 3)


ONES = np.ones(4, "f4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (control_vector_bytes({"direction.0": ONES}), "direction.0"),
        (control_vector_bytes({"direction.x": ONES}), "a tensor 'direction.x'"),
        (control_vector_bytes({"other.1": ONES}), "a tensor 'other.1'"),
        (control_vector_bytes({"direction.1": ONES}, kind=1, form="<f2"), "is F16"),
        (control_vector_bytes({"direction.1": ONES}, axes=2), "2 axes"),
        (control_vector_bytes({"direction.1": ONES}, arch="llama"), "'llama', not a"),
        (control_vector_bytes({}), "no direction"),
        (
            control_vector_bytes({"direction.1": ONES, "direction.2": np.ones(8)}),
            r"widths \[4, 8\]",
        ),
        (control_vector_bytes({"direction.1": ONES * np.nan}), "NaN"),
        (b"not a file", "not a GGUF file"),
        (b"", "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "version 1"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60), "damaged or cut short"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    path = tmp_path / "v.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_control_vector(path)


def test_a_file_cut_short_anywhere_is_noticed(vector, tmp_path):
    path = tmp_path / "v.gguf"
    write_control_vector(vector, path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut short|not a GGUF"):
            read_control_vector(path)


def test_a_vector_of_another_model_is_refused(vector, tmp_path, make_lm):
    path = tmp_path / "v.gguf"
    path.write_bytes(control_vector_bytes(directions(vector)))
    with pytest.raises(ValueError, match="width 8, but 'tiny-llama' has width 32"):
        read_control_vector(path, lm=make_lm("llama"))
    path.write_bytes(control_vector_bytes({"direction.3": np.ones(32)}))
    with pytest.raises(ValueError, match="block 3, but 'tiny-llama' has 3 blocks"):
        read_control_vector(path, lm=make_lm("llama"))
    with pytest.raises(FileNotFoundError, match="check the name"):
        read_control_vector(tmp_path / "none.gguf")


def test_without_the_package_the_extra_is_named(vector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r'pip install "contrans\[gguf\]"'):
        write_control_vector(vector, tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())
    (tmp_path / "v.gguf").write_bytes(control_vector_bytes(directions(vector)))
    assert read_control_vector(tmp_path / "v.gguf").layers == (1, 3)  # reads without


REPENG = """
import sys, numpy as np
from repeng import ControlVector
rows = {1: np.arange(8, dtype="f4"), 3: -np.arange(8, dtype="f4")}
ControlVector("llama", rows).export_gguf(sys.argv[1])
found = ControlVector.import_gguf(sys.argv[2])
assert found.model_type == "llama" and set(found.directions) == {1, 3}
assert all((found.directions[k] == rows[k]).all() for k in rows)
"""


@pytest.fixture
def repeng() -> str:
    """A Python that has repeng: named in CONTRANS_REPENG_PYTHON, or this one."""
    python = os.environ.get("CONTRANS_REPENG_PYTHON", sys.executable)
    look = "import importlib.util as u; exit(u.find_spec('repeng') is None)"
    if subprocess.run([python, "-c", look]).returncode:
        pytest.skip("repeng is not installed (CONTRANS_REPENG_PYTHON names a Python)")
    return python


def test_repeng_reads_and_writes_the_same_files(repeng, tmp_path):
    rows = torch.arange(8.0)
    v = ConceptVector(torch.stack([rows, -rows]), layers=(1, 3), model="abc")
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    write_control_vector(v, ours, model_hint="llama")
    subprocess.run([repeng, "-c", REPENG, str(theirs), str(ours)], check=True)
    found = read_control_vector(theirs)
    assert found.layers == (1, 3)
    assert torch.equal(found.directions, v.directions)
    write_control_vector(v, ours, model_hint="llama", provenance=False, force=True)
    assert ours.read_bytes() == theirs.read_bytes()


# models


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_model("zoo/small", path)
    return path


def test_every_weight_of_a_model_is_in_the_file(model_file):
    lm = ct.load_model("zoo/small")
    found = {t.name: t.data for t in gguf.GGUFReader(model_file).tensors}
    block = lm.model.get_submodule("model.layers.2")
    for name, theirs in {
        "blk.2.ffn_down.weight": block.mlp.down_proj.weight,
        "blk.2.attn_v.weight": block.self_attn.v_proj.weight,
        "blk.2.attn_norm.weight": block.input_layernorm.weight,
        "token_embd.weight": lm.model.get_input_embeddings().weight,
        "blk.2.attn_q.weight": interleave(block.self_attn.q_proj.weight, 3),
    }.items():
        np.testing.assert_array_equal(found[name], theirs.detach().numpy())
    assert len(found) == len(list(lm.model.named_parameters()))


def test_interleaving_turns_halves_into_neighbours():
    order = interleave(torch.arange(12), heads=2).tolist()
    assert order == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    weight = torch.randn(12, 5)
    assert torch.equal(interleave(weight, 2), weight[order])


def test_half_precision_keeps_vectors_in_f32(tmp_path):
    write_model("zoo/small", tmp_path / "m.gguf", dtype="F16")
    kinds = {t.name: t.kind for t in open_gguf(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == 1
    assert kinds["blk.0.ffn_norm.weight"] == 0


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt2", {}, "'gpt2'; GGUF models are written here for llama, mistral"),
        ("gemma2", {}, "convert_hf_to_gguf"),
        (
            "llama",
            {
                "rope_scaling": {
                    "rope_type": "linear",
                    "factor": 2.0,
                    "rope_theta": 1e4,
                }
            },
            "rotary embedding of type 'linear'",
        ),
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu'"),
    ],
)
def test_what_is_not_written_names_the_way_out(
    family, changes, message, make_lm, tmp_path
):
    with pytest.raises(UnsupportedModelError, match=message):
        write_model(make_lm(family, **changes), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_llama_cpp_would_cut_otherwise_is_refused(
    unpadded, make_lm, tmp_path
):
    with pytest.raises(ValueError, match="WordLevel after Split"):
        write_model(unpadded, tmp_path / "m.gguf")
    with pytest.raises(ValueError, match="no merges"):
        write_model(make_lm("llama"), tmp_path / "m.gguf")
    large = ct.load_model("zoo/small").tokenizer
    with pytest.raises(ValueError, match="embedding has 300 rows"):
        write_model(wrap(make_lm("llama").model, large), tmp_path / "m.gguf")


# baked models


def model_vector(layers=(0, 2), width=96) -> ConceptVector:
    rows = torch.randn(len(layers), width, generator=torch.Generator().manual_seed(1))
    return ConceptVector(rows, layers=layers, model="abc", concept="anger")


def tensors_of(path) -> dict:
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def test_only_the_biases_are_new(model_file, tmp_path):
    v, out, calls = model_vector(), tmp_path / "out.gguf", []
    report = bake_gguf(v, model_file, out, progress=lambda *at: calls.append(at))
    before, after = tensors_of(model_file), tensors_of(out)
    assert set(after) - set(before) == {"blk.0.ffn_down.bias", "blk.2.ffn_down.bias"}
    for name, tensor in before.items():
        assert after[name].tensor_type == tensor.tensor_type
        assert after[name].data.tobytes() == tensor.data.tobytes()
    np.testing.assert_array_equal(after["blk.2.ffn_down.bias"].data, v[2].numpy())
    old, new = open_gguf(model_file), open_gguf(out)
    start, stop = old.entries
    entries = model_file.read_bytes()[start:stop]
    assert out.read_bytes()[new.entries[0] :].startswith(entries)
    assert new.keys - old.keys == {"contrans.baked"}
    assert (report.layers, report.added_to) == ((0, 2), ())
    assert report.tensors == len(after) == len(calls) == calls[-1][0]
    assert report.size == out.stat().st_size


def test_an_existing_bias_is_added_to(model_file, tmp_path):
    v = model_vector()
    bake_gguf(v, model_file, tmp_path / "one.gguf")
    report = bake_gguf(
        Steer(v, layers=[2], strength=0.5), tmp_path / "one.gguf", tmp_path / "two.gguf"
    )
    assert report.added_to == (2,)
    bias = tensors_of(tmp_path / "two.gguf")["blk.2.ffn_down.bias"].data
    np.testing.assert_allclose(bias, 1.5 * v[2].numpy(), rtol=1e-6)
    keys = open_gguf(tmp_path / "two.gguf").keys
    assert {"contrans.baked", "contrans.baked.2"} <= keys


def rewrite(source, out, change, *, arch="llama", extra=(), kinds=None):
    """Copy a GGUF model with other metadata and other tensors."""
    writer = gguf.GGUFWriter(out, arch)
    for key, field in gguf.GGUFReader(source).fields.items():
        if key.startswith("llama."):
            name = key.replace("llama.", f"{arch}.", 1)
            writer.add_key_value(name, field.contents(), field.types[0])
    for key, value in extra:
        writer.add_uint32(key, value)
    for tensor in gguf.GGUFReader(source).tensors:
        data = change(tensor.name, tensor.data)
        kind = (kinds or {}).get(tensor.name)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q4_0", "BF16", "F16"])
def test_every_quantisation_is_copied_as_it_is(quantisation, model_file, tmp_path):
    kind = gguf.GGMLQuantizationType[quantisation]
    kinds = {
        t.name: kind
        for t in gguf.GGUFReader(model_file).tensors
        if "ffn_" in t.name and "norm" not in t.name
    }
    rewrite(
        model_file,
        tmp_path / "q.gguf",
        lambda name, data: gguf.quantize(data, kind) if name in kinds else data,
        kinds=kinds,
    )
    bake_gguf(model_vector(), tmp_path / "q.gguf", tmp_path / "out.gguf")
    before, after = tensors_of(tmp_path / "q.gguf"), tensors_of(tmp_path / "out.gguf")
    for name, tensor in before.items():
        assert after[name].tensor_type == tensor.tensor_type
        assert after[name].data.tobytes() == tensor.data.tobytes()
    assert after["blk.0.ffn_up.weight"].tensor_type == kind
    bias = after["blk.0.ffn_down.bias"]
    assert bias.tensor_type == gguf.GGMLQuantizationType.F32


@pytest.mark.parametrize("short", ["F16", "BF16"])
def test_a_short_bias_becomes_f32(short, model_file, tmp_path):
    """llama.cpp aborts at decode when it is not."""
    v, name = model_vector(), "blk.2.ffn_down.bias"
    bake_gguf(v, model_file, tmp_path / "one.gguf")
    kind = gguf.GGMLQuantizationType[short]
    rewrite(
        tmp_path / "one.gguf",
        tmp_path / "short.gguf",
        lambda n, data: gguf.quantize(data, kind) if n == name else data,
        kinds={name: kind},
    )
    bake_gguf(-1.0 * v, tmp_path / "short.gguf", tmp_path / "two.gguf")
    bias = tensors_of(tmp_path / "two.gguf")[name]
    assert bias.tensor_type == gguf.GGMLQuantizationType.F32
    assert 0 < np.abs(bias.data).max() < 0.02  # what rounding to 8 bits left


@pytest.mark.parametrize(
    ("arch", "extra", "message"),
    [
        ("qwen3", (), r"architecture 'qwen3'.*--gguf FILE"),
        ("llama", (("llama.expert_count", 8),), "mixture of experts"),
        ("llama", (("split.count", 3),), "one of 3 pieces.*--merge"),
    ],
)
def test_models_without_the_slot_are_refused(
    arch, extra, message, model_file, tmp_path
):
    source = tmp_path / "m.gguf"
    rewrite(model_file, source, lambda _, data: data, arch=arch, extra=extra)
    with pytest.raises(ValueError, match=message):
        bake_gguf(model_vector(), source, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_edits_that_do_not_fit_are_refused(model_file, tmp_path):
    out = tmp_path / "out.gguf"
    with pytest.raises(ValueError, match=r"width 8 .* of width 96"):
        bake_gguf(model_vector(width=8), model_file, out)
    with pytest.raises(ValueError, match="no block 4; it has 4 blocks"):
        bake_gguf(model_vector((1, 4)), model_file, out)
    with pytest.raises(ValueError, match="at least one layer"):
        bake_gguf(NoControl(), model_file, out)
    write_control_vector(model_vector((1, 2)), tmp_path / "v.gguf")
    with pytest.raises(ValueError, match="is a control vector, not a model"):
        bake_gguf(model_vector(), tmp_path / "v.gguf", out)
    with pytest.raises(ValueError, match="it is a model"):
        read_control_vector(model_file)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model_file.read_bytes()[:-64])
    with pytest.raises(ValueError, match="cut short"):
        bake_gguf(model_vector(), cut, out)
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        bake_gguf(model_vector(), model_file, out)
    assert out.read_text() == "mine"


def test_layers_may_count_from_the_end(model_file, tmp_path):
    report = bake_gguf(
        Steer(model_vector((3,)), layers=[-1]), model_file, tmp_path / "out.gguf"
    )
    assert report.layers == (3,)


def test_block_sizes_are_those_of_ggml():
    assert {k: gguf.GGML_QUANT_SIZES[k] for k in BLOCK_SIZES} == BLOCK_SIZES
