"""A conversation as the model is prompted with it, by its own chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from contrans.models.soundness import shortened


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]
) -> str:
    """The prompt of a conversation, up to where the model's answer begins.

    Templates of models that also see images may take a message in typed parts only;
    they are given it so where they lose the plain text.

    Args:
        tokenizer: with a chat template.
        messages: "role" and "content" of each turn, the user's last.

    Raises:
        ValueError: when the template refuses the conversation, such as one without a
            system message, or leaves the user's text out.
    """
    typed = [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]}
        for turn in messages
    ]
    said, tries = messages[-1]["content"].strip(), (list(messages), typed)
    why = "it leaves the user's text out"
    for conversation in tries:
        try:
            prompt = str(_rendered(tokenizer, conversation))
        except Exception as error:  # a template raises whatever it likes
            why = f"{type(error).__name__}: {shortened(error)}"
            continue
        if said in prompt:
            return prompt
    raise ValueError(
        f"the chat template of {tokenizer.name_or_path!r} cannot write this "
        f"conversation ({why}); prompt without it (the form 'plain'), or give the "
        "tokenizer another template"
    )


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[Any]) -> Any:
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
