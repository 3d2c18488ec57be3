"""Chat templates that want more than a user's text, or lose it."""

import copy

import pytest

from contrans.evaluation.prompts import dress
from contrans.models.chat import chat_prompt

ASK = [{"role": "user", "content": " Is it {{ 2 }}? "}]
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}<a>"
TYPED = (
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}<a>"
)
STRICT = TYPED.replace(
    "{% for p", "{% if m.content is string %}{{ raise_exception('parts') }}{% endif %}"
    "{% for p"
)  # fmt: skip
DEMANDS = (
    "{% if messages[0].role != 'system' %}"
    "{{ raise_exception('a system message is required') }}{% endif %}" + PLAIN
)


@pytest.fixture
def tokenizer(llama):
    """One that a test may change."""
    return copy.deepcopy(llama.tokenizer)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (PLAIN, "<user>Is it {{ 2 }}?<a>"),
        (TYPED, "<user> Is it {{ 2 }}? <a>"),
        (STRICT, "<user> Is it {{ 2 }}? <a>"),
    ],
)
def test_the_text_is_written_as_the_template_takes_it(tokenizer, template, text):
    tokenizer.chat_template = template
    assert chat_prompt(tokenizer, ASK) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (DEMANDS, "a system message is required"),
        ("<user>Hello<a>", "leaves the user's text out"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError"),
        ("{% if", "TemplateSyntaxError"),
    ],
)
def test_what_cannot_be_written_is_refused(make_lm, tokenizer, template, reason):
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=rf"{reason}.*the form 'plain'"):
        chat_prompt(tokenizer, ASK)
    lm = make_lm("llama")
    object.__setattr__(lm, "tokenizer", tokenizer)
    with pytest.raises(ValueError, match=reason):
        dress(lm, "a dog")
    assert dress(lm, "a dog", form="plain") == "a dog"


def test_a_system_message_meets_the_demand(tokenizer):
    tokenizer.chat_template = DEMANDS
    turns = [{"role": "system", "content": "Be kind."}, *ASK]
    assert chat_prompt(tokenizer, turns) == "<system>Be kind.<user>Is it {{ 2 }}?<a>"
