"""Tiny random models of every family, and tokenizers, built in code: no download."""

import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch
import transformers
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from contrans.core.types import ConceptVector
from contrans.models.lm import LM
from contrans.models.loading import wrap

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

hypothesis.settings.register_profile("contrans", deadline=None)
hypothesis.settings.load_profile("contrans")  # a busy machine is no failure

VOCABULARY = 300
LAYERS = 3
HIDDEN = 32

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "attention_dropout": 0.0,
}
_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": HIDDEN,
    "n_layer": LAYERS,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_NEOX = {k: v for k, v in _SIZES.items() if k != "num_key_value_heads"}
_OPT = {
    **{k: v for k, v in _NEOX.items() if k != "intermediate_size"},
    "ffn_dim": 64,
    "word_embed_proj_dim": HIDDEN,
    "dropout": 0.0,
}

FAMILIES: dict[str, tuple[str, str, dict]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _SIZES),
    "mistral": (
        "MistralConfig",
        "MistralForCausalLM",
        {**_SIZES, "sliding_window": 16},
    ),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _SIZES),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_SIZES, "head_dim": 8}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**_SIZES, **_GEMMA}),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_SIZES, **_GEMMA}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT2),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _NEOX),
    "opt": ("OPTConfig", "OPTForCausalLM", _OPT),
    "opt_norm_after": (
        "OPTConfig",
        "OPTForCausalLM",
        {**_OPT, "do_layer_norm_before": False},
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _SIZES),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", _SIZES),
    "mixtral": (
        "MixtralConfig",
        "MixtralForCausalLM",
        {**_SIZES, "num_local_experts": 4},
    ),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {
            **_SIZES,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        },
    ),
}


_BLOOM = {k: _NEOX[k] for k in ("vocab_size", "hidden_size", "bos_token_id")}
MORE_FAMILIES: dict[str, tuple[str, str, dict]] = {
    "gptj": ("GPTJConfig", "GPTJForCausalLM", {**_GPT2, "rotary_dim": 4}),
    "gpt_bigcode": ("GPTBigCodeConfig", "GPTBigCodeForCausalLM", _GPT2),
    "gpt_neo": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            **{k: v for k, v in _NEOX.items() if "attention" not in k},
            "num_layers": LAYERS,
            "num_heads": 4,
            "attention_types": [[["global"], LAYERS]],
        },
    ),
    "phi": ("PhiConfig", "PhiForCausalLM", _SIZES),
    "bloom": (
        "BloomConfig",
        "BloomForCausalLM",
        {**_BLOOM, "n_layer": LAYERS, "n_head": 4},
    ),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", _SIZES),
    "granite": (
        "GraniteConfig",
        "GraniteForCausalLM",
        {**_SIZES, "residual_multiplier": 0.3},
    ),
}
"""Built on request by `make_lm`; the `lm` fixture leaves them out."""


@cache
def byte_tokenizer(*, bos: bool = False, pad: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte; with `bos`, every text begins with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2}
    vocabulary |= {symbol: 3 + i for i, symbol in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    named = {"pad_token": "<pad>"} if pad else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", **named
    )


@cache
def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a lower-case letter or space, no special token at all."""
    letters = "abcdefghijklmnopqrstuvwyz ?"  # no x, on purpose
    core = Tokenizer(
        models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="?")
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def tiny_model(family: str, *, seed: int = 0, **changes) -> torch.nn.Module:
    """A random model of a family, with weights large enough to tell states apart."""
    config_name, model_name, options = {**FAMILIES, **MORE_FAMILIES}[family]
    config = getattr(transformers, config_name)(**{**options, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, model_name)(config).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(0.0, 0.5 if "embed" in name else 0.15)
                elif "norm" in name or "ln_" in name:
                    weight.add_(torch.randn_like(weight) * 0.2)
                else:
                    weight.normal_(0.0, 0.1)
    model.generation_config.eos_token_id = None  # random models should not stop early
    return model


def tiny_lm(family: str, *, bos: bool = False, seed: int = 0, **changes) -> LM:
    """A fresh tiny model, its tokenizer, and a name."""
    model = tiny_model(family, seed=seed, **changes)
    return wrap(model, byte_tokenizer(bos=bos), name=f"tiny-{family}")


_shared_lm = cache(tiny_lm)


@pytest.fixture(params=list(FAMILIES))
def lm(request) -> LM:
    """A tiny model of every family; tests leave it as they found it."""
    return _shared_lm(request.param)


@pytest.fixture
def llama() -> LM:
    return _shared_lm("llama")


@pytest.fixture
def llama_bos() -> LM:
    return _shared_lm("llama", bos=True)


@pytest.fixture
def gpt2() -> LM:
    return _shared_lm("gpt2")


@pytest.fixture
def unpadded() -> LM:
    """A model whose tokenizer has neither a pad nor any other special token."""
    return wrap(tiny_model("llama"), character_tokenizer(), name="tiny-characters")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all workers of a run, for caches that lock their own entries."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (base / "shared").mkdir(exist_ok=True)
    return base / "shared"


@pytest.fixture(scope="session")
def make_lm() -> Callable[..., LM]:
    """Build a fresh tiny model that a test may change."""
    return tiny_lm


@pytest.fixture
def make_vector() -> Callable[..., ConceptVector]:
    """A random vector of a model, long enough to change what it says."""

    def make(lm: LM, *, length: float = 4.0, seed: int = 0, **fields) -> ConceptVector:
        drawn = torch.randn(
            lm.layers, lm.hidden, generator=torch.Generator().manual_seed(seed)
        )
        return ConceptVector(
            length * drawn / drawn.norm(dim=1, keepdim=True),
            layers=tuple(range(lm.layers)),
            model=lm.fingerprint,
            name=lm.name,
            **fields,
        )

    return make


@pytest.fixture
def texts() -> list[str]:
    """Twenty texts of unequal length."""
    drawn = random.Random(0)
    words = ["the", "dog", "saw", "a", "red", "house", "went", "home", "in", "rain"]
    return [" ".join(drawn.choices(words, k=1 + i % 9)) for i in range(20)]
