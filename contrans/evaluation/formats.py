"""How a prompt is dressed: the model's chat template, the paper's tags, or nothing."""

from typing import Literal, get_args

from contrans.models import LM
from contrans.registry import unknown

Form = Literal["auto", "chat", "inst", "plain"]


def has_template(lm: LM) -> bool:
    """Whether the model's tokenizer knows a chat template."""
    return lm.tokenizer.chat_template is not None


def chosen_form(lm: LM, form: str) -> str:
    """The form "auto" made plain: "chat" where there is a template, else "plain".

    Raises:
        KeyError: for an unknown form.
        ValueError: for "chat" without a template.
    """
    if form not in get_args(Form):
        raise unknown("prompt form", form, get_args(Form))
    if form == "auto":
        return "chat" if has_template(lm) else "plain"
    if form == "chat" and not has_template(lm):
        raise ValueError(
            f"{lm.name!r} has no chat template; choose the form 'plain', or 'inst' for "
            "the paper's [INST] tags"
        )
    return form


def dress(lm: LM, text: str, *, form: str = "auto", plain: str | None = None) -> str:
    """A user's text as the model is prompted with it.

    The instruction of an `Instructed` model goes inside the user's turn.

    Args:
        lm: the model.
        text: what the user says.
        form: "chat" is the model's own template, "inst" the paper's
            `[INST] text[/INST]`, "plain" nothing; "auto" is "chat" where there is one.
        plain: what stands in the place of `text` in the form "plain".
    """
    form = chosen_form(lm, form)
    if form == "plain" and plain is not None:
        text = plain
    instruction = getattr(lm, "instruction", "")
    if instruction:
        text = f"{instruction}\n\n{text}"
    if form == "inst":
        return f"[INST] {text}[/INST]"
    if form == "plain":
        return text
    messages = [{"role": "user", "content": text}]
    return str(
        lm.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    )
