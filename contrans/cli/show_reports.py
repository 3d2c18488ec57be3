"""What `contrans show` says of the reports that other verbs wrote as JSON."""

from collections.abc import Mapping
from typing import Any


def report(found: Mapping[str, Any]) -> str | None:
    """The text of a report, as its verb printed it; None where it is none of these."""
    try:
        if "cases" in found:
            return _check(found)
        if "outcomes" in found:
            return _compare(found)
        if found.get("kind") == "baked-model":
            return _baked(found)
    except (TypeError, KeyError) as error:  # fields of another version, or edited
        raise ValueError(
            f"a report of contrans {found.get('contrans', '?')} that this version does "
            f"not understand ({error}); write it again"
        ) from error
    return None


def _check(found: Mapping[str, Any]) -> str:
    from contrans.core.verdicts import Case, Report
    from contrans.report.checks import shown

    fields = {k: v for k, v in found.items() if k not in ("contrans", "ok", "cases")}
    cases = tuple(Case(**case) for case in found["cases"])
    return f"checks {found['suite']}\n" + shown(
        Report(cases=cases, **{**fields, "notes": tuple(found["notes"])})
    )


def _compare(found: Mapping[str, Any]) -> str:
    from contrans.core.verdicts import Comparison, Outcome
    from contrans.report.ab import shown

    fields = {k: v for k, v in found.items() if k not in ("contrans", "outcomes")}
    several = {k: tuple(found[k]) for k in ("generations", "notes")}
    outcomes = tuple(Outcome(**outcome) for outcome in found["outcomes"])
    return shown(Comparison(outcomes=outcomes, **{**fields, **several}))


def _baked(found: Mapping[str, Any]) -> str:
    said = found["report"]
    how = f"{said['slot']} of block {', '.join(map(str, said['layers']))}"
    if said["architecture"] != said["base_architecture"]:
        how += f", re-hosted from {said['base_architecture']} as {said['architecture']}"
    lengths = ", ".join(f"{n:.3g} (block {i})" for i, n in said["lengths"].items())
    lines = [
        f"{found['what']}, by contrans {found['contrans']}",
        f"base     {said['base']}, weights {said['fingerprint']}",
        f"where    {how}",
        f"length   {lengths}",
        f"stored   {', '.join(said['dtypes'])}, {said['bytes'] / 1e6:,.0f} MB in "
        f"{said['files']} file{'s' if said['files'] > 1 else ''}",
    ]
    if said["context"]:
        lines.append(f"context  {said['context']} tokens at most")
    for vector in found["vectors"]:
        lines.append(
            f"vector   {vector['concept']} for {vector['name'] or 'any model'}"
        )
    lines += [f"warning: {warning}" for warning in said["warnings"]]
    return "\n".join([*lines, "README.md is its model card."])
