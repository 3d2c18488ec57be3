"""A byte-level BPE tokenizer, written into a GGUF file.

llama.cpp knows how a tokenizer cuts text into words before it merges by a name only.
The one written here, `gpt-2`, is that of the `ByteLevel` pre-tokenizer of Hugging Face;
tokenizers that cut differently are refused, since they would give other tokens without
any error.
"""

import json
from typing import Any

from contrans.models.gguf_file import require_gguf
from contrans.models.lm import LM

_WAY_OUT = "; convert the model with convert_hf_to_gguf.py of llama.cpp instead"
_SPECIAL_IDS = {
    "bos_token_id": "add_bos_token_id",
    "eos_token_id": "add_eos_token_id",
    "unk_token_id": "add_unk_token_id",
    "pad_token_id": "add_pad_token_id",
}


def add_tokenizer(writer: Any, lm: LM, rows: int) -> None:
    """Add the tokenizer of a model to a `gguf.GGUFWriter`.

    Args:
        writer: the writer.
        lm: the model; its tokenizer must be byte-level BPE.
        rows: rows of the embedding; ids without a token become unused ones.

    Raises:
        ValueError: for any other tokenizer, or one with more tokens than rows.
    """
    core = _core(lm)
    types = require_gguf().TokenType
    names = [f"[PAD{i}]" for i in range(rows)]
    kinds = [types.UNUSED] * rows
    for token, i in core["model"]["vocab"].items():
        names[_row(i, rows, lm)], kinds[i] = token, types.NORMAL
    for added in core["added_tokens"]:
        i = _row(added["id"], rows, lm)
        names[i] = added["content"]
        kinds[i] = types.CONTROL if added["special"] else types.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges(_merges(core, lm))
    for attribute, method in _SPECIAL_IDS.items():
        value = getattr(lm.tokenizer, attribute, None)
        if isinstance(value, int):
            getattr(writer, method)(value)
    before, after = lm.special_affixes
    writer.add_add_bos_token(before == [lm.tokenizer.bos_token_id])
    writer.add_add_eos_token(after == [lm.tokenizer.eos_token_id])
    template = getattr(lm.tokenizer, "chat_template", None)
    if isinstance(template, str):
        writer.add_chat_template(template)


def _row(i: int, rows: int, lm: LM) -> int:
    if i >= rows:
        raise ValueError(
            f"the tokenizer of {lm.name!r} has a token {i}, but the embedding has "
            f"{rows} rows; use the tokenizer that the model was trained with"
        )
    return i


def _core(lm: LM) -> dict[str, Any]:
    """The parts of a fast tokenizer, when llama.cpp can do the same."""
    fast = getattr(lm.tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise ValueError(
            f"{lm.name!r} has no fast tokenizer (tokenizer.json){_WAY_OUT}"
        )
    core = json.loads(fast.to_str())
    kind, before = core["model"].get("type"), core["pre_tokenizer"] or {}
    if kind != "BPE" or before.get("type") != "ByteLevel":
        raise ValueError(
            f"the tokenizer of {lm.name!r} is {kind} after {before.get('type')}; only "
            f"BPE after ByteLevel is written here{_WAY_OUT}"
        )
    if core["normalizer"] is not None:
        raise ValueError(
            f"the tokenizer of {lm.name!r} changes the text first "
            f"({core['normalizer']['type']}), which llama.cpp would not{_WAY_OUT}"
        )
    if before["add_prefix_space"] or not before["use_regex"]:
        raise ValueError(
            f"the ByteLevel step of {lm.name!r} has add_prefix_space="
            f"{before['add_prefix_space']}, use_regex={before['use_regex']}; only False "
            f"and True are written here{_WAY_OUT}"
        )
    return core


def _merges(core: dict[str, Any], lm: LM) -> list[str]:
    """The merges, each as two symbols with a space between."""
    merges = core["model"]["merges"]
    if not merges:
        raise ValueError(
            f"the tokenizer of {lm.name!r} has no merges, and llama.cpp refuses such a "
            "one; train a tokenizer with at least one merge"
        )
    return [m if isinstance(m, str) else " ".join(m) for m in merges]
