"""What the evaluation tests share: oracles that read a model one token at a time."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from contrans.models.lm import LM
from contrans.models.loading import wrap

EXACT = 1e-4
"""Tolerance for sums of float32 log-probabilities in different batches."""
VOCABULARY = """
<s> <pad> <unk> it is was not the a good bad warm cold rude kind day today Scenario : .
You lost won found your keys game money emotion of above scenario and The
happiness sadness anger fear disgust surprise
"""
WORDS = VOCABULARY.split()


def word_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a word; white space is no token."""
    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", pad_token="<pad>", unk_token="<unk>"
    )


def word_lm(kind: str = "llama", *, bos: bool = False, context: int = 128) -> LM:
    """A tiny random model over a few words."""
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": 0,
        "eos_token_id": None,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**sizes))
        else:
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0.0, 0.4)
    return wrap(model, word_tokenizer(bos=bos), name=f"words-{kind}")


@torch.no_grad()
def one_by_one(lm: LM, context: list[int], continuation: list[int]) -> list[float]:
    """Log-probability of each token of a continuation, one full forward for each."""
    found, ids = [], list(context)
    for token in continuation:
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0, -1]
        found.append(float(logits.double().log_softmax(-1)[token]))
        ids.append(token)
    return found


class Oracle:
    """Stands in for a model: `biases` are added to the logits of some words."""

    def __init__(self, lm: LM, biases: dict[str, float]) -> None:
        self.index = {WORDS.index(word): bias for word, bias in biases.items()}
        self.lm = lm

    def __enter__(self) -> LM:
        def hook(_module, _args, output):
            shift = torch.zeros(output.logits.shape[-1])
            for index, bias in self.index.items():
                shift[index] = bias
            output.logits = output.logits + shift
            return output

        self.handle = self.lm.model.register_forward_hook(hook)
        return self.lm

    def __exit__(self, *_error) -> None:
        self.handle.remove()
