"""Proxy-tuning, also called EFT: a small tuned model lends its difference to a large one.

    z(x) = z_target(x) + a ( z_expert(x) - z_anti_expert(x) ),   a = 1             (A6)

next token from softmax(z); arXiv 2401.08565 and 2310.12962. The expert is a small tuned
model, the anti-expert its base. All three share a vocabulary and each keeps its own
cache, advanced with the same token. EFT is the same rule on log-probabilities: they
differ from logits by a constant at every position, which softmax does not see.

A tuned expert sees its **own chat template** around the prompt, the two base models see
the prompt as it is. Without it, the baseline is weaker than it should be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from contrans.control.methods.companion import Follower, Template
from contrans.models.lm import LM
from contrans.models.logit_hooks import Reading, edit_logits

TemplateUse = Literal["auto", "never"]


@dataclass(frozen=True, slots=True, eq=False)
class ProxyTuning:
    """Add the difference of two small models to the logits of a large one.

    Example:
        with ProxyTuning(small_tuned, small_base).on(large) as lm:
            lm.generate("The meeting was moved again.")
    """

    expert: LM
    """The small tuned model."""
    anti_expert: LM
    """The small model before tuning."""
    strength: float = 1.0
    """The factor of the difference; 0 runs neither small model."""
    template: TemplateUse = "auto"
    """"auto": the expert's own chat template around the prompt, where it has one and
    the prompt is not in it already. "never": the expert sees the bare prompt."""
    system: str | None = None
    """A system message for the expert's template."""
    answer_prefix: str = ""
    """What the expert's answer begins with, such as "The answer is:"."""

    def __post_init__(self) -> None:
        if self.template not in get_args(TemplateUse):
            raise ValueError(
                f"unknown template use {self.template!r}; choose 'auto' or 'never'"
            )

    @property
    def cache_key(self) -> dict[str, Any]:
        """Everything that this control does, as JSON."""
        return {
            "method": "proxy-tuning",
            "models": [self.expert.fingerprint, self.anti_expert.fingerprint],
            "dtypes": [str(self.expert.dtype), str(self.anti_expert.dtype)],
            "strength": self.strength,
            "template": [self.template, self.system, self.answer_prefix],
        }

    @contextmanager
    def on(self, lm: LM) -> Iterator[LM]:
        """Edit the logits of `lm` while the context lasts.

        Raises:
            ValueError: when the three models do not share one vocabulary, or share
                one module (their hooks would then feed on themselves).
        """
        for other in (self.expert, self.anti_expert):
            check_vocabulary(lm, other)
            if other.model is lm.model:
                raise ValueError(
                    f"{lm.name!r} cannot be its own expert or anti-expert in one "
                    "process; load it a second time"
                )
        if self.strength == 0.0:
            yield lm
            return
        template = None
        if self.template == "auto":
            template = Template(self.expert, self.system, self.answer_prefix)
        sides = Follower(self.expert, template), Follower(self.anti_expert)

        def edit(logits: Tensor, reading: Reading) -> Tensor:
            expert, anti = (side.logits(reading).to(logits.device) for side in sides)
            return combine(logits, expert, anti, self.strength)

        with edit_logits(lm, edit):
            yield lm


def combine(
    base: Float[Tensor, "*rows vocabulary"],
    expert: Float[Tensor, "*rows others"],
    anti_expert: Float[Tensor, "*rows others2"],
    strength: float,
) -> Float[Tensor, "*rows vocabulary"]:
    """Equation (A6), in float32; ids that a small model lacks keep the base's logit.

    Logits of the small models beyond the base's vocabulary are dropped.

    Args:
        base: logits of the large model.
        expert: logits of the small aligned one.
        anti_expert: logits of the small base model.
        strength: multiplier of their difference.

    Example:
        >>> import torch
        >>> one = torch.tensor([1.0, 2.0, 3.0])
        >>> combine(one, torch.tensor([5.0, 0.0]), torch.tensor([1.0, 0.0]), 0.5)
        tensor([3., 2., 3.])
    """
    width = min(base.shape[-1], expert.shape[-1], anti_expert.shape[-1])
    moved = base.float().clone()
    gap = expert[..., :width].float() - anti_expert[..., :width].float()
    moved[..., :width] += strength * gap
    return moved.to(base.dtype)


def check_vocabulary(lm: LM, other: LM) -> None:
    """Refuse models whose token ids mean different things.

    Tokens that only one of them has (added at the end, such as a padding token) are
    allowed.

    Raises:
        ValueError: naming the first token that differs.
    """
    ours = {i: token for token, i in lm.tokenizer.get_vocab().items()}
    theirs = {i: token for token, i in other.tokenizer.get_vocab().items()}
    shared = min(len(ours), len(theirs))
    differ = [i for i in range(shared) if ours.get(i) != theirs.get(i)]
    if not differ and abs(len(ours) - len(theirs)) <= MOST_ADDED:
        return
    where = "differ in size alone"
    if differ:
        i = differ[0]
        where = (
            f"differ in {len(differ)} of {shared} tokens (token {i} is "
            f"{ours.get(i)!r} in one and {theirs.get(i)!r} in the other)"
        )
    raise ValueError(
        f"the vocabularies of {lm.name!r} ({len(ours)} tokens) and {other.name!r} "
        f"({len(theirs)} tokens) {where}; proxy-tuning adds logits token by token, so "
        "target, expert and anti-expert need one vocabulary: take a pair of small "
        "models of the target's own family"
    )


MOST_ADDED = 1024
"""Tokens that one vocabulary may hold beyond the other: special and reserved ones."""
