"""Models: loading them, and one face for all architectures."""

import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from contrans.core.seeds import seeded
from contrans.core.version import newer_than_tested
from contrans.models.fingerprint import weights_fingerprint
from contrans.models.generation import plain_generation
from contrans.models.padding import pad

if _untested := newer_than_tested(transformers.__version__):
    logging.getLogger(__name__).warning(_untested)  # here, so that it is said once

UNBOUNDED_CONTEXT = 1 << 20
"""Context assumed when a model names none."""


@dataclass(frozen=True, eq=False)
class LM:
    """A causal language model, its tokenizer, and where its blocks are.

    The model stays the user's: nothing here wraps or marks it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    blocks_path: str
    revision: str | None = None

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, from the first to the last."""
        return cast(nn.ModuleList, self.model.get_submodule(self.blocks_path))

    @property
    def body(self) -> nn.Module:
        """The model without its language-model head."""
        return self.model.base_model

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self._text_config.hidden_size)

    @property
    def context(self) -> int:
        """Longest text in tokens that the model takes."""
        for name in ("max_position_embeddings", "max_seq_len"):
            bound = getattr(self._text_config, name, None)
            if bound:
                return int(bound)
        return UNBOUNDED_CONTEXT

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device that the embedding works on."""
        embedding = self.model.get_input_embeddings()
        device = cast(Tensor, embedding.weight).device
        if device.type != "meta":
            return device
        hook = getattr(embedding, "_hf_hook", None)  # offloaded by accelerate
        return torch.device(getattr(hook, "execution_device", None) or "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the model was loaded in."""
        return self.model.dtype

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the same in float32 and bfloat16.

        It samples 16 numbers of every parameter, so it takes milliseconds and still
        tells a fine-tuned model from its base.
        """
        return weights_fingerprint(self.model.named_parameters(), self._weight)

    def _weight(self, name: str) -> Tensor:
        """A parameter's values, also where accelerate keeps them elsewhere."""
        weight = self.model.get_parameter(name).detach()
        if weight.device.type != "meta":
            return weight
        from accelerate.utils import align_module_device

        owner, _, leaf = name.rpartition(".")
        module = self.model.get_submodule(owner)
        with align_module_device(module, torch.device("cpu")):
            return module.get_parameter(leaf).detach().clone()

    @cached_property
    def tokenizer_hash(self) -> str:
        """A hash of how the tokenizer splits text."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda kv: kv[1])
        probe = self.tokenizer("The tokenizer's 2 probes: été.").input_ids
        raw = json.dumps([vocabulary, probe]).encode()
        return hashlib.sha256(raw).hexdigest()[:16]

    def layer(self, layer: int) -> int:
        """A layer index as given by a person (negative from the end) made plain.

        Raises:
            ValueError: when the model has no such layer.
        """
        plain = layer + self.layers if layer < 0 else layer
        if not 0 <= plain < self.layers:
            raise ValueError(
                f"layer {layer} does not exist in {self.name!r}, which has "
                f"{self.layers} blocks; choose between 0 and {self.layers - 1}"
            )
        return plain

    @cached_property
    def special_affixes(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after a text."""
        for probe in ("x", "the", "0", "."):  # a tokenizer may not know some of them
            bare = self.tokenizer(probe, add_special_tokens=False).input_ids
            full = self.tokenizer(probe).input_ids
            for start in range(len(full) - len(bare) + 1) if bare else ():
                if full[start : start + len(bare)] == bare:
                    return list(full[:start]), list(full[start + len(bare) :])
        return [], []

    def encode(
        self, texts: Sequence[str], *, special: bool = True, room: int = 0
    ) -> list[list[int]]:
        """Token ids of each text, ready for a causal model.

        The tokenizer's own leading tokens (BOS) are kept, unless the text already
        begins with them, as chat templates do; trailing ones (EOS) are dropped, since
        the last token must be one of the text. Texts longer than the context lose
        their beginning, never their BOS.

        Args:
            texts: one row each.
            special: whether to put the leading special tokens.
            room: tokens of the context to leave free, for generation.

        Raises:
            ValueError: when a text has no token at all.
        """
        prefix = self.special_affixes[0] if special else []
        most = max(self.context - room, len(prefix) + 1)
        found: list[list[int]] = []
        for row, text in enumerate(texts):
            ids = list(self.tokenizer(text, add_special_tokens=False).input_ids)
            if not ids:
                raise ValueError(
                    f"text {row} has no tokens ({text!r}); remove empty texts"
                )
            if ids[: len(prefix)] != prefix:
                ids = prefix + ids
            if len(ids) > most:
                ids = prefix + ids[len(prefix) - most :]
            found.append(ids)
        return found

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        max_new_tokens: int = 64,
        sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        beams: int = 1,
        seed: int = 0,
    ) -> Any:
        """Continue one prompt, or several in a batch.

        Of the model's own generation_config.json only the tokens that end a text hold.

        Args:
            prompt: a text, or texts; the answer has the same form.
            max_new_tokens: tokens to add at most; the context may hold fewer. A long
                prompt loses its beginning, down to half the context, to leave room.
            sample: draw from the distribution instead of taking the arg-max.
            temperature: flattens (> 1) or sharpens (< 1) the distribution.
            top_p: keep the smallest set of tokens with this probability.
            beams: beam search with that many beams.
            seed: for sampling.

        Returns:
            The continuation alone, without the prompt: a string, or a list of them.
        """
        single = isinstance(prompt, str)
        limit = min(max_new_tokens, max(self.context // 2, 1))  # of a long prompt
        rows = self.encode([prompt] if single else list(prompt), room=limit)
        longest = max(len(row) for row in rows)
        ids, mask = pad(rows, self.pad_id, side="left")
        options: dict[str, Any] = {"do_sample": sample, "num_beams": beams}
        if sample:
            options |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
        with (
            seeded(seed),
            torch.no_grad(),
            plain_generation(self.model),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            out = cast(Any, self.model).generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=min(max_new_tokens, self.context - longest),
                pad_token_id=self.pad_id,
                **options,
            )
        texts = self.tokenizer.batch_decode(
            out[:, ids.shape[1] :], skip_special_tokens=True
        )
        return texts[0] if single else texts

    @property
    def pad_id(self) -> int:
        """An id to fill rows with; masked everywhere, so any will do."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(candidate, int):
                return candidate
        return 0
