"""Whole experiments, each one readable file over the public functions.

`RECIPES` lists every table and figure of the paper; the rest of the package is what
they share: plans of models, a lab that computes and caches, claims, and writers. This
file imports nothing heavy, so that listing the recipes is instant.
"""

from typing import NamedTuple

from contrans.core.registry import unknown


class Entry(NamedTuple):
    """One line of the table of recipes."""

    where: str
    """"module:function" that makes the sheet."""
    paper: str
    """What it is called in the paper."""
    title: str
    needs: tuple[str, ...]
    """Sections of a plan that it reads."""


def _at(module: str) -> str:
    return f"contrans.experiments.paper.{module}:run"


RECIPES: dict[str, Entry] = {
    "table1": Entry(
        _at("table1"), "Table 1", "Honesty in base models, by every method", ("series",)
    ),
    "table2": Entry(
        _at("table2"), "Table 2", "Toxic answers and perplexity, by method", ("series",)
    ),
    "table3": Entry(
        _at("table3"), "Table 3", "Honesty from sources of other kinds", ("sources",)
    ),
    "table4": Entry(
        _at("table4"), "Table 4", "Honesty from base or aligned sources", ("series",)
    ),
    "table5": Entry(
        _at("table5"), "Table 5", "What the models write", ("series", "emotions")
    ),
    "table6": Entry(
        _at("table6"), "Table 6", "Honesty added to aligned models", ("series",)
    ),
    "table7": Entry(
        _at("table7"), "Table 7", "Honesty and fairness at once", ("series",)
    ),
    "table8": Entry(
        _at("table8"),
        "Table 8",
        "Tokens that gain and lose probability",
        ("series", "emotions"),
    ),
    "table10": Entry(
        _at("table10"), "Table 10", "Honesty from data of another domain", ("series",)
    ),
    "figure2a": Entry(
        _at("figure2a"), "Figure 2(a)", "Six emotions, by strength", ("emotions",)
    ),
    "figure2b": Entry(
        _at("figure2b"), "Figure 2(b)", "PCA of states before and after", ("emotions",)
    ),
    "figure3": Entry(
        _at("figure3"), "Figure 3", "Checkpoints of one pretraining", ("checkpoints",)
    ),
    "figure4": Entry(
        _at("figure4"), "Figure 4", "Every size into every size", ("sizes",)
    ),
    "figure5": Entry(_at("figure5"), "Figure 5", "Number of pairs", ("emotions",)),
    "figure6": Entry(
        _at("figure6"), "Figure 6", "Six emotions in the largest model", ("emotions",)
    ),
    "figure7": Entry(
        _at("figure7"), "Figure 7", "t-SNE of one model, by layer", ("emotions",)
    ),
    "figure8": Entry(_at("figure8"), "Figure 8", "t-SNE by size of model", ("sizes",)),
}
"""Every table and figure, in the order of the paper."""


def chosen(name: str) -> list[str]:
    """The recipes that a name stands for; "all" is every one.

    Raises:
        KeyError: for an unknown name; the message suggests near ones.

    Example:
        >>> chosen("table1")
        ['table1']
    """
    if name == "all":
        return list(RECIPES)
    if name not in RECIPES:
        raise unknown("recipe", name, {*RECIPES, "all"})
    return [name]
