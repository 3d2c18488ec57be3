"""Generated text is the arg-max or a draw, whatever the model's own settings say.

A model's generation_config.json may hold penalties, bans, minimum lengths, time limits
and more, which `generate()` of transformers takes up unasked. Here only the tokens that
end a text are taken from it; every other setting is the caller's.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import GenerationConfig

HONOURED = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Settings of a model that hold: where its texts begin and end."""
_UNSAID = frozenset(
    (
        *HONOURED,
        *("do_sample", "num_beams", "temperature", "top_k", "top_p"),
        *("max_length", "max_new_tokens", "use_cache", "cache_implementation"),
        *("transformers_version", "compile_config", "disable_compile"),
    )
)
"""Settings of which nothing need be said: every caller gives them, or no text changes."""

logger = logging.getLogger(__name__)


@contextmanager
def plain_generation(model: nn.Module) -> Iterator[None]:
    """Let `model.generate()` follow its arguments and `HONOURED` alone, for a while."""
    given: Any = getattr(model, "generation_config", None)
    if given is None:
        yield
        return
    kept = {name: getattr(given, name, None) for name in HONOURED}
    model.generation_config = GenerationConfig(**kept)  # type: ignore[assignment]
    try:
        yield
    finally:
        model.generation_config = given


def check_generation(model: nn.Module, name: str) -> None:
    """Say which of a model's own settings do not hold.

    Raises:
        ValueError: when its end of text is no token.
    """
    given: Any = getattr(model, "generation_config", None)
    if given is None:
        return
    ends = given.eos_token_id
    for end in ends if isinstance(ends, list | tuple) else [ends]:
        if end is not None and (not isinstance(end, int) or end < 0):
            raise ValueError(
                f"the generation_config.json of {name!r} names {end!r} as the token "
                "that ends a text; write its number as eos_token_id, or take it out"
            )
    known = GenerationConfig().to_dict().keys() - _UNSAID
    changed = given.to_diff_dict()
    left = [
        f"{key}={changed[key]!r}"
        for key in sorted(known & changed.keys())
        if not key.startswith(("_", "output_")) and changed[key] not in (None, False)
    ]
    if left:
        logger.warning(
            "%r brings its own settings of generation (%s), which are not used here: "
            "text is the arg-max, or a draw as you ask for it",
            name,
            ", ".join(left),
        )
