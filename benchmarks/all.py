# /// script
# requires-python = ">=3.11"
# dependencies = ["contrans[lm-eval]"]
# [tool.uv.sources]
# contrans = { path = "..", editable = true }
# ///
"""Every benchmark: one table on the screen, and RESULTS.md beside this file.

    uv run benchmarks/all.py            or: python benchmarks/all.py
    uv run benchmarks/all.py --quick    small sizes, minutes instead of an hour
    uv run benchmarks/all.py --resume   go on with an interrupted table

Each program runs in a process of its own. Needs a machine that does nothing else.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("collect", "fit", "emotion", "mc1", "sweep", "generate", "memory", "growth")
KEPT = HERE / ".kept"
"""Reports of programs that have run, so that an interrupted table can go on."""
TYPED = ("collect", "emotion", "mc1", "sweep", "generate")
"""Programs that also run in bfloat16 and on a GPU."""


def kept(name: str, options: list[str], make: Callable[[], list[dict]]) -> list[dict]:
    """Reports that were made before with these options, or new ones, kept for later."""
    file = KEPT / f"{'_'.join([name, *options]).replace('/', '.')}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    found = [{"commit": commit(), **report} for report in make()]
    if any(report.get("seconds") or report.get("ratios") for report in found):
        KEPT.mkdir(exist_ok=True)
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(file)
    return found


def run(name: str, options: list[str]) -> list[dict]:
    """The reports of one program; one that says why, where it failed."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        why = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return [{"job": name, "on": " ".join(options), "notes": [f"failed: {why[0]}"]}]
    return [json.loads(line) for line in lines]


def commit() -> str:
    """The commit that was measured, marked where files have changed since."""
    git = ["git", "-C", str(HERE)]
    found = subprocess.run(
        [*git, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def elsewhere(report: dict) -> list[str]:
    """A note on a report that was made before, with other files."""
    at = report.get("commit", "unknown")
    return [] if at == commit() else [f"measured at commit {at}"]


def main() -> None:
    """Run, print, write."""
    sys.path.insert(0, str(HERE))
    from common import Ratio, Report, machine
    from peers import PEERS, measure

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument(
        "--resume", action="store_true", help="keep what an earlier run measured"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--data", default=None, help="folder of published data sets")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    chosen = parser.parse_args()
    common = ["--quick"] * chosen.quick
    common += ["--data", chosen.data] if chosen.data else []
    if not chosen.resume:
        shutil.rmtree(KEPT, ignore_errors=True)
    about = machine()
    gpu = about["gpu"] != "none"
    found: list[dict] = []
    for name in chosen.only:
        variants = [[]]
        if name in TYPED:
            variants += [["--dtype", "bfloat16"]] if name == "collect" else []
            variants += [["--dtype", "bfloat16", "--device", "cuda"]] if gpu else []
        for variant in variants:
            print(f"... {name} {' '.join(variant)}", file=sys.stderr, flush=True)
            options = [*common, *variant]
            found += kept(name, options, partial(run, name, options))
    if not chosen.no_peers and "collect" in chosen.only:
        for peer in PEERS:
            print(f"... {peer}", file=sys.stderr, flush=True)
            options = ["--quick"] * chosen.quick
            found += kept(peer, options, partial(measure, peer, options))
    reports = [
        Report(
            entry["job"],
            entry["on"],
            entry.get("seconds", {}),
            [Ratio(**r) for r in entry.get("ratios", [])],
            entry.get("checks", {}),
            [*entry.get("notes", []), *elsewhere(entry)],
        )
        for entry in found
    ]
    left = [name for name in PROGRAMS if name not in chosen.only]
    left += [f"{', '.join(PEERS)} (other tools)"] * chosen.no_peers
    where = f"on {about['gpu']}" if gpu else "not measured on a GPU: none was at hand"
    head = [
        "# Results of the benchmarks",
        "",
        "Written by `benchmarks/all.py`; see `docs/performance.md` for what it means.",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        f"- commit: {commit()}",
        f"- date: {datetime.date.today()}",
        f"- sizes: {'quick, too small to judge by' if chosen.quick else 'full'}",
        f"- GPU: {where}",
        *([f"- not run: {', '.join(left)}"] if left else []),
        "",
        "| job | ratio | value | bar | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for report in reports:
        for r in report.ratios:
            sign = "≥" if r.at_least else "≤"
            bar = "" if r.bar is None else f"{sign} {r.bar:g}"
            head.append(
                f"| {report.job} | {r.name} | {r.value:.3g} | {bar} | {r.verdict} |"
            )
    text = "\n".join(head)
    print(text)
    body = "\n".join("\n".join(report.lines()) for report in reports)
    temporary = chosen.out.with_suffix(".tmp")
    temporary.write_text(f"{text}\n\n{body}", encoding="utf-8")
    temporary.replace(chosen.out)


if __name__ == "__main__":
    main()
