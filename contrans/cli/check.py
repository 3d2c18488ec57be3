"""`contrans check`: a regression suite for concepts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from contrans.cli import console, options
from contrans.cli.basics import debugging, explain
from contrans.core.files import check_file


def check(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="The suite: a YAML file.")
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scores of an earlier run; a significant change for the worse fails.",
        ),
    ] = None,
    update_baseline: Annotated[
        bool,
        typer.Option(
            "--update-baseline", help="Write --baseline with the scores of now."
        ),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML for CI.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append a Markdown summary, such as to $GITHUB_STEP_SUMMARY.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Also write it: .html, .md or JSON."
        ),
    ] = None,
    undecided: Annotated[
        str | None,
        typer.Option(
            metavar="warn|fail|pass",
            help="What an interval around the bound counts as; over the suite's own.",
        ),
    ] = None,
    trust_remote_code: options.TrustRemoteCode = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    r"""Run a suite of checks on concepts: effects, side effects, perplexity, controls.

    Tolerances come from the paired interval: a bound fails only where the
    whole interval is on its wrong side, so that noise does not fail a build.
    Measurements are cached; after an interruption the same command goes on.
    Exit code: 0 passed, 1 failed, 2 the suite could not be run.

    Examples:
      contrans check examples/zoo-suite.yaml
      contrans check suite.yaml --baseline baseline.json --update-baseline
      contrans check suite.yaml --baseline baseline.json --junit checks.xml \
          --summary "$GITHUB_STEP_SUMMARY"

    Next: docs/checks.md has every field of a suite, and a GitHub Action.
    """
    try:
        if summary is not None and not summary.parent.is_dir():
            raise FileNotFoundError(f"no folder {summary.parent} for --summary")
        report = _run(
            suite,
            baseline,
            junit,
            out,
            update_baseline=update_baseline,
            undecided=undecided,
            trust_remote_code=trust_remote_code,
            force=force,
        )
        from contrans.core.files import write_text
        from contrans.report.checks import (
            shown,
            to_html,
            to_json,
            to_junit,
            to_markdown,
        )

        typer.echo(to_json(report) if json_ else shown(report))
        if junit is not None:
            write_text(junit, to_junit(report), force=force)
        if out is not None:
            as_page = {".html": to_html, ".md": to_markdown}.get(out.suffix)
            text = as_page(report) if as_page else to_json(report) + "\n"
            write_text(out, text, force=force)
        if summary is not None:
            with summary.open("a", encoding="utf-8") as file:
                file.write(to_markdown(report))
    except Exception as error:
        message = explain(error)
        if message is None or debugging():
            raise
        typer.echo(f"contrans check: {message}", err=True)
        raise typer.Exit(2) from None
    if not report.ok:
        raise typer.Exit(1)


def _run(
    file: Path,
    baseline: Path | None,
    junit: Path | None,
    out: Path | None,
    *,
    update_baseline: bool,
    undecided: str | None,
    trust_remote_code: bool,
    force: bool,
) -> Any:
    if update_baseline and baseline is None:
        raise typer.BadParameter("--update-baseline needs --baseline FILE")
    if undecided is not None:
        console.check_choice("--undecided", undecided, ("warn", "fail", "pass"))
    for path in (junit, out):
        if path is not None:
            check_file(path, force=force)
    from contrans.experiments.checks.suite_file import read_suite

    suite = read_suite(file)
    if undecided is not None:
        suite = suite.model_copy(update={"undecided": undecided})
    console.quiet()
    from contrans.experiments.checks.running import run_suite

    with console.Bars() as bars:
        return run_suite(
            suite,
            folder=file.parent,
            baseline=baseline,
            update_baseline=update_baseline,
            trust_remote_code=trust_remote_code,
            progress=bars,
        )
