"""A lean training forward over the parameters of a Hugging Face Llama.

The module holds no parameters of its own: it computes the same logits as the
wrapped model, with one matrix product for query, key and value and one for gate and
up, and nothing else, which compiles to code several times as fast.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM


class LeanLlama(nn.Module):
    """Logits of a Llama whose query heads all have a key head of their own."""

    def __init__(
        self, model: LlamaForCausalLM, length: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.model = model
        config: Any = model.config
        self.heads = config.num_attention_heads
        self.hidden = config.hidden_size
        self.width = self.hidden // self.heads
        self.epsilon = config.rms_norm_eps
        self.dtype = dtype
        half = torch.arange(0, self.width, 2).float() / self.width
        theta = torch.outer(torch.arange(length).float(), 1e4**-half)
        angles = torch.cat([theta, theta], dim=-1)
        self.cos = angles.cos().to(dtype)
        self.sin = angles.sin().to(dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for rows of documents; no document sees another.

        A document begins with the token for a beginning. Without the wall between
        documents, what the ones before were about drowns what this one is about.
        """
        core: Any = self.model.model
        dtype = self.dtype
        number = (tokens == core.config.bos_token_id).cumsum(-1)
        seen = (number[:, None, :, None] == number[:, None, None, :]).tril()
        embedding = core.embed_tokens.weight.to(dtype)
        stream = F.embedding(tokens, embedding)
        for block in core.layers:
            stream = stream + self._attend(block, stream, seen)
            stream = stream + self._transform(block, stream)
        return F.linear(self._norm(stream, core.norm), embedding)

    def _norm(self, stream: Tensor, norm: Any) -> Tensor:
        weight = norm.weight.to(self.dtype)
        return F.rms_norm(stream, (self.hidden,), weight, self.epsilon)

    def _attend(self, block: Any, stream: Tensor, seen: Tensor) -> Tensor:
        rows, length, _ = stream.shape
        part = block.self_attn
        weights = [p.weight for p in (part.q_proj, part.k_proj, part.v_proj)]
        joint = F.linear(
            self._norm(stream, block.input_layernorm),
            torch.cat(weights).to(self.dtype),
        )
        joint = joint.view(rows, length, 3, self.heads, self.width)
        joint = joint.permute(2, 0, 3, 1, 4)
        turned = joint[:2]
        left, right = turned.chunk(2, dim=-1)
        cos, sin = self.cos[:length], self.sin[:length]
        turned = turned * cos + torch.cat([-right, left], dim=-1) * sin
        mixed = F.scaled_dot_product_attention(
            turned[0], turned[1], joint[2], attn_mask=seen
        )
        mixed = mixed.transpose(1, 2).reshape(rows, length, self.hidden)
        return F.linear(mixed, part.o_proj.weight.to(self.dtype))

    def _transform(self, block: Any, stream: Tensor) -> Tensor:
        part = block.mlp
        weights = [part.gate_proj.weight, part.up_proj.weight]
        joint = F.linear(
            self._norm(stream, block.post_attention_layernorm),
            torch.cat(weights).to(self.dtype),
        )
        gate, up = joint.chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, part.down_proj.weight.to(self.dtype))


def fast_dtype() -> torch.dtype:
    """The dtype this machine multiplies fastest in: bf16 only where it is native."""
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if native else torch.float32
