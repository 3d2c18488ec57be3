"""Figure 7: t-SNE of the states of six emotions in one small model, layer by layer."""

from contrans.data import EMOTIONS
from contrans.experiments.paper.claims import average, difference, judge
from contrans.experiments.paper.emotion_space import CHANCE, space
from contrans.experiments.paper.workbench import Lab
from contrans.report.blocks import Table
from contrans.report.figures import clouds
from contrans.report.sheet import Sheet

PANELS = 8


def run(lab: Lab) -> Sheet:
    """Every layer, or eight of them; the best one is chosen on validation scenarios."""
    plan = lab.plan.emotions
    assert plan is not None
    model = plan.weak
    lm = lab.lm(model)
    step = max(lm.layers / PANELS, 1.0)
    layers = sorted(
        {min(int(i * step + step) - 1, lm.layers - 1) for i in range(PANELS)}
    )
    found = {layer: space(lab, model, layer) for layer in layers}
    best = max(layers, key=lambda layer: found[layer].validation)
    rows = tuple(
        (layer, average(entry.correct), entry.validation)
        for layer, entry in found.items()
    )
    kinds = found[best].kinds
    return Sheet(
        title=f"t-SNE of six emotions in {model}, by layer",
        about="States of the last token of test scenarios. Since t-SNE can show groups "
        "where there are none, a probe fitted on the scenarios that make the vectors "
        "names the emotion of the test scenarios (other templates).",
        tables=(
            Table(
                "",
                f"A probe of six emotions; chance is {CHANCE:.3f}",
                ("layer", "accuracy [95%]", "on validation"),
                rows,
            ),
        ),
        claims=(
            judge(
                "the emotions are apart in the states of the model",
                "Figure 7",
                average(found[best].correct),
                above=CHANCE,
                how=f"accuracy of the probe at layer {best}, which validation chose",
            ),
            judge(
                "more so there than after the first block",
                "Figure 7",
                difference(found[best].correct, found[layers[0]].correct),
                above=0,
                how=f"accuracy at layer {best} minus at layer {layers[0]}, same texts",
            ),
        ),
        draw=lambda: clouds(
            {f"layer {layer}": entry.points for layer, entry in found.items()},
            kinds,
            EMOTIONS,
        ),
    )
