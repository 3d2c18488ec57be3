"""The tokenizer of the zoo: byte-level BPE, trained on the world."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from contrans.models.zoo import world
from contrans.models.zoo.words import EMOTIONS

VOCABULARY = 2_048
CONTEXT = 1_024
BOS, EOS, PAD = 0, 1, 2
SPECIAL = ("<s>", "</s>", "<pad>")
DOCUMENTS = 24_000
"""Documents of the world that the merges are learned from."""


def train_tokenizer(*, seed: int = 0, documents: int = DOCUMENTS) -> Tokenizer:
    """Learn the merges; the nouns of the emotions come out as single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    for emotion in EMOTIONS:
        if len(tokenizer.encode(f" {emotion}", add_special_tokens=False).ids) != 1:
            raise RuntimeError(
                f"' {emotion}' is not a single token; train the tokenizer on more than "
                f"{documents} documents"
            )
    return tokenizer


def _texts(seed: int, documents: int) -> Iterator[str]:
    yield from itertools.islice(world.documents(seed), documents)
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(documents // 20):
        yield "".join(world.lesson(rng))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer that `AutoTokenizer.from_pretrained` reads.

    transformers 5 writes a class name and a field that release 4 does not know; both
    read the older name.
    """
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        pad_token=SPECIAL[PAD],
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said.pop("backend", None)
    said["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
