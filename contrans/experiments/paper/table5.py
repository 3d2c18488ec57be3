"""Table 5: what the models write without and with a vector, on test prompts."""

from contrans.core.verdicts import Claim
from contrans.experiments.paper.baselines import into
from contrans.experiments.paper.claims import judge
from contrans.experiments.paper.concept_tasks import Subject, emotion, fairness, honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    effect_table,
    from_controls,
    from_planted,
    gain,
    measure_group,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.models.edits import NoControl
from contrans.report.blocks import Table
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

EXAMPLES = 2
"""Prompts shown per concept: the first of the test, not chosen by hand."""
TOKENS = 40
FEELING = "fear"


def run(lab: Lab) -> Sheet:
    """Fear, fairness and honesty: examples, and the scores they are drawn from."""
    plan = lab.plan
    assert plan.emotions is not None
    series, last = plan.series[0], plan.series[0].targets[-1]
    feeling = emotion(plan, FEELING, lab.limit)
    routes = [
        (feeling, Route(plan.emotions.weak, plan.emotions.targets[0].model)),
        (fairness(plan, lab.limit), into(series, last)),
        (honesty(plan, lab.limit), into(series, last)),
    ]
    rows: list[tuple[str, ...]] = []
    groups = []
    for subject, route in routes:
        planted = best(lab, route, subject)
        rows += _examples(lab, subject, route, planted)
        groups.append(
            measure_group(
                lab,
                f"{subject.name} in {route.target}",
                route.target,
                subject.test_task,
                [
                    from_planted("ConTrans", planted),
                    *from_controls(controls(lab, route, subject, planted)),
                ],
            )
        )
    written = Table(
        "examples", "Examples", ("concept", "prompt", "model", "goes on"), tuple(rows)
    )
    scores = [
        effect_table(
            [g],
            plan,
            title=g.label,
            name=f"scores-{g.label.split()[0].replace('/', '-')}",
        )
        for g in groups
    ]
    return Sheet(
        title="What the models write",
        about="Greedy continuations of the first test prompts, and the scores of all "
        "test prompts beside them, since examples prove nothing.",
        tables=(written, *scores),
        claims=tuple(_claim(g, s) for g, (s, _) in zip(groups, routes, strict=True)),
        notes=tuple(
            n
            for g, (s, _) in zip(groups, routes, strict=True)
            for n in notes_of([g], s)
        ),
        draw=lambda: dots(whiskers(groups), "score of each task"),
    )


def _examples(
    lab: Lab, subject: Subject, route: Route, planted: Planted
) -> list[tuple[str, ...]]:
    prompts = list(subject.test_task.texts[:EXAMPLES])
    found = []
    before = lab.write(route.target, prompts, NoControl(), TOKENS)
    after = lab.write(route.target, prompts, planted.steer(), TOKENS)
    for prompt, plain, steered in zip(prompts, before, after, strict=True):
        found.append((subject.name, prompt, str(route.target), plain.strip()))
        label = f"+ {subject.name} from {route.source}"
        found.append(("", "", label, steered.strip()))
    return found


def _claim(group: Group, subject: Subject) -> Claim:
    return judge(
        f"{subject.name}: what is written follows the vector",
        "§4.1 and §5, Table 5 (examples only)",
        gain([group], "ConTrans", BASE, sign=subject.sign),
        above=0,
        how="change in the wanted direction on all test prompts",
    )
