"""Several texts in one row of tokens, kept apart by positions and a mask.

What texts share at their beginning is in the row once. Exact for families whose
attention takes explicit positions and a four-dimensional mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from contrans.models.anatomy import anatomy_of
from contrans.models.lm import LM
from contrans.models.padding import pad
from contrans.models.prefix_tree import Packed

_LENGTH_DEPENDENT = frozenset(("dynamic", "longrope"))


def readable(lm: LM, longest: int) -> bool:
    """Whether pieces of texts see the same positions as whole texts would."""
    config = lm.model.config.get_text_config()
    if getattr(config, "use_bidirectional_attention", False):
        return False
    if getattr(config, "is_causal", None) is False:
        return False
    rope = getattr(config, "rope_parameters", None)  # transformers 5
    rope = rope or getattr(config, "rope_scaling", None) or {}
    for part in (rope, *(v for v in rope.values() if isinstance(v, dict))):
        if part.get("rope_type", part.get("type")) in _LENGTH_DEPENDENT:
            usual = part.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            return longest <= (usual or getattr(config, "max_position_embeddings", 0))
    return not getattr(config, "is_encoder_decoder", False)


def packable(lm: LM, longest: int) -> bool:
    """Whether texts of up to `longest` tokens may run packed in this model."""
    config = lm.model.config.get_text_config()
    if config is not lm.model.config or not anatomy_of(config).packs:
        return False  # what surrounds a text model may make masks of its own
    if getattr(config, "_attn_implementation", "sdpa") not in ("sdpa", "eager"):
        return False
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return True
    return longest < window


def packed_inputs(
    lm: LM, rows: Sequence[Sequence[Packed]], known: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Token ids of rows of packed pieces, and the mask and positions they need.

    Args:
        lm: the model.
        rows: the pieces of each row.
        known: tokens in a cache before all of them.
    """
    ids, _ = pad([[i for p in row for i in p.ids] for row in rows], 0, side="right")
    place = torch.zeros_like(ids)
    seen = torch.zeros(len(rows), 1, ids.shape[1], known + ids.shape[1]).bool()
    for r, row in enumerate(rows):
        start = 0
        for part in row:
            end = start + len(part.ids)
            place[r, start:end] = torch.tensor(part.depth)
            seen[r, 0, start:end, :known] = True
            seen[r, 0, start:end, known + start : known + end] = torch.from_numpy(
                part.seen()
            )
            start = end
        filler = torch.arange(start, ids.shape[1])
        seen[r, 0, filler, known + filler] = True
    mask = torch.zeros(seen.shape, dtype=lm.dtype)
    mask.masked_fill_(~seen, torch.finfo(lm.dtype).min)
    return ids, {"attention_mask": mask, "position_ids": place}
