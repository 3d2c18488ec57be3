"""The results of a transplant as a person reads them in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

_ENDS = ("value", "low", "high")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; columns of numbers are aligned to the right.

    Example:
        >>> print(table(["name", "n"], [["a", "10"], ["b", "9"]]))
        name   n
        a     10
        b      9
    """
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    right = [
        bool(rows) and all(row[i][:1] in "+-0123456789" for row in rows)
        for i in range(len(header))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [header, *rows]
    ]
    return "\n".join(lines)


def _interval(entry: Mapping[str, Any], sign: str = "") -> str:
    value, low, high = (_number(entry[k], f"{sign}z.3f") for k in _ENDS)
    return f"{value} [{low}, {high}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def effect_table(results: Mapping[str, Any]) -> str:
    """One line per row of the comparison, with intervals and perplexity."""
    metric = str(results["task"]["metric"])
    header = [
        "",
        metric,
        "against no edit",
        "raw",
        "relative",
        "perplexity",
        "ratio",
    ]
    rows = []
    for row in results["rows"]:
        fluency = row["perplexity"]
        rows.append(
            [
                row["name"],
                _interval(row),
                _interval(row["difference"], "+") if row["difference"] else "-",
                _number(row["raw"], ".2f"),
                _number(row["relative"], ".2f"),
                f"{fluency['value']:.2f}",
                f"{fluency['ratio']:.2f}",
            ]
        )
    return table(header, rows)


def summary(results: Mapping[str, Any]) -> str:
    """What was measured, the table, the choice that was made, and the verdict."""
    task, strength, layers = (results[k] for k in ("task", "strength", "layers"))
    chance = "" if task["chance"] is None else f", chance {task['chance']:.2f}"
    lines = [
        f"{results['concept']['title'] or results['concept']['name']}: "
        f"{results['source']['name']} -> {results['target']['name']}",
        f"{task['metric']} on {task['n']} {task['split']} prompts{chance}; "
        "95% bootstrap intervals",
        "",
        effect_table(results),
        "",
        f"layers {layers['source']}:{layers['target']} ({layers['how']}), strength "
        f"{strength['raw']:.2f} = {strength['relative']:.0%} of the residual stream "
        f"({strength['how']}), map {results['map']['method']} on "
        f"{results['map']['n']} texts",
        results["verdict"],
    ]
    return "\n".join(lines)


def one_generation(results: Mapping[str, Any]) -> str:
    """The first prompt, before and after."""
    if not results["generations"]:
        return ""
    first = results["generations"][0]
    return "\n".join(
        [
            f"prompt: {_last_lines(first['prompt'])}",
            f"before: {_one_line(first['before'])}",
            f"after:  {_one_line(first['after'])}",
        ]
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _last_lines(text: str, limit: int = 160) -> str:
    line = _one_line(text)
    return line if len(line) <= limit else f"... {line[-limit:]}"


def eval_table(results: Mapping[str, Any]) -> str:
    """The results of `eval`, from their JSON: one line per control and task."""
    fluent = any(row["perplexity"] for row in results["rows"])
    header = ["task", "control", "metric", "score", "against no edit", "n", "chance"]
    header += ["perplexity", "ratio"] if fluent else []
    rows = []
    for row in results["rows"]:
        cells = [
            row["task"] or "-",
            row["control"],
            row["metric"] or "-",
            _interval(row["score"]) if row["score"] else "-",
            _interval(row["difference"], "+") if row["difference"] else "-",
            str(row["n"]),
            _number(row["chance"], ".3f"),
        ]
        if fluent:
            cells += [
                _number(row["perplexity"] and row["perplexity"]["value"], ".2f"),
                _number(row["perplexity_ratio"], ".3f"),
            ]
        rows.append(cells)
    lines = [f"{results['model']}; 95% bootstrap intervals", "", table(header, rows)]
    return "\n".join(lines + [f"note: {note}" for note in results.get("notes", [])])
