"""Files: shards, memory, interruptions, what is never overwritten, other sources."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from baking import logits, random_steer, strangers, write_model

from contrans.cli.export_targets import load_control
from contrans.core.artifacts import save
from contrans.export.checkpoint.bake import bake
from contrans.export.checkpoint.checkpoint import open_checkpoint
from contrans.library import Library
from contrans.models.loading import load_model
from contrans.models.soundness import open_weights

CLOSE = 1e-4
INDEX = "model.safetensors.index.json"


@pytest.fixture
def base(make_lm, tmp_path):
    """A tiny Llama, in memory and in several files."""
    lm = make_lm("llama")
    return lm, write_model(lm, tmp_path / "base", max_shard_size="20KB")


def files_open(folder: Path) -> set[str]:
    """Weight files of a folder that this process has mapped or opened."""
    maps = Path("/proc/self/maps").read_text()
    mapped = {
        line.split(" ", 5)[-1].strip() for line in maps.splitlines() if "/" in line
    }
    opened = {
        os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        for fd in os.listdir("/proc/self/fd")  # noqa: PTH208
        if Path(f"/proc/self/fd/{fd}").exists()
    }
    return {f for f in mapped | opened if Path(f).parent == folder and "model" in f}


def test_many_files_are_rewritten_one_at_a_time(base, tmp_path):
    lm, folder = base
    names = sorted(p.name for p in folder.glob("*.safetensors"))
    assert len(names) > 3
    seen = []
    report = bake(
        random_steer(lm),
        folder,
        tmp_path / "out",
        progress=lambda done, total: seen.append((files_open(folder), done, total)),
    )
    assert report.files == len(names)
    if sys.platform == "linux":
        assert all(len(opened) == 1 for opened, _, _ in seen)
        assert set().union(*(opened for opened, _, _ in seen)) == {
            str(folder / name) for name in names
        }
    assert sorted(p.name for p in (tmp_path / "out").glob("*.safetensors")) == names
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "out" / file)
    assert "model.layers.2.mlp.down_proj.bias" in index["weight_map"]
    total = sum(
        value.nbytes
        for name in names
        for value in load_file(tmp_path / "out" / name).values()
    )
    assert index["metadata"]["total_size"] == total == report.bytes
    said = strangers([tmp_path / "out"], tmp_path)[str(tmp_path / "out")]
    wanted = logits(lm, random_steer(lm))
    torch.testing.assert_close(said, wanted, atol=CLOSE, rtol=CLOSE)


MEASURE = """
import sys
import torch

torch.set_num_threads(1)
from contrans.control.steer import Steer
from contrans.export.checkpoint.bake import bake
from contrans.core.types import ConceptVector


def private():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024


vector = ConceptVector(torch.ones(1, 512), layers=(1,), model="none")
steer = Steer(vector, any_model=True)
bake(steer, sys.argv[1], sys.argv[2])  # everything is imported and warm
before, peak = private(), 0


def watch(done, total):
    global peak
    peak = max(peak, private())


bake(steer, sys.argv[1], sys.argv[3], progress=watch)
print(peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_tensors_not_checkpoints(make_lm, tmp_path):
    """The memory of its own that the process takes, measured at every tensor written."""
    sizes = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 6}
    lm = make_lm("llama", **sizes)  # largest tensor 8.4 MB, all of it 164 MB
    folder = write_model(lm, tmp_path / "base")
    whole = (folder / "model.safetensors").stat().st_size
    assert whole > 150e6
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, folder, tmp_path / "one", tmp_path / "two"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout.split()[-1]) < 4 * 8.4e6 < whole / 4


def test_names_without_the_outermost_module(make_lm, tmp_path):
    """As in the published checkpoints of GPT-2 and BLOOM."""
    for number, family in enumerate(("gpt2", "bloom")):
        lm = make_lm(family)
        folder = write_model(lm, tmp_path / f"base-{number}")
        file = folder / "model.safetensors"
        short = {k.removeprefix("transformer."): v for k, v in load_file(file).items()}
        assert "h.0.ln_1.weight" in short or "h.0.input_layernorm.weight" in short
        save_file(short, file, metadata={"format": "pt"})
        bake(random_steer(lm), folder, tmp_path / f"out-{number}")
        found = logits(load_model(tmp_path / f"out-{number}"))
        torch.testing.assert_close(
            found, logits(lm, random_steer(lm)), atol=CLOSE, rtol=CLOSE
        )


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left")])
def test_an_interruption_leaves_nothing(base, tmp_path, error):
    lm, folder = base

    def stop(done, _total):
        if done == 5:
            raise error

    with pytest.raises((KeyboardInterrupt, OSError)):
        bake(random_steer(lm), folder, tmp_path / "out", progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_an_interrupted_replacement_leaves_the_old_one(base, tmp_path):
    lm, folder = base
    out = tmp_path / "out"
    bake(random_steer(lm), folder, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def stop(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake(random_steer(lm, strength=-1.0), folder, out, force=True, progress=stop)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "out"]


def test_nothing_is_overwritten_without_force(base, tmp_path):
    lm, folder = base
    out = tmp_path / "out"
    bake(random_steer(lm), folder, out)
    with pytest.raises(FileExistsError, match="--force"):
        bake(random_steer(lm), folder, out)
    bake(random_steer(lm, strength=-1.0), folder, out, force=True)
    wanted = logits(lm, random_steer(lm, strength=-1.0))
    torch.testing.assert_close(logits(load_model(out)), wanted, atol=CLOSE, rtol=CLOSE)


def test_force_does_not_delete_folders_of_others(base, tmp_path):
    lm, folder = base
    mine = tmp_path / "photos"
    mine.mkdir()
    (mine / "cat.jpg").write_text("miaow")
    with pytest.raises(FileExistsError, match="not written by contrans"):
        bake(random_steer(lm), folder, mine, force=True)
    assert (mine / "cat.jpg").read_text() == "miaow"
    with pytest.raises(FileExistsError, match="not written by contrans"):
        bake(random_steer(lm), folder, folder, force=True)  # onto the model itself
    baked = tmp_path / "baked"
    bake(random_steer(lm), folder, baked)
    again = random_steer(load_model(baked))
    with pytest.raises(ValueError, match="is or holds"):
        bake(again, baked, baked, force=True)


def test_force_does_not_delete_what_is_read(base, tmp_path):
    lm, folder = base
    out = tmp_path / "out"
    bake(random_steer(lm), folder, out)
    vector = out / "vector.safetensors"
    save(random_steer(lm).vector, vector)
    inner = folder.rename(out / "base")
    with pytest.raises(ValueError, match=r"is or holds .*vector\.safetensors"):
        bake(random_steer(lm), inner, out, force=True, inputs=[vector])
    named = {"strength": 1.0, "unit": "raw", "layers": None, "any_model": False}
    loaded = load_control(str(vector), **named)
    with pytest.raises(ValueError, match=r"is or holds .*vector\.safetensors"):
        loaded.bake(str(inner), out, None, None, force=True)
    with pytest.raises(ValueError, match=r"is or holds .*base, which is read"):
        bake(random_steer(lm), inner, out, force=True)
    assert vector.exists()
    assert (inner / INDEX).exists()


def test_force_does_not_delete_a_concept_library(base, tmp_path, monkeypatch):
    lm, folder = base
    monkeypatch.chdir(tmp_path)
    save(random_steer(lm).vector, "v.safetensors")
    library = Library(tmp_path / "library")
    library.add("v.safetensors", name="anger")
    before = sorted((tmp_path / "library").rglob("*"))
    assert (tmp_path / "library" / "contrans.json").is_file()
    with pytest.raises(FileExistsError, match="not written by contrans export --bake"):
        bake(random_steer(lm), folder, tmp_path / "library", force=True)
    assert sorted((tmp_path / "library").rglob("*")) == before


def test_pickled_weights_are_not_read(base, tmp_path):
    lm, folder = base
    for file in folder.glob("model*"):
        file.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pickle .*save_pretrained"):
        bake(random_steer(lm), folder, tmp_path / "out")


def test_quantised_checkpoints_are_refused(base, tmp_path):
    lm, folder = base
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quantised \(gptq\); bake into the unquant"):
        bake(random_steer(lm), folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: sorted(f.glob("*.safetensors"))[1].unlink(), "lacks model-00002"),
        (lambda f: (f / INDEX).write_text("{"), "not readable JSON"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "merge it first"),
        (
            lambda f: (f / INDEX).write_text('{"weight_map": {"a": "../../secret"}}'),
            "do not trust",
        ),
    ],
)
def test_damaged_checkpoints_are_named(base, tmp_path, spoil, said):
    lm, folder = base
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        bake(random_steer(lm), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 5, 0.5])
def test_a_truncated_file_is_named(base, tmp_path, size):
    lm, folder = base
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(
        whole[: size if isinstance(size, int) else int(len(whole) * size)]
    )
    with pytest.raises(ValueError, match=rf"{shard.name} cannot be read .*truncated"):
        bake(random_steer(lm), folder, tmp_path / "out")
    single = tmp_path / "single"
    single.mkdir()
    (single / "config.json").write_text((folder / "config.json").read_text())
    shard.rename(single / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        open_checkpoint(single)


def test_a_tensor_that_is_not_where_the_index_says_is_named(base):
    shard = sorted(base[1].glob("*.safetensors"))[0]
    with (
        pytest.raises(ValueError, match=rf"{shard.name} cannot be read .*nowhere"),
        open_weights(shard) as file,
    ):
        file.get_tensor("nowhere")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_download_that_cannot_be_stored_says_so(monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number), "blobs/abc")

    monkeypatch.setattr("contrans.export.checkpoint.checkpoint.snapshot_download", full)
    with pytest.raises(OSError, match=os.strerror(number)) as found:
        open_checkpoint("some/model")
    assert found.value.errno == number
    assert "no model" not in str(found.value)


def test_a_model_that_is_nowhere(base, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="no model 'no/such-model'"):
        bake(random_steer(base[0]), "no/such-model", tmp_path / "out")


def test_a_hub_id_is_taken_from_the_cache(base, tmp_path):
    """The layout that huggingface_hub keeps, read by huggingface_hub, without a network."""
    lm, folder = base
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--me--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "README.md").write_text(
        "---\nlicense: llama2\nlanguage: en\n---\n# tiny\n"
    )
    script = (
        "import sys; from contrans.export.checkpoint.bake import bake; import contrans as ct;"
        "from contrans.control.steer import Steer;"
        "v = ct.load(sys.argv[1]); print(bake(v, 'me/tiny', sys.argv[2]).revision)"
    )
    save(random_steer(lm).vector, tmp_path / "v.safetensors")
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "v.safetensors", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split()[-1] == commit
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: llama2" in card
    assert "base_model: me/tiny" in card
    assert commit in card
