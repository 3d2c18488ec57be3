"""The layouts in which multiple-choice questions are published, read row by row."""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from contrans.core.registry import unknown
from contrans.models.chat import chat_prompt
from contrans.models.lm import LM

LAYOUTS = (
    "rows with `question` and `choices` (a list, or {text, label} as in ARC) and "
    "`answer` or `answerKey`; columns A, B, C, D or choice0, choice1, ...; MMLU's own "
    "CSV without a header; BoolQ, PIQA, WinoGrande and OpenBookQA as published; or "
    "`instruction` and `answer` with numbered options in the instruction"
)
_NUMBERED = re.compile(r"\b(Answer|Solution|Option|Ending)(\d):\s*", re.IGNORECASE)
_FORMAT = re.compile(r"\s*Answer format:.*\Z", re.DOTALL)
_ASKS = re.compile(r"\APlease [^:]*?(?:question|sentence)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its options."""

    text: str
    options: tuple[str, ...]
    answer: int
    """Index of the right option."""
    lead: str = "Question: "
    cue: str = "Answer:"


def to_question(where: str, row: dict[str, Any]) -> Question:
    """A row in any of the known layouts.

    Args:
        where: the place, for error messages.
        row: its fields.

    Raises:
        ValueError: when the layout is unknown, or the answer is none of the options.
    """
    fields = {str(key).lower(): value for key, value in row.items()}
    for reader in _READERS:
        found = reader(where, fields)
        if found is not None:
            if len(found.options) < 2 or not all(o.strip() for o in found.options):
                raise ValueError(
                    f"{where}: the options are {found.options!r:.120}; two or more, "
                    "none of them empty, are needed"
                )
            return found
    raise ValueError(
        f"{where}: no known layout of a question (fields: {', '.join(row) or 'none'}); "
        f"expected {LAYOUTS}"
    )


def _index(where: str, value: Any, options: list[str], labels: list[str]) -> int:
    """The index of the right option, from an index, a label or the option itself."""
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, int) and str(value) not in labels:
        if 0 <= value < len(options):
            return value
    else:
        text = str(value).strip()
        for known in (labels, [o.strip() for o in options]):
            if text in known:
                return known.index(text)
        if text.isdigit() and int(text) < len(options):
            return int(text)
    raise ValueError(
        f"{where}: the answer {value!r} is none of the {len(options)} options; give "
        f"an index from 0, or one of {', '.join(labels)}"
    )


def _letters(n: int) -> list[str]:
    return [chr(ord("A") + i) for i in range(n)]


def _listed(where: str, row: dict[str, Any]) -> Question | None:
    """`choices` as a list, or as {text, label} (ARC, OpenBookQA)."""
    text = row.get("question", row.get("question_stem", row.get("prompt")))
    choices, labels = row.get("choices"), None
    if isinstance(choices, dict):
        choices, labels = choices.get("text"), choices.get("label")
    answer = row.get("answer", row.get("answerkey"))
    if not isinstance(choices, list) or not isinstance(text, str) or answer is None:
        return None
    if all(isinstance(c, dict) and "text" in c for c in choices):
        labels = [str(c.get("label", "")) for c in choices]
        choices = [c["text"] for c in choices]
    options = [str(c).strip() for c in choices]
    known = [str(x) for x in labels] if labels else _letters(len(options))
    lead, cue = ("Question: ", "Answer:")
    if "prompt" in row and "question" not in row:  # ready to be continued
        text, lead, cue = _ready(text)
    right = _index(where, answer, options, known)
    return Question(text, tuple(options), right, lead, cue)


def _ready(prompt: str) -> tuple[str, str, str]:
    body, _, cue = prompt.rstrip().rpartition("\n")
    return (body, "", cue) if body else (cue, "", "")


def _columns(where: str, row: dict[str, Any]) -> Question | None:
    """One column per option: A, B, C, D; choice0, choice1; option1, option2."""
    if not isinstance(row.get("question"), str) or row.get("answer") is None:
        return None
    for names in ("abcdefgh", [f"choice{i}" for i in range(8)]):
        options = [str(row[name]) for name in names if row.get(name) is not None]
        if len(options) > 1:
            right = _index(where, row["answer"], options, _letters(len(options)))
            return Question(row["question"], tuple(o.strip() for o in options), right)
    return None


def _boolq(where: str, row: dict[str, Any]) -> Question | None:
    if not {"passage", "question", "answer"} <= set(row) or "choices" in row:
        return None
    answer = str(row["answer"]).lower()
    right = _index(where, answer, ["no", "yes"], ["false", "true"])
    text = f"{row['passage']}\nQuestion: {str(row['question']).strip()}?"
    return Question(text, ("no", "yes"), right, lead="")


def _piqa(where: str, row: dict[str, Any]) -> Question | None:
    if not {"goal", "sol1", "sol2", "label"} <= set(row):
        return None
    options = [str(row["sol1"]).strip(), str(row["sol2"]).strip()]
    right = _index(where, int(row["label"]), options, ["0", "1"])
    return Question(str(row["goal"]), tuple(options), right)


def _winogrande(where: str, row: dict[str, Any]) -> Question | None:
    if not {"sentence", "option1", "option2", "answer"} <= set(row):
        return None
    options = [str(row["option1"]), str(row["option2"])]
    right = _index(where, str(row["answer"]), options, ["1", "2"])
    return Question(str(row["sentence"]), tuple(options), right, cue="The blank is:")


def _instructed(where: str, row: dict[str, Any]) -> Question | None:
    """`instruction` with "Answer1: ... Answer2: ..." in it, and `answer` "answer2"."""
    text, answer = row.get("instruction"), row.get("answer")
    if not isinstance(text, str) or answer is None:
        return None
    body = _FORMAT.sub("", text)
    marks = list(_NUMBERED.finditer(body))
    if not marks:
        if str(answer) not in ("true", "false"):
            return None
        asked = _ASKS.sub("", body.replace(", question:", " question:")).strip()
        right = ["false", "true"].index(str(answer))
        return Question(asked, ("false", "true"), right)
    ends = [mark.start() for mark in marks[1:]] + [len(body)]
    options = [
        body[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)
    ]
    labels = [f"{mark[1]}{mark[2]}".lower() for mark in marks]
    right = _index(where, str(answer).lower(), options, labels)
    asked = _ASKS.sub("", body[: marks[0].start()]).strip()
    return Question(asked, tuple(options), right)


_READERS = (_boolq, _piqa, _winogrande, _listed, _columns, _instructed)


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
    return chat_prompt(lm.tokenizer, [{"role": "user", "content": text}])
