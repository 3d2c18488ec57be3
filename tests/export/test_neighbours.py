"""steering-vectors and repeng: same layers, same logits, files in and out.

What needs the packages themselves runs where they are installed; see docs/neighbours.md.
"""

import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from contrans.control.steer import Steer, compose
from contrans.core.types import PromptPairs
from contrans.export.lm_eval import write_steering_file
from contrans.export.neighbours import (
    from_repeng,
    from_steering_vectors,
    read_pt,
    read_repeng,
    read_steering_vectors,
    to_repeng,
    to_steering_vectors,
    write_repeng,
    write_steering_vectors,
)
from contrans.models.collect import collect, collect_pairs
from contrans.models.edits import NoControl
from contrans.vectors.concepts import mean_difference

SAVED = Path(__file__).parents[1] / "files" / "steering_vectors_0.12.2.pt"
"""`torch.save` of a SteeringVector with layers 1 and 3, written by the package itself."""
SAME = 1e-5
"""Tolerance of logits of one model in float32."""
PROMPT = "The meeting was moved again."


@pytest.fixture
def neighbour(request):
    """The package that a test is about, or a skip that names it."""
    return pytest.importorskip(
        request.param, reason=f"{request.param} is not installed"
    )


steering_vectors = pytest.mark.parametrize(
    "neighbour", ["steering_vectors"], indirect=True
)
repeng = pytest.mark.parametrize("neighbour", ["repeng"], indirect=True)
families = pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])


@torch.no_grad()
def logits(lm, control=None):
    ids = torch.tensor(lm.encode([PROMPT]))
    with (control or NoControl()).on(lm):
        return lm.model(input_ids=ids).logits


@torch.no_grad()
def called(model, lm):
    return model(input_ids=torch.tensor(lm.encode([PROMPT]))).logits


def controls(lm, make_vector):
    """Two edits at unequal layers, block 0 left out, since GGUF cannot hold it."""
    return compose(
        Steer(make_vector(lm), layers=[1], strength=1.5),
        Steer(make_vector(lm, seed=1), layers=[1, -1], strength=-0.5),
    )


@steering_vectors
@families
def test_steering_vectors_gives_our_logits(
    neighbour, tmp_path, make_lm, make_vector, family
):
    lm = make_lm(family)
    control = controls(lm, make_vector)
    expected = logits(lm, control)
    file = tmp_path / "vector.pt"
    write_steering_vectors(control, file, depth=lm.layers)
    stored = torch.load(file, weights_only=True)  # noqa: TID251
    for vector in (
        to_steering_vectors(control, depth=lm.layers),
        neighbour.SteeringVector(**stored),
    ):
        with vector.apply(lm.model):
            assert torch.allclose(called(lm.model, lm), expected, atol=SAME)
        back = from_steering_vectors(vector, lm=lm)
        assert torch.allclose(logits(lm, Steer(back)), expected, atol=SAME)
    assert not torch.allclose(logits(lm), expected, atol=0.1)


@steering_vectors
def test_steering_vectors_trains_what_we_call_that_layer(neighbour, make_lm, texts):
    lm = make_lm("llama")
    pairs = PromptPairs(tuple(texts[:6]), tuple(texts[6:12]))
    ours = mean_difference(collect_pairs(lm, pairs))
    theirs = neighbour.train_steering_vector(
        lm.model,
        lm.tokenizer,
        list(zip(pairs.positive, pairs.negative, strict=True)),
        show_progress=False,
    )
    assert sorted(theirs.layer_activations) == list(ours.layers)
    back = from_steering_vectors(theirs, lm=lm)
    assert torch.allclose(back.directions, ours.directions, atol=1e-4)


@steering_vectors
def test_a_saved_object_of_the_package_is_read(neighbour, tmp_path, llama, make_vector):
    made = to_steering_vectors(make_vector(llama))
    torch.save(made, tmp_path / "object.pt")
    back = read_steering_vectors(tmp_path / "object.pt", lm=llama)
    assert torch.equal(back.directions, make_vector(llama).directions)
    made.layer_type = "mlp"
    torch.save(made, tmp_path / "inside.pt")
    with pytest.raises(ValueError, match="acts on 'mlp', inside a block"):
        read_steering_vectors(tmp_path / "inside.pt")
    (tmp_path / "pickled.pt").write_bytes(
        pickle.dumps(neighbour.SteeringVector({1: 0}))
    )
    with pytest.raises(ValueError, match="without running code"):
        read_steering_vectors(tmp_path / "pickled.pt")


@repeng
@families
def test_repeng_gives_our_logits(neighbour, tmp_path, make_lm, make_vector, family):
    lm = make_lm(family)
    control = controls(lm, make_vector)
    expected = logits(lm, control)
    vector = to_repeng(control, model_type=family, depth=lm.layers)
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    write_repeng(control, ours, model_type=family, depth=lm.layers)
    vector.export_gguf(theirs)
    read = neighbour.ControlVector.import_gguf(ours)
    assert read.model_type == family
    for back in (
        read_repeng(theirs, lm=lm),
        read_repeng(ours, lm=lm),
        from_repeng(vector, lm=lm),
    ):
        bound = Steer(back, any_model=True)
        assert torch.allclose(logits(lm, bound), expected, atol=SAME)
    model = neighbour.ControlModel(lm.model, list(vector.directions))
    for one in (vector, read):
        model.set_control(one)
        assert torch.allclose(called(model, lm), expected, atol=SAME)
    model.unwrap()


@repeng
def test_repeng_reads_what_we_call_that_layer(neighbour, make_lm, texts):
    from repeng.extract import batched_get_hiddens

    lm = make_lm("llama")
    ours = collect(lm, texts)
    theirs = batched_get_hiddens(lm.model, lm.tokenizer, texts, [0, 1, 2], 4)
    for layer in (0, 1):
        there = torch.from_numpy(theirs[layer]).float()
        assert torch.allclose(there, ours.at(layer), atol=1e-4)
    last = torch.from_numpy(theirs[2]).float()  # after the final norm: another state
    assert not torch.allclose(last, ours.at(2), atol=1e-2)
    assert neighbour.ControlVector.__module__ == "repeng.extract"


def test_a_file_of_the_package_is_read_without_the_package():
    for read in (read_steering_vectors, read_pt):
        vector = read(SAVED)
        assert vector.layers == (1, 3)
        assert vector[1].tolist() == [1.0, -2.0, 3.0]
        assert vector[3].tolist() == [0.5, 0.25, 0.125]
        assert (vector.model, vector.concept) == ("", SAVED.stem)


def test_our_file_is_plain_and_comes_back(tmp_path, llama, make_vector):
    file = tmp_path / "vector.pt"
    control = Steer(make_vector(llama), layers=[0, -1], strength=2.0)
    write_steering_vectors(control, file, depth=llama.layers)
    stored = torch.load(file, weights_only=True)  # noqa: TID251
    assert sorted(stored["layer_activations"]) == [0, 2]
    assert stored["layer_type"] == "decoder_block"
    back = read_steering_vectors(file, lm=llama)
    assert torch.equal(logits(llama, Steer(back)), logits(llama, control))
    with pytest.raises(FileExistsError, match="not overwritten"):
        write_steering_vectors(control, file, depth=llama.layers)
    before = file.read_bytes()
    write_steering_vectors(control, file, depth=llama.layers, force=True)
    assert file.read_bytes() == before


def test_any_pt_file_is_told_apart(tmp_path, llama, make_vector):
    control = Steer(make_vector(llama), layers=[1], strength=0.5)
    write_steering_file(control, tmp_path / "harness.pt", model=llama)
    write_steering_vectors(control, tmp_path / "plain.pt")
    one, other = (read_pt(tmp_path / f"{n}.pt", lm=llama) for n in ("harness", "plain"))
    assert torch.equal(one.directions, other.directions)
    assert torch.equal(logits(llama, Steer(one)), logits(llama, control))


class Trap:
    """A pickle of this writes a file when it is read as pickles are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"layer_activations": {1: Trap(sprung)}}, tmp_path / "trap.pt")
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("trap.pt", "trap.pkl"):
        with pytest.raises(ValueError, match="without running code stored in it"):
            read_pt(tmp_path / name)
    assert not sprung.exists()
    pickle.loads((tmp_path / "trap.pkl").read_bytes())
    assert sprung.exists()  # so it was a trap


def test_errors_name_what_is_wrong(tmp_path, llama, make_vector):
    with pytest.raises(ValueError, match="of width 3, but 'tiny-llama' has width 32"):
        read_steering_vectors(SAVED, lm=llama)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_pt(tmp_path / "nowhere.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list, not a SteeringVector"):
        read_steering_vectors(tmp_path / "list.pt")
    vector = make_vector(llama)
    with pytest.raises(ValueError, match="positions='prompt' depends on the text"):
        write_steering_vectors(Steer(vector, positions="prompt"), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="nothing to write"):
        write_steering_vectors(NoControl(), tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.skipif(
    find_spec("steering_vectors") is not None, reason="steering-vectors is installed"
)
def test_a_missing_package_is_named(llama, make_vector):
    with pytest.raises(ImportError, match="pip install steering-vectors"):
        to_steering_vectors(make_vector(llama))
