"""Real llama.cpp gives the logits of our hooks: `pip install -e ".[dev,llama]"`.

Each test compares with transformers in float32; llama.cpp runs with a float32 cache and
without flash attention, since its default float16 cache alone moves logits by 6e-3.
"""

import ctypes
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import contrans as ct
from contrans.control.steer import Steer, compose
from contrans.export.checkpoint.bake import bake
from contrans.export.gguf.bake import bake_gguf
from contrans.export.gguf.control_vector import write_control_vector
from contrans.export.gguf.model import write_model
from contrans.models.edits import NoControl
from contrans.models.lm import LM
from contrans.models.loading import wrap

llama_cpp = pytest.importorskip(
    "llama_cpp", reason='llama.cpp is not installed: pip install -e ".[dev,llama]"'
)
from contrans.export.llama_cpp import steered  # noqa: E402

log = logging.getLogger(__name__)
TOLERANCE = 1e-4
"""Asked for; sums in float32 in another order make about 5e-6."""
SHARED = 1e-5
"""Between two runs of llama.cpp that differ only in where a vector is added."""
FELT = 0.1
"""An edit that moves logits by less would prove nothing."""
TEXT = "The meeting was moved again, and Mira felt"
F32 = 0


@contextmanager
def running(path: Path, **options) -> Iterator:
    """A model in llama.cpp, on the CPU, as exact as it can be."""
    defaults = llama_cpp.llama_model_default_params

    def exact():
        params = defaults()
        params.use_extra_bufts = False  # with AMX, q8_0 crashes otherwise
        return params

    llama_cpp.llama_model_default_params = exact
    try:
        llm = llama_cpp.Llama(
            str(path),
            n_ctx=128,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            type_k=F32,
            type_v=F32,
            flash_attn=False,
            verbose=False,
            **options,
        )
    finally:
        llama_cpp.llama_model_default_params = defaults
    try:
        yield llm
    finally:
        llm.close()


def run(llm, ids: list[int]) -> np.ndarray:
    """Logits at every token."""
    llm.reset()
    llm.eval(ids)
    return np.array(llm.scores[: len(ids)])


@torch.no_grad()
def expected(lm: LM, ids: list[int], control=NoControl()) -> np.ndarray:  # noqa: B008
    """The same from transformers and our hook."""
    with control.on(lm):
        return lm.model(torch.tensor([ids])).logits[0].numpy()


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """The largest difference of a logit; `--log-cli-level=INFO` shows each."""
    found = float(np.abs(one - two).max())
    log.info("%.1e (logits up to %.1f)", found, np.abs(one).max())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("llama")


@pytest.fixture(scope="module")
def small() -> LM:
    return ct.load_model("zoo/small")


@pytest.fixture(scope="module")
def model(folder, small) -> Path:
    path = folder / "small.gguf"
    write_model(small, path)
    return path


@pytest.fixture(scope="module")
def ids(small) -> list[int]:
    return small.encode([TEXT])[0]


@pytest.fixture
def vector(small, make_vector):
    return make_vector(small, length=6.0)


def test_a_zoo_model_gives_the_same_logits(model, small, ids):
    with running(model) as llm:
        assert distance(run(llm, ids), expected(small, ids)) < TOLERANCE


@pytest.mark.parametrize("layers", [[1], [2], [3], [1, 3]])
def test_a_control_vector_is_our_hook(layers, model, small, ids, vector, tmp_path):
    steer = Steer(vector, layers=layers, strength=1.5)
    write_control_vector(steer, tmp_path / "v.gguf")
    want = expected(small, ids, steer)
    with running(model) as llm:
        before = run(llm, ids)
        with steered(llm, tmp_path / "v.gguf"):
            assert distance(run(llm, ids), want) < TOLERANCE
        assert distance(want, before) > FELT
        assert distance(run(llm, ids), before) == 0.0  # nothing is left


def test_the_scale_may_be_given_at_use(model, small, ids, vector, tmp_path):
    steer = Steer(vector, layers=[2], strength=0.75)
    write_control_vector(Steer(vector, layers=[2]), tmp_path / "v.gguf")
    with running(model) as llm, steered(llm, tmp_path / "v.gguf", strength=0.75):
        assert distance(run(llm, ids), expected(small, ids, steer)) < TOLERANCE


@pytest.mark.parametrize("layers", [[0], [3], [0, 1, 2, 3]])
def test_a_baked_model_is_our_hook(layers, model, small, ids, vector, tmp_path):
    steer = Steer(vector, layers=layers, strength=1.5)
    bake_gguf(steer, model, tmp_path / "baked.gguf")
    want = expected(small, ids, steer)
    assert distance(want, expected(small, ids)) > FELT
    with running(tmp_path / "baked.gguf") as llm:
        assert distance(run(llm, ids), want) < TOLERANCE


def test_several_vectors_in_one_file_and_a_baked_model_on_top(
    model, small, ids, vector, make_vector, tmp_path
):
    other = make_vector(small, length=3.0, seed=1)
    both = compose(Steer(vector, layers=[1, 2]), Steer(other, layers=[2], strength=-1))
    want = expected(small, ids, compose(both, Steer(other, layers=[0])))
    bake_gguf(Steer(other, layers=[0]), model, tmp_path / "baked.gguf")
    with running(tmp_path / "baked.gguf") as llm, steered(llm, both):
        assert distance(run(llm, ids), want) < TOLERANCE


def test_a_model_with_biases_keeps_them(small, ids, make_lm, make_vector, tmp_path):
    """Attention biases are permuted as weights are; an MLP bias is added to."""
    made = make_lm("llama", vocab_size=2048, attention_bias=True, mlp_bias=True)
    lm = wrap(made.model, small.tokenizer, name="biased")
    steer = Steer(make_vector(lm), layers=[0, 2])
    write_model(lm, tmp_path / "m.gguf")
    report = bake_gguf(steer, tmp_path / "m.gguf", tmp_path / "baked.gguf")
    assert report.added_to == (0, 2)
    with running(tmp_path / "m.gguf") as llm:
        assert distance(run(llm, ids), expected(lm, ids)) < TOLERANCE
    with running(tmp_path / "baked.gguf") as llm:
        assert distance(run(llm, ids), expected(lm, ids, steer)) < TOLERANCE


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "olmo2"])
def test_other_architectures_take_a_control_vector(
    family, small, ids, make_lm, make_vector, tmp_path
):
    options = {"sliding_window": None} if family == "mistral" else {}
    made = make_lm(family, vocab_size=2048, **options)
    lm = wrap(made.model, small.tokenizer, name=family)
    steer = Steer(make_vector(lm), layers=[1, 2])
    write_model(lm, tmp_path / "m.gguf")
    with running(tmp_path / "m.gguf") as llm:
        assert distance(run(llm, ids), expected(lm, ids)) < TOLERANCE
        with steered(llm, steer):
            want = expected(lm, ids, steer)
            assert distance(run(llm, ids), want) < TOLERANCE
            assert distance(want, expected(lm, ids)) > FELT


def test_a_mistral_file_is_a_llama_file_and_can_be_baked(
    small, ids, make_lm, make_vector, tmp_path
):
    made = make_lm("mistral", vocab_size=2048, sliding_window=None)
    lm = wrap(made.model, small.tokenizer, name="mistral")
    steer = Steer(make_vector(lm), layers=[0, 1])
    write_model(lm, tmp_path / "m.gguf")
    bake_gguf(steer, tmp_path / "m.gguf", tmp_path / "baked.gguf")
    with running(tmp_path / "baked.gguf") as llm:
        assert distance(run(llm, ids), expected(lm, ids, steer)) < TOLERANCE


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_a_baked_folder_runs_in_llama_cpp(
    family, small, ids, make_lm, make_vector, tmp_path
):
    """What --bake wrote, re-hosted as Llama or not, through GGUF: still our hook."""
    options = {"sliding_window": None} if family == "mistral" else {}
    made = make_lm(family, vocab_size=2048, **options)
    made.model.save_pretrained(tmp_path / "base")
    small.tokenizer.save_pretrained(tmp_path / "base")
    lm = ct.load_model(tmp_path / "base", dtype="float32")
    steer = Steer(make_vector(lm), layers=[0, 2])
    report = bake(steer, tmp_path / "base", tmp_path / "baked")
    assert report.architecture == "llama"
    write_model(tmp_path / "baked", tmp_path / "baked.gguf")
    want = expected(lm, ids, steer)
    assert distance(want, expected(lm, ids)) > FELT
    with running(tmp_path / "baked.gguf") as llm:
        assert distance(run(llm, ids), want) < TOLERANCE


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_a_baked_quantised_model_is_that_model_with_a_control_vector(
    kind, model, ids, vector, tmp_path
):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = 1
    path = tmp_path / f"{kind}.gguf"
    files = (str(model).encode(), str(path).encode())
    assert llama_cpp.llama_model_quantize(*files, ctypes.byref(params)) == 0
    steer = Steer(vector, layers=[1, 3])
    bake_gguf(steer, path, tmp_path / "baked.gguf")
    with running(path) as llm:
        before = run(llm, ids)
        with steered(llm, steer):
            want = run(llm, ids)
    with running(tmp_path / "baked.gguf") as llm:
        assert distance(run(llm, ids), want) < SHARED
    assert distance(before, want) > FELT


# the two traps of the buffer


def set_raw(llm, rows: np.ndarray, first: int, last: int) -> int:
    data = np.ascontiguousarray(rows, np.float32)
    pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    width = rows.shape[1]
    return llama_cpp.llama_set_adapter_cvec(
        llm.ctx, pointer, data.size, width, first, last
    )


def test_a_short_buffer_leaves_old_rows_and_ours_does_not(
    model, small, ids, vector, make_vector
):
    new = make_vector(small, length=6.0, seed=2)
    mixed = compose(Steer(new, layers=[1]), Steer(vector, layers=[2, 3]))
    with running(model) as llm:
        assert set_raw(llm, vector.directions[1:].numpy(), 1, 3) == 0
        assert set_raw(llm, new.directions[1:2].numpy(), 1, 3) == 0
        assert distance(run(llm, ids), expected(small, ids, mixed)) < TOLERANCE
        with steered(llm, Steer(vector, layers=[1, 2, 3])):
            run(llm, ids)
        only = Steer(new, layers=[1])
        with steered(llm, only):
            assert distance(run(llm, ids), expected(small, ids, only)) < TOLERANCE


def test_both_ends_of_the_layer_range_count(model, small, ids, vector):
    rows = vector.directions[1:].numpy()
    with running(model) as llm:
        for first, last in [(1, 1), (2, 2), (2, 3), (3, 3)]:
            assert set_raw(llm, rows, first, last) == 0
            want = expected(small, ids, Steer(vector, layers=range(first, last + 1)))
            assert distance(run(llm, ids), want) < TOLERANCE
        assert set_raw(llm, rows[:, :-1], 1, 3) == -1  # wrong width


def test_states_of_the_last_prompt_are_not_used_again(model, small, vector):
    """`Llama` keeps them, and they were made with another vector."""
    steer = Steer(vector, layers=[1], strength=6.0)

    def say(llm) -> str:
        return llm(TEXT, max_tokens=12, temperature=0.0)["choices"][0]["text"]

    with running(model) as llm:
        before = say(llm)
        with steered(llm, steer):
            during = say(llm)
        assert say(llm) == before
    assert before == small.generate(TEXT, max_new_tokens=12)
    with steer.on(small):
        assert during == small.generate(TEXT, max_new_tokens=12)
    assert during != before


def test_what_does_not_fit_is_refused(model, small, vector, make_lm, make_vector):
    with running(model) as llm:
        for control, message in [
            (vector, "block 0"),
            (make_vector(make_lm("llama")).select([1]), "width 32 does not fit"),
            (Steer(vector, layers=[1], positions="prompt"), "positions"),
        ]:
            with pytest.raises(ValueError, match=message), steered(llm, control):
                pass
        deep = ct.ConceptVector(torch.ones(1, small.hidden), (4,), "abc")
        with pytest.raises(ValueError, match="no block 4"), steered(llm, deep):
            pass


# the file


SAMPLE = [
    TEXT,
    "It's 12:30; they'll pay 1,299.50 euros (or more)!",
    "été, Straße, Ελλάδα, Привет, 你好世界, 🙂👍🏽",
    "  two spaces\n\n\tand a tab \r\n end ",
    "a" * 50 + "!?!?...---",
    "x",
]


@pytest.mark.parametrize("text", SAMPLE)
def test_the_tokenizer_cuts_as_ours(text, model, small):
    with running(model, vocab_only=True) as llm:
        found = llm.tokenize(text.encode(), add_bos=True)
        assert found == small.encode([text])[0]
        assert llm.detokenize(found[1:]).decode() == text


def test_special_ids(model, small):
    with running(model, vocab_only=True) as llm:
        assert llm.token_bos() == small.tokenizer.bos_token_id
        assert llm.token_eos() == small.tokenizer.eos_token_id


DECODE = """
import sys
from llama_cpp import Llama
llm = Llama(sys.argv[1], n_ctx=32, n_threads=1, verbose=False)
llm.eval([0, 5, 6])
print("decoded")
"""


def test_a_bias_in_f16_aborts_llama_cpp(model, vector, tmp_path):
    """Why baked biases are always F32. In a process of its own: it dies."""
    bake_gguf(Steer(vector, layers=[1]), model, tmp_path / "baked.gguf")
    short = tmp_path / "short.gguf"
    reader = gguf.GGUFReader(tmp_path / "baked.gguf")
    writer = gguf.GGUFWriter(short, "llama")
    for key, field in reader.fields.items():
        if key.startswith(("llama.", "tokenizer.")):
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        half = tensor.name.endswith(".bias")
        writer.add_tensor(
            tensor.name, tensor.data.astype("f2") if half else tensor.data
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    codes = {}
    for path in (tmp_path / "baked.gguf", short):
        done = subprocess.run(
            [sys.executable, "-c", DECODE, str(path)], capture_output=True, text=True
        )
        codes[path.name] = done.returncode
    assert codes == {"baked.gguf": 0, "short.gguf": -6}


DOCS = Path(__file__).parents[2] / "docs" / "llama-cpp.md"


def test_the_programs_of_the_docs_run(model, vector, tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    (tmp_path / "model.gguf").symlink_to(model)
    write_control_vector(Steer(vector, layers=[1, 3]), tmp_path / "anger.gguf")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 * len(blocks)
    assert printed[0] != printed[1]
    assert printed[:2] == printed[2:4]  # with contrans and without: the same texts
