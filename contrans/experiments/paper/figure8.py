"""Figure 8: t-SNE of the states of six emotions in models of several sizes."""

from contrans.data import EMOTIONS
from contrans.experiments.paper.claims import average, difference, judge, untestable
from contrans.experiments.paper.emotion_space import CHANCE, space
from contrans.experiments.paper.workbench import Lab
from contrans.report.blocks import Table
from contrans.report.figures import clouds
from contrans.report.sheet import Sheet
from contrans.vectors.transplant import paper_layer

NOT_AT_ALL = 0.10
"""What we read "cannot distinguish at all" as: within ten points of chance."""
WHERE = "§6.3, Figure 8"


def run(lab: Lab) -> Sheet:
    """Every size at the paper's relative depth of 0.75."""
    plan = lab.plan.sizes
    assert plan is not None
    names = [str(model) for model in plan.models]
    found = {}
    for model in plan.models:
        layer = paper_layer(lab.lm(model).layers)
        found[str(model)] = space(lab, model, layer)
    largest, smallest = found[names[-1]], found[names[0]]
    rows = tuple((name, average(entry.correct)) for name, entry in found.items())
    claims = [
        judge(
            f"{names[-1]} tells the emotions apart",
            WHERE,
            average(largest.correct),
            above=CHANCE,
            how="accuracy of the probe on test scenarios",
        ),
        judge(
            f"{names[-1]} does so better than {names[0]}",
            WHERE,
            difference(largest.correct, smallest.correct),
            above=0,
            how="accuracy of one probe minus that of the other, same scenarios",
        ),
    ]
    text = "the smallest cannot tell the emotions apart at all"
    if plan.without:
        pooled = [v for name in plan.without for v in found[name].correct]
        same = list(range(len(largest.correct))) * len(plan.without)
        how = f"accuracy of the probe in {', '.join(plan.without)}"
        claims.append(
            judge(
                text, WHERE, average(pooled, same), below=CHANCE + NOT_AT_ALL, how=how
            )
        )
    else:
        why = "the plan names no model without concepts"
        claims.append(untestable(text, WHERE, why))
    return Sheet(
        title="t-SNE of six emotions, by size of model",
        about="States of the last token of test scenarios after the block at relative "
        "depth 0.75, and what a probe makes of them (see Figure 7).",
        tables=(
            Table(
                "",
                f"A probe of six emotions; chance is {CHANCE:.3f}",
                ("model", "accuracy [95%]"),
                rows,
            ),
        ),
        claims=tuple(claims),
        draw=lambda: clouds(
            {name: entry.points for name, entry in found.items()},
            smallest.kinds,
            EMOTIONS,
        ),
    )
