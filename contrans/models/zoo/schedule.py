"""Which models the zoo holds, how large they are and how long each is trained."""

from dataclasses import dataclass

from transformers import LlamaConfig

from contrans.models.zoo.tokenizer import BOS, CONTEXT, EOS, PAD, VOCABULARY


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a model; every head is 32 wide."""

    hidden: int
    layers: int
    inner: int
    rate: float
    """Peak learning rate."""

    def config(self) -> LlamaConfig:
        """The configuration of a Llama of this size."""
        return LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 32,
            num_key_value_heads=self.hidden // 32,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
            rms_norm_eps=1e-5,
            initializer_range=0.04,
        )


SIZES = {
    "small": Size(96, 4, 256, 7e-3),
    "medium": Size(128, 5, 224, 6e-3),
    "large": Size(160, 6, 384, 4.5e-3),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One training: a base model, or an aligned one made from it."""

    name: str
    size: str
    steps: int
    parent: str | None = None
    keep: tuple[int, ...] = ()
    """Steps after which the model is kept under a name of its own."""

    @property
    def aligned(self) -> bool:
        """Whether this job teaches answers to a base model."""
        return self.name.endswith("-aligned")

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        share = ALIGN_RATE if self.aligned else LAST_RATE if self.parent else 1.0
        return share * SIZES[self.size].rate


STEP_TOKENS = 1_024
PHASES = ((0.85, 128), (0.95, 512), (1.0, 1_024))
"""Row length up to each share of the steps; the last makes the context real."""
ALIGN_LENGTH = 128
ALIGN_RATE = 0.15
"""Peak rate of alignment, as a share of the base model's."""
LAST_RATE = 0.3
"""The same for the last texts that a base model reads."""

WORKERS = (
    (
        Job("large-young", "large", 4_200),
        Job("large", "large", 400, parent="large-young"),
        Job("large-aligned", "large", 400, parent="large"),
    ),
    (
        Job("small-young", "small", 3_000),
        Job("small", "small", 400, parent="small-young"),
        Job("small-aligned", "small", 400, parent="small"),
        Job("medium-young", "medium", 2_200, keep=(300, 700, 1_300)),
        Job("medium", "medium", 400, parent="medium-young"),
    ),
)
"""The jobs of each process, in order. The young models have not read `world.LAST`."""


def row_length(job: Job, step: int) -> int:
    """How long the rows of a step are."""
    if job.parent is not None:
        return ALIGN_LENGTH
    share = (step + 1) / job.steps
    return next((n for end, n in PHASES if share <= end + 1e-9), PHASES[-1][1])
