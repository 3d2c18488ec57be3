"""A small model that follows a large one: the same tokens, its own cache and template."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from contrans.models.calls import cache_made, takes, with_cache
from contrans.models.chat import chat_prompt
from contrans.models.lm import LM
from contrans.models.logit_hooks import Reading
from contrans.models.padding import pad

_MARK = "\u241fprompt\u241f"


@dataclass(eq=False)
class Template:
    """A model's chat template around prompts that were written for another model."""

    lm: LM
    system: str | None = None
    answer_prefix: str = ""
    _known: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def around(self, prompt: list[int]) -> list[int]:
        """The tokens of a prompt as the user's message, up to the model's answer.

        A prompt that is in the template already stays as it is; so does every prompt
        of a model without a template, but for the answer's prefix.
        """
        key = tuple(prompt)
        if key not in self._known:
            self._known[key] = self._around(prompt)
        return self._known[key]

    def _around(self, prompt: list[int]) -> list[int]:
        tokenizer = self.lm.tokenizer
        prefix = self.lm.special_affixes[0]
        body = prompt[len(prefix) :] if prompt[: len(prefix)] == prefix else prompt
        if tokenizer.chat_template is None:
            if not self.answer_prefix:
                return prompt
            ids = tokenizer(self.answer_prefix, add_special_tokens=False).input_ids
            return prompt + list(ids)
        written = self._decode(body, special=True)
        head = (
            self._render(_MARK)
            .partition(_MARK)[0]
            .removeprefix(str(tokenizer.bos_token or ""))
        )
        if head and written.startswith(head):
            return prompt
        text = self._render(self._decode(body, special=False)) + self.answer_prefix
        return self.lm.encode([text])[0]

    def _decode(self, ids: list[int], *, special: bool) -> str:
        return str(
            self.lm.tokenizer.decode(
                ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False
            )
        )

    def _render(self, content: str) -> str:
        messages = [{"role": "user", "content": content}]
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        return chat_prompt(self.lm.tokenizer, messages)


@dataclass(eq=False)
class Follower:
    """Logits of a model at the places where another one has just made its own.

    Inside `generate()` it keeps a cache. Rows are matched with those of the last step
    by their tokens, not by their place, so beams that swap or drop rows only reorder
    the cache; rows that were never seen are read from the beginning.
    """

    lm: LM
    template: Template | None = None
    _rows: dict[tuple[int, ...], int] = field(default_factory=dict)
    _mask: Tensor | None = None
    _cache: Any = None

    def logits(self, reading: Reading) -> Float[Tensor, "rows columns vocabulary"]:
        """This model's logits in float32; zero at padding and inside a templated prompt."""
        rows, wanted = [], reading.wanted.cpu().clone()
        for i, (row, length) in enumerate(
            zip(reading.rows, reading.prompts, strict=True)
        ):
            lead = row[:length]
            if length and self.template is not None:
                lead = self.template.around(lead)
                inside = (wanted[i] >= 0) & (wanted[i] < length - 1)
                wanted[i] = torch.where(
                    wanted[i] >= 0, wanted[i] + len(lead) - length, -1
                )
                if lead != row[:length]:
                    wanted[i][inside] = -1
            rows.append(lead + row[length:])
        self._check(rows)
        ends = torch.tensor([[len(row) - 1] for row in rows])
        if reading.growing and torch.equal(wanted, ends):
            return self._step(rows)
        return self._whole(rows, wanted)

    def _check(self, rows: list[list[int]]) -> None:
        longest = max(len(row) for row in rows)
        if longest > self.lm.context:
            raise ValueError(
                f"a text of {longest} tokens (with its chat template) does not fit the "
                f"context of {self.lm.name!r} ({self.lm.context}), which follows it as "
                "expert or anti-expert; shorten the prompt or the answer"
            )

    @torch.no_grad()
    def _whole(self, rows: list[list[int]], wanted: Tensor) -> Tensor:
        """Rows from their beginning, without a cache."""
        ids, mask = pad(rows, self.lm.pad_id, side="right")
        columns, where = wanted.clamp_min(0).unique(return_inverse=True)
        found = self._forward(ids, mask, columns, use_cache=False).logits
        if found.shape[1] != len(columns):
            found = found[:, columns.to(found.device)]
        where = where.to(found.device)[..., None].expand(-1, -1, found.shape[-1])
        known = (wanted >= 0)[..., None].to(found.device)
        return torch.where(known, found.float().gather(1, where), 0.0)

    @torch.no_grad()
    def _step(self, rows: list[list[int]]) -> Tensor:
        """Rows that are those of the last step and one token more, if it knows them."""
        known = [self._rows.get(tuple(row[:-1])) for row in rows]
        last = torch.tensor([0])
        if self._mask is None or any(index is None for index in known):
            ids, mask = pad(rows, self.lm.pad_id, side="left")
            cache = None
            last = torch.tensor([ids.shape[1] - 1])
        else:
            order = torch.tensor([index or 0 for index in known])
            cache = self._cache
            if order.tolist() != list(range(len(self._mask))):
                cache.reorder_cache(order.to(self.lm.device))
            ids = torch.tensor([row[-1:] for row in rows])
            mask = torch.cat([self._mask[order], torch.ones_like(ids)], dim=1)
        out = self._forward(ids, mask, last, use_cache=True, cache=cache)
        self._cache, self._mask = cache_made(out), mask
        self._rows = {tuple(row): i for i, row in enumerate(rows)}
        return out.logits[:, -1:].float()

    def _forward(
        self,
        ids: Tensor,
        mask: Tensor,
        columns: Tensor,
        *,
        use_cache: bool,
        cache: Any = None,
    ) -> Any:
        lm = self.lm
        known = takes(lm.model)
        options = with_cache(lm.model, cache)
        if "logits_to_keep" in known:
            options["logits_to_keep"] = columns.to(lm.device)
        if "position_ids" in known:
            place = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            options["position_ids"] = place.to(lm.device)
        return lm.model(
            input_ids=ids.to(lm.device),
            attention_mask=mask.to(lm.device),
            use_cache=use_cache,
            **options,
        )
