"""The README.md of a baked checkpoint: what was done, from what, with which effect."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.core.yaml_text import read
from contrans.models import zoo

_LICENCE_KEYS = ("license", "license_name", "license_link", "language")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SAME = 1e-3
"""Relative difference below which two lengths are the same edit (files are float32)."""

Facts = Mapping[str, Any]


def model_card(
    report: Facts,
    vectors: Sequence[ConceptVector],
    results: Facts,
    base: Path,
) -> str:
    """The card, as Markdown.

    Args:
        report: the fields of `BakeReport`.
        vectors: the vectors that were baked.
        results: `results.json` of the transplant; empty when there is none.
        base: folder of the base model, for its licence.
    """
    what = " + ".join(report["concepts"])
    licence = _licence(base)
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["contrans", "steering-vector", "baked"],
        **licence,
    }
    if _on_hub(report["base"]):
        head["base_model"] = report["base"]
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {_base(report)} with {_line(what)} baked in",
        "This is a plain checkpoint: transformers, vLLM and other software load it with "
        "no extra code. It answers as the base model does while a concept vector is "
        "added to its residual stream at every position.",
        _done(report),
        _origin(vectors),
        _effect(report, vectors, results),
        _serving(report),
        _licence_note(report, licence),
        f"Written by contrans {__version__}.",
    ]
    return "\n\n".join(sections) + "\n"


def _done(report: Facts) -> str:
    rehosted = report["architecture"] != report["base_architecture"]
    revision = f", revision {report['revision']}" if report["revision"] else ""
    lines = [
        f"- base: `{_base(report)}`{revision} (weights `{report['fingerprint']}`)",
        f"- layers edited (zero-based blocks): {', '.join(map(str, report['layers']))}",
        "- length of the vector added there: "
        + ", ".join(f"{_number(n)} (block {i})" for i, n in report["lengths"].items()),
        f"- where: `{report['slot']}` of those blocks"
        + (f", times {report['scale']:.6g}" if report["scale"] != 1.0 else ""),
        f"- stored as {', '.join(report['dtypes'])}, the checkpoint's own precision; "
        f"rounding changes the edit by {_percent(report['rounding'])} of its largest "
        "number at most",
    ]
    if report["added"]:
        lines.append(
            f"- {report['added']} biases were added that the base does not have; all are "
            "zero but those that carry the edit"
        )
    if rehosted:
        lines.append(
            f"- the base is a `{report['base_architecture']}` model, which has no such "
            f"bias; it is written as a `{report['architecture']}` model that computes "
            "the same function"
        )
    if report["context"]:
        lines.append(
            f"- texts up to {report['context']} tokens only: the base has a sliding "
            "window, which is left out here"
        )
    lines += [f"- warning: {_line(warning)}" for warning in report["warnings"]]
    lines.append(
        "- positions: all, the first token included; all other weights as before"
    )
    return "## What was done\n\n" + "\n".join(lines)


def _origin(vectors: Sequence[ConceptVector]) -> str:
    parts = []
    for vector in vectors:
        rows = [("concept", vector.concept), ("for model", vector.name)]
        rows += _flat(vector.provenance)
        table = "\n".join(f"| {_line(k)} | {_line(v)} |" for k, v in rows if v)
        parts.append(f"| the vector | |\n| --- | --- |\n{table}")
    return "## From what\n\n" + "\n\n".join(parts)


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested provenance as dotted lines."""
    if isinstance(value, Mapping):
        found = []
        for key, inner in value.items():
            found += _flat(inner, f"{name}.{key}" if name else str(key))
        return found
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return [] if value is None else [(name, str(value))]


def _effect(report: Facts, vectors: Sequence[ConceptVector], results: Facts) -> str:
    title = "## Effect"
    rows = results.get("rows") or []
    if not rows:
        return (
            f"{title}\n\nNot measured: no `results.json` lay beside the vector. "
            "`contrans eval` measures it."
        )
    task = results.get("task") or {}
    lines = [
        title,
        f"{_line(results.get('verdict', ''))}",
        f"Measured on the unbaked model with the edit applied by a hook: "
        f"{_line(task.get('metric', 'value'))} on {task.get('n', '?')} "
        f"{_line(task.get('split', ''))} prompts of {_line(task.get('name', ''))} "
        f"(chance {_number(task.get('chance'))}), 95% intervals.",
        _effect_table(rows),
    ]
    if task.get("protocol") == "paper":
        lines.append(
            "**In-sample**: the published protocol tests on the scenarios that the "
            "vector was made from, so these numbers flatter it."
        )
    lines.append(_agreement(report, vectors, results))
    lines += [f"Warning of that run: {_line(w)}" for w in results.get("warnings") or []]
    return "\n\n".join(line for line in lines if line)


def _effect_table(rows: Sequence[Facts]) -> str:
    head = "| | value | against no edit | perplexity | ratio |\n|---|---|---|---|---|"
    body = []
    for row in rows:
        fluent = row.get("perplexity") or {}
        cells = [
            _line(row.get("name", "")),
            _interval(row),
            _interval(row.get("difference"), sign=True),
            _number(fluent.get("value")),
            _number(fluent.get("ratio")),
        ]
        body.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, *body])


def _agreement(report: Facts, vectors: Sequence[ConceptVector], results: Facts) -> str:
    """Whether the figures are of the edit that was baked."""
    target = results.get("target") or {}
    if target.get("fingerprint") != report["fingerprint"]:
        return (
            "These figures are of other weights than the base of this checkpoint; "
            "measure again with `contrans eval`."
        )
    raw = (results.get("strength") or {}).get("raw")
    layer = (results.get("layers") or {}).get("target")
    if raw is None or layer is None or len(vectors) != 1:
        return ""
    measured = raw * vectors[0].norm(layer) if layer in vectors[0].layers else math.nan
    baked = report["lengths"]
    if list(baked) == [layer] and math.isclose(baked[layer], measured, rel_tol=SAME):
        return "The edit measured is the edit baked: the same layer, the same strength."
    return (
        f"**The edit baked is not the one measured** (layer {layer}, length "
        f"{_number(measured)}); expect another effect, and measure it with "
        "`contrans eval`."
    )


def _serving(report: Facts) -> str:
    lines = [
        "## How to serve\n",
        "```sh",
        "vllm serve FOLDER"
        + (f" --max-model-len {report['context']}" if report["context"] else ""),
        "text-generation-launcher --model-id FOLDER",
        "```",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="auto")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
    ]
    if "mlp_bias" in report["config"]:
        lines += [
            "",
            'Keep `"mlp_bias": true` in config.json: software that does not read it '
            "drops the biases without an error, and with them the edit.",
        ]
    return "\n".join(lines)


def _licence(base: Path) -> dict[str, Any]:
    """Licence fields from the card of the base."""
    card = base / "README.md"
    if not card.is_file():
        return {}
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        head = read(text.split("---", 2)[1], "README.md")
    except (yaml.YAMLError, ValueError, IndexError):
        return {}
    if not isinstance(head, Mapping):
        return {}
    return {key: head[key] for key in _LICENCE_KEYS if key in head}


def _licence_note(report: Facts, licence: Facts) -> str:
    named = (
        f" (its card says `{_line(licence['license'])}`)"
        if licence.get("license")
        else ""
    )
    return (
        "## Licence\n\nThe weights are those of the base model but for the biases named "
        f"above: the licence of `{_base(report)}`{named} applies to this "
        "checkpoint, its terms on naming and use included."
    )


def _base(report: Facts) -> str:
    """The base as strangers may read it: not the path of a folder on this machine."""
    name = report["base"]
    known = zoo.is_zoo(name) or not Path(name).is_dir()
    return _line(name if known else Path(name).resolve().name)


def _on_hub(name: str) -> bool:
    """Whether a base is a repository of the hub: not of the zoo, and no folder here."""
    local = zoo.is_zoo(name) or Path(name).is_dir()
    return not local and _HUB_ID.fullmatch(name) is not None


def _line(text: Any) -> str:
    """One line that cannot break a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _number(value: Any) -> str:
    return "-" if not isinstance(value, int | float) else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"


def _interval(entry: Any, *, sign: bool = False) -> str:
    if not isinstance(entry, Mapping) or not isinstance(
        entry.get("value"), int | float
    ):
        return "-"
    plus = "+" if sign else ""
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if low is None or high is None:
        return f"{value:{plus}.3f}"
    return f"{value:{plus}.3f} [{low:{plus}.3f}, {high:{plus}.3f}]"
