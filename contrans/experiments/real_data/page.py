"""The results of `real_data` as a page."""

from collections.abc import Mapping
from typing import Any

_HEAD = """# Real data, small models

The published data through contrans' own tasks, on models of the embedded zoo. These models
have never seen such text: numbers near chance are expected, and are no finding. What this
page shows is that every protocol runs whole on the real files, and that its scores equal
an independent computation on a sample.

```sh
python -m contrans.experiments.real_data.run --data FOLDER -o docs/results --force
```
"""


def page(results: Mapping[str, Any]) -> str:
    """Markdown: one table of scores, one of checks."""
    lines = [_HEAD]
    if results["limit"] is not None:
        lines.append(f"A quick look: at most {results['limit']} items of each task.\n")
    head = [
        "model",
        "task",
        "control",
        "metric",
        "value [95%]",
        "n",
        "chance",
        "beside it",
    ]
    rows = []
    for part in results["parts"]:
        for row in part["rows"]:
            score = row["score"]
            chance = row["chance"]
            beside = ", ".join(f"{k} {v:.3g}" for k, v in row["extra"].items())
            rows.append(
                [
                    part["model"],
                    row["task"],
                    row["control"],
                    row["metric"],
                    f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]",
                    str(row["n"]),
                    "-" if chance is None else f"{chance:.3f}",
                    beside,
                ]
            )
    lines.append(_table(head, rows))
    known = [check for part in results["parts"] for check in part["checks"]]
    lines.append("\n## The same, computed independently\n")
    lines.append(
        "Plain forwards of batch one without a cache, scikit-learn's own functions, or "
        "lm-evaluation-harness on the same strings; the largest difference on the "
        "sample.\n"
    )
    head = ["model", "what", "sample", "largest difference", ""]
    rows = [
        [
            check["model"],
            check["what"],
            str(check["sample"]),
            f"{check['difference']:.1e}",
            "equal" if check["passed"] else "**differs**",
        ]
        for check in known
    ]
    lines.append(_table(head, rows))
    said: dict[str, list[str]] = {}
    for part in results["parts"]:
        for note in part["notes"]:
            plain = note.removeprefix(f"{part['rows'][0]['task']}: ")
            said.setdefault(plain, []).append(part["model"])
    lines.append("\n## Notes\n")
    lines += [f"- {note} ({', '.join(dict.fromkeys(m))})" for note, m in said.items()]
    seconds = sum(part["seconds"] for part in results["parts"])
    lines.append(f"\nMeasured in {seconds:.0f} s of wall time, all parts together.\n")
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> str:
    body = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in r)} |" for r in body)
