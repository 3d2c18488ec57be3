"""Read a suite from YAML; every mistake is told with its line and field."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from contrans.core import yaml_text
from contrans.core.registry import unknown
from contrans.experiments.checks import suite as parts
from contrans.experiments.checks.suite import Suite

Location = tuple[str | int, ...]
_ROOMS: dict[str, type[parts.Part]] = {
    "models": parts.ModelSpec,
    "vectors": parts.VectorSpec,
    "tasks": parts.TaskSpec,
    "checks": parts.Check,
}


class SuiteError(ValueError):
    """A suite that cannot be run; the message holds every mistake, one a line."""


def read_suite(path: str | Path) -> Suite:
    """A suite from a YAML file, checked before anything is loaded.

    Raises:
        FileNotFoundError: when there is no such file.
        SuiteError: naming file, line and field of every mistake.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "no such file"
        raise FileNotFoundError(
            f"{path}: {kind} (looked in {Path.cwd()}); give a suite in YAML, such as "
            "examples/zoo-suite.yaml"
        )
    try:
        return parse_suite(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 text ({error}); save it again") from error


def parse_suite(text: str, where: str = "suite") -> Suite:
    """A suite from the text of a YAML file.

    Raises:
        SuiteError: naming line and field of every mistake.
    """
    root = None
    try:
        root = yaml_text.compose(text, where)
    except ValueError as error:
        raise SuiteError(str(error)) from error
    except yaml.YAMLError as error:
        raise _not_yaml(where, error) from error
    try:
        value = yaml.safe_load(text)
    except (ValueError, OverflowError) as error:  # such as the date 2024-13-45
        raise SuiteError(
            f"{where}{_unreadable(root)}: cannot be read ({error}); put names that look "
            "like dates or numbers in quotes"
        ) from error
    except yaml.YAMLError as error:
        raise _not_yaml(where, error) from error
    if not isinstance(value, dict):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        raise SuiteError(
            f"{where}: the file is {kind}; expected models:, vectors:, tasks: and "
            "checks:"
        )
    mistakes = [*_repeats(root)]
    suite = None
    try:
        suite = Suite.model_validate(value)
    except ValidationError as error:
        mistakes += [_told(found) for found in error.errors()]
    if suite is not None:
        mistakes += _dangling(suite)
    if suite is None or mistakes:
        raise SuiteError(
            "\n".join(
                f"{where}{_line(root, place)}{_field(place)}: {said}"
                for place, said in mistakes
            )
        )
    return suite


def _not_yaml(where: str, error: yaml.YAMLError) -> SuiteError:
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = getattr(error, "problem", None) or str(error)
    return SuiteError(
        f"{where}{line}: not YAML ({said}); look at the indentation and the colons there"
    )


def _told(error: Any) -> tuple[Location, str]:
    """The place and the message of one pydantic error, in our words."""
    place, kind, given = tuple(error["loc"]), error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _known_fields(place[:-1])
        name = str(place[-1])
        said = unknown("field", name, known).args[0] if known else "unknown field"
        return place, said
    if kind == "missing":
        return place, "this field is missing; add it"
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return place, said
    shown = repr(given) if not isinstance(given, dict | list) else type(given).__name__
    return place, f"{shown:.80} will not do; it should be {said[0].lower()}{said[1:]}"


def _known_fields(place: Sequence[str | int]) -> list[str]:
    """Fields of the block that a location points to."""
    part: type[parts.Part] | None = parts.Suite
    if len(place) == 2:
        part = _ROOMS.get(str(place[0]))
    elif len(place) == 3:
        part = parts.Controls if place[-1] == "controls" else parts.Bound
    return list(part.model_fields) if part else []


def _dangling(suite: Suite) -> Iterable[tuple[Location, str]]:
    """Names that nothing is called, and bounds that fit no such task."""
    for label, vector in suite.vectors.items():
        if vector.model not in suite.models:
            said = unknown("model", vector.model, suite.models).args[0]
            yield ("vectors", label, "model"), said
    for i, check in enumerate(suite.checks):
        place: Location = ("checks", i)
        for name in check.vector or []:
            if name not in suite.vectors:
                said = unknown("vector", name, suite.vectors).args[0]
                yield (*place, "vector"), said
        for name in check.model or []:
            if name not in suite.models:
                yield (*place, "model"), unknown("model", name, suite.models).args[0]
        for name in check.task:
            if name not in suite.tasks:
                yield (*place, "task"), unknown("task", name, suite.tasks).args[0]
                continue
            text = suite.tasks[name].perplexity is not None
            if check.ratio is not None and not text:
                yield (*place, "ratio"), f"{name!r} is no text; bound its effect"
            if text and (check.effect is not None or check.controls is not None):
                field = "effect" if check.effect is not None else "controls"
                yield (*place, field), f"{name!r} is a text; bound its ratio"


def _repeats(node: Any, place: Location = ()) -> Iterable[tuple[Location, str]]:
    """Fields given twice, of which YAML would keep the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield (*place, name), "this name stands here twice; remove one"
            seen.add(name)
            yield from _repeats(value, (*place, name))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _repeats(value, (*place, i))


def _unreadable(node: Any) -> str:
    """The line of the first scalar that cannot be read."""
    for part in _scalars(node):
        try:
            yaml.SafeLoader("").construct_object(part)
        except ValueError:
            return f", line {part.start_mark.line + 1}"
    return ""


def _scalars(node: Any) -> Iterable[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _scalars(part)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _scalars(part)
    elif isinstance(node, yaml.ScalarNode):
        yield node


def _line(root: Any, place: Location) -> str:
    """The line of the deepest part of a location that the file has."""
    node, line = root, root.start_mark.line
    for step in place:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(  # of a name that stands there twice, the one that counts
                (pair for pair in node.value[::-1] if pair[0].value == str(step)), None
            )
            if found is not None:
                line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = node.value[step]
            line, node = found.start_mark.line, found
        if found is None:
            break
    return f", line {line + 1}"


def _field(place: Location) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
    return f", {text.removeprefix('.')}" if text else ""
