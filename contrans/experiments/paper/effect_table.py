"""The table that most recipes end in: methods and controls on test prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contrans.core.verdicts import Estimate
from contrans.evaluation import Measurement, Task
from contrans.experiments.paper.claims import average, difference, pooled, ratio
from contrans.experiments.paper.concept_tasks import Subject
from contrans.experiments.paper.plan import Model, Plan
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.models.edits import Control, NoControl
from contrans.report.blocks import Cell, Table
from contrans.report.figures import Whisker

BASE = "no edit"


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one target."""

    name: str
    kind: str
    """"base", "method", "reference" or "control"."""
    found: Measurement
    """Of several draws of a control their mean, item by item."""
    planted: Planted | None = None
    strongest: Measurement | None = None
    """The draw with the largest effect, where there are several."""


@dataclass(frozen=True, slots=True)
class Group:
    """The lines of one target."""

    label: str
    lines: tuple[Line, ...]
    published: str | None = None
    prompts: tuple[str, ...] = ()
    """Of the items: groups that share a prompt are not independent of each other."""

    def __getitem__(self, name: str) -> Measurement:
        """What the line of that name measured."""
        return next(line.found for line in self.lines if line.name == name)

    def has(self, name: str) -> bool:
        """Whether there is such a line."""
        return any(line.name == name for line in self.lines)

    @property
    def strongest(self) -> Measurement:
        """The draw of a control with the largest effect, which a method has to beat."""
        control = next(line for line in self.lines if line.kind == "control")
        return control.strongest or control.found


@dataclass(frozen=True, slots=True)
class Try:
    """Something to measure: a name, its kind, and one control or several draws."""

    name: str
    kind: str
    draws: Sequence[Control]
    planted: Planted | None = None


def from_planted(name: str, planted: Planted, kind: str = "method") -> Try:
    """A vector at its strength.

    Args:
        name: of the line.
        planted: vector, layers and strength.
        kind: "method" or "control".
    """
    return Try(name, kind, [planted.steer()], planted)


def from_controls(found: Mapping[str, Sequence[Control]]) -> list[Try]:
    """Every control with its draws."""
    return [Try(name, "control", draws) for name, draws in found.items()]


def measure_group(
    lab: Lab,
    label: str,
    model: Model,
    task: Task,
    tries: Sequence[Try],
    *,
    published: str | None = None,
) -> Group:
    """Test prompts, touched once: no edit, then everything to try.

    Of several draws the mean stands in the table with the strongest draw beside it;
    controls come in the order of those, so that the first has the one to beat.

    Args:
        lab: the models and the cache of a run.
        label: of the group.
        model: the model.
        task: what is measured.
        tries: the lines.
        published: the paper's name of the group.
    """
    texts = lab.fluent_test
    sign = 1.0 if task.higher_is_better else -1.0
    base = lab.measure(model, task, NoControl(), texts=texts)
    lines = [Line(BASE, "base", base)]
    for entry in tries:
        outcomes = [lab.measure(model, task, c, texts=texts) for c in entry.draws]
        line = Line(entry.name, entry.kind, mean_of(outcomes), entry.planted)
        if len(outcomes) > 1:
            strongest = max(outcomes, key=lambda m: sign * m.mean)
            line = replace(line, strongest=strongest)
        lines.append(line)
    plain = [line for line in lines if line.kind != "control"]
    control = [line for line in lines if line.kind == "control"]
    control.sort(key=lambda line: -sign * (line.strongest or line.found).mean)
    prompts = task.texts[: len(base.values)]
    return Group(label, (*plain, *control), published, prompts)


def mean_of(draws: Sequence[Measurement]) -> Measurement:
    """Several draws of a control as one: the mean of every item and of every loss."""
    if len(draws) == 1:
        return draws[0]
    losses = np.mean([draw.losses for draw in draws], axis=0).reshape(-1, 2)
    return replace(
        draws[0],
        values=np.mean([draw.values for draw in draws], axis=0),
        extra={
            name: np.mean([draw.extra[name] for draw in draws], axis=0)
            for name in draws[0].extra
        },
        losses=tuple((float(nll), float(tokens)) for nll, tokens in losses),
    )


def effect_table(
    groups: Sequence[Group],
    plan: Plan,
    *,
    title: str,
    name: str = "",
    published: Mapping[str, Mapping[str, float | str]] | None = None,
    first: str = "target",
) -> Table:
    """Scores, changes, perplexities and strengths; the paper's numbers beside them.

    Args:
        groups: the groups of lines.
        plan: the plan of the run.
        title: of the table.
        name: of its file.
        published: the paper's numbers, by group and line.
        first: heading of the first column.
    """
    compare = plan.compare and published is not None
    metric = groups[0].lines[0].found.metric
    several = any(line.strongest for group in groups for line in group.lines)
    columns = [first, "method", f"{metric} [95%]", "change [95%]"]
    columns += ["strongest draw"] if several else []
    fluent = any(line.found.losses for group in groups for line in group.lines)
    columns += ["perplexity", "ratio [95%]"] if fluent else []
    columns += ["relative strength", "raw alpha", "layers", "n"]
    columns += ["published (%)"] if compare else []
    rows = []
    for group in groups:
        base = group.lines[0].found
        for line in group.lines:
            cells: list[Cell] = [
                group.label,
                line.name,
                average(line.found.values),
                None
                if line.kind == "base"
                else difference(line.found.values, base.values),
            ]
            if several:
                cells.append(line.strongest.mean if line.strongest else None)
            if fluent:
                cells.append(line.found.perplexity if line.found.losses else None)
                cells.append(_ratio(line, base))
            planted = line.planted
            cells += [
                None if planted is None else planted.relative,
                None if planted is None else planted.raw,
                "" if planted is None else f"{planted.layers[0]}→{planted.layers[1]}",
                len(line.found.values),
            ]
            if compare and published is not None:
                column = published.get(group.published or "", {})
                cells.append(column.get(line.name))
            rows.append(tuple(cells))
    signed = ("change [95%]",)
    return Table(name, title, tuple(columns), tuple(rows), signed)


def _ratio(line: Line, base: Measurement) -> Estimate | None:
    if line.kind == "base" or len(line.found.losses) < 2:
        return None
    return ratio(line.found.losses, base.losses)


def whiskers(groups: Sequence[Group]) -> dict[str, list[Whisker]]:
    """The same as a figure: per target, every line with its interval."""
    return {
        group.label: [
            Whisker(line.name.split(" (")[0], line.kind, average(line.found.values))
            for line in group.lines
        ]
        for group in groups
    }


def gain(
    groups: Sequence[Group], one: str, other: str = BASE, *, sign: float = 1.0
) -> Estimate:
    """One line minus another, items of all groups that have both together.

    Args:
        groups: the groups of lines.
        one: a line.
        other: the line it is compared with.
        sign: -1.0 where lower is better.
    """
    both = [group for group in groups if group.has(one) and group.has(other)]
    pairs = [(group[one].values, group[other].values) for group in both]
    return pooled(pairs, [group.prompts for group in both], sign=sign)


def beyond_controls(groups: Sequence[Group], one: str, *, sign: float) -> Estimate:
    """One line minus the strongest control of its group.

    Args:
        groups: the groups of lines.
        one: a line.
        sign: -1.0 where lower is better.
    """
    pairs = [(group[one].values, group.strongest.values) for group in groups]
    return pooled(pairs, [group.prompts for group in groups], sign=sign)


def notes_of(groups: Sequence[Group], subject: Subject | None = None) -> list[str]:
    """What the tasks said about themselves, once each, and the size of the parts."""
    found = {
        note: None for g in groups for line in g.lines for note in line.found.notes
    }
    if subject is not None:
        chance = subject.test_task.chance
        told = "no chance level" if chance is None else f"chance level {chance:.3f}"
        found[
            f"{subject.name}: {len(subject.refine)} pairs make the vector; "
            f"{len(subject.validate_task.texts)} texts choose layers and strength; "
            f"{len(subject.test_task.texts)} others are tested on once; {told}"
        ] = None
    return list(found)


def gains(found: Measurement, base: Measurement) -> np.ndarray:
    """Item by item change."""
    return found.values - base.values
