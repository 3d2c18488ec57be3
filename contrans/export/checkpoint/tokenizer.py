"""Does a copied tokenizer still split text as the original does?

transformers chooses the class of a tokenizer from the model type and even from the name
of the model, so the same files can load as another tokenizer in a new folder.
"""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from contrans.core.files import write_json

CONFIG = "tokenizer_config.json"
PROBES = (
    "The 2nd café's menu:\n\n  - 100% rye\tbread… isn't 'cheap', 日本語!",
    " leading space and trailing ",
)
"""Texts with what tokenizers differ in: spaces, digits, accents, apostrophes, scripts."""


def copy_tokenizer(source: Path, folder: Path) -> list[str]:
    """Make the tokenizer files in `folder` load as those in `source` do.

    When they do not, the class named in tokenizer_config.json is replaced by the general
    one, which reads tokenizer.json as it stands.

    Returns:
        Warnings.
    """
    wanted = _tokens(source)
    if _tokens(folder) == wanted:
        return []
    config = folder / CONFIG
    if config.is_file() and (folder / "tokenizer.json").is_file():
        old = config.read_text(encoding="utf-8")
        changed = {**json.loads(old), "tokenizer_class": "PreTrainedTokenizerFast"}
        write_json(config, changed, force=True)
        if _tokens(folder) == wanted:
            return []
        config.write_text(old, encoding="utf-8")
    return [
        "the tokenizer of the baked folder does not split text as the base's does; serve "
        f"it with the base's (vllm --tokenizer, or AutoTokenizer.from_pretrained({source}))"
    ]


def _tokens(folder: Path) -> Any:
    """What a tokenizer makes of the probes; None when there is no tokenizer."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError):
        return None
    ids = [list(tokenizer(text).input_ids) for text in PROBES]
    return ids, [tokenizer.decode(row) for row in ids], tokenizer.eos_token_id
