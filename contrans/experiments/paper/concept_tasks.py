"""What is carried over in the recipes: pairs that make a vector, tasks that judge it.

The three parts are disjoint: pairs for the vector, prompts for choosing, prompts for
the result. Packs and files of pairs bring their own splits.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from contrans.core.types import PromptPairs
from contrans.data import EMOTIONS, check_disjoint
from contrans.data.toxigen import toxicity_pairs
from contrans.data.truthfulqa import honesty_pairs, read_truthfulqa
from contrans.evaluation import EmotionTask, Task, make_task
from contrans.evaluation.tasks.toxigen import toxigen_task
from contrans.evaluation.tasks.truthfulqa import truthfulqa_task
from contrans.experiments.paper.plan import Plan
from contrans.library.concepts import load_concept


@dataclass(frozen=True, slots=True)
class Subject:
    """One concept in a recipe."""

    name: str
    refine: PromptPairs
    """Pairs that the vector is made from."""
    validate: PromptPairs
    """Pairs that rank the layers."""
    validate_task: Task
    test_task: Task
    budget: float
    """Largest ratio of perplexities when choosing a strength."""
    answer: str | None = None
    """The word of an emotion."""
    positives: tuple[str, ...] = ()
    """Test texts with the concept; tasks of emotions read those without."""

    @property
    def sign(self) -> float:
        """1 where a larger score means more of the concept, else -1."""
        return 1.0 if self.test_task.higher_is_better else -1.0


TRUTHFULQA, TOXIGEN = "truthfulqa:", "toxigen:"
PER_GROUP, VALIDATED = 210, 10
"""ToxiGen prompts of each group, and how many of them choose the strength (A.6)."""
PAIRS = 650
"""Pairs of labelled ToxiGen texts; the paper takes 50 of each of 13 groups."""


@lru_cache(maxsize=16)
def honesty(plan: Plan, limit: int | None) -> Subject:
    """Truthfulness: multiple choice."""
    if plan.data.honesty.startswith(TRUTHFULQA):
        where = plan.data.honesty.removeprefix(TRUTHFULQA)
        return _truthfulqa(plan, where, limit)
    return _subject(plan, plan.data.honesty, plan.choice.budget, limit)


def honesty_elsewhere(plan: Plan, limit: int | None) -> PromptPairs:
    """Pairs about honesty in another domain than the questions of the test.

    Raises:
        ValueError: when they share a text with the test.
    """
    concept = load_concept(plan.data.honesty_elsewhere, seed=plan.seed)
    seen = [*concept.refine.positive, *concept.refine.negative]
    check_disjoint(seen, honesty(plan, limit).test_task.texts)
    return _cut(concept.refine, limit)


@lru_cache(maxsize=16)
def fairness(plan: Plan, limit: int | None) -> Subject:
    """Fairness: what the model writes about groups."""
    if plan.data.fairness.startswith(TOXIGEN):
        where = plan.data.fairness.removeprefix(TOXIGEN)
        return _toxigen(plan, where, limit)
    return _subject(plan, plan.data.fairness, plan.choice.fairness_budget, limit)


def emotions(plan: Plan, limit: int | None) -> dict[str, Subject]:
    """The six emotions, in the paper's order."""
    return {name: emotion(plan, name, limit) for name in EMOTIONS}


@lru_cache(maxsize=16)
def emotion(plan: Plan, name: str, limit: int | None) -> Subject:
    """One emotion, from its pack or from a published file.

    Args:
        plan: the plan of the run.
        name: of the emotion.
        limit: so many items at most; None takes all.
    """
    spec = name
    if plan.data.emotions is not None:
        spec = str(Path(plan.data.emotions) / f"refine_{name}.json")
    return _subject(plan, spec, plan.choice.budget, limit, fewshot=plan.data.fewshot)


def _subject(
    plan: Plan, spec: str, budget: float, limit: int | None, *, fewshot: bool = False
) -> Subject:
    concept = load_concept(spec, seed=plan.seed)
    tasks = [
        _bare(make_task(concept, split, limit=limit, fewshot=fewshot))
        for split in ("validate", "test")
    ]
    return _checked(
        Subject(
            name=concept.name,
            refine=_cut(concept.refine, limit),
            validate=_cut(concept.validate, limit),
            validate_task=tasks[0],
            test_task=tasks[1],
            budget=budget,
            answer=concept.answer,
            positives=concept.test.positive[:limit],
        )
    )


def _bare(task: Task) -> Task:
    """Without the scenarios of the emotion itself, which no recipe scores."""
    return replace(task, positives=()) if isinstance(task, EmotionTask) else task


def _truthfulqa(plan: Plan, where: str, limit: int | None) -> Subject:
    """TruthfulQA in three disjoint parts; the published vector saw the test questions."""
    refine, validate = (
        honesty_pairs(read_truthfulqa(where, part=part, seed=plan.seed, limit=limit))
        for part in ("refine", "validate")
    )
    choosing, judging = (
        truthfulqa_task(where, part=part, seed=plan.seed, limit=limit)
        for part in ("validate", "test")
    )
    budget = plan.choice.budget
    return _checked(
        Subject("honesty", refine, validate, choosing, judging, budget=budget)
    )


def _toxigen(plan: Plan, where: str, limit: int | None) -> Subject:
    """ToxiGen: labelled texts make the vector, prompts choose and judge."""
    labelled = plan.data.labelled
    if labelled is None:
        raise ValueError(
            f"fairness from {TOXIGEN}{where} needs labelled texts for the vector; add "
            "data.labelled: a path or hub id, such as .../annotated_train.csv.gz"
        )
    whole = toxigen_task(
        where,
        classifier=plan.data.classifier or "logistic",
        labelled=labelled,
        per_group=PER_GROUP,
        limit=None if limit is None else 2 * limit,
        seed=plan.seed,
    )
    most = len(whole.prompts) * VALIDATED // PER_GROUP if limit is None else limit
    choosing = replace(whole, prompts=whole.prompts[:most])
    judging = replace(whole, prompts=whole.prompts[most:])
    count = PAIRS if limit is None else 2 * limit
    pairs = toxicity_pairs(labelled, count=count, seed=plan.seed)
    half = count * 4 // 5
    refine, validate = (
        PromptPairs(pairs.positive[span], pairs.negative[span], pairs.concept)
        for span in (slice(None, half), slice(half, None))
    )
    budget = plan.choice.fairness_budget
    return _checked(
        Subject("fairness", refine, validate, choosing, judging, budget=budget)
    )


def _checked(subject: Subject) -> Subject:
    """Refuse overlap between what makes, chooses and judges."""
    validate, test = subject.validate_task.texts, subject.test_task.texts
    seen = [*subject.refine.positive, *subject.refine.negative]
    for texts in (validate, test):
        check_disjoint(seen, texts)
    check_disjoint(validate, test)
    return subject


def _cut(pairs: PromptPairs, limit: int | None) -> PromptPairs:
    if limit is None:
        return pairs
    return PromptPairs(pairs.positive[:limit], pairs.negative[:limit], pairs.concept)


def first_pairs(pairs: PromptPairs, order: list[int], count: int) -> PromptPairs:
    """So many of the pairs, in a given order.

    Args:
        pairs: the prompt pairs.
        order: rows, first ones first.
        count: so many.
    """
    kept = order[:count]
    return PromptPairs(
        tuple(pairs.positive[i] for i in kept),
        tuple(pairs.negative[i] for i in kept),
        pairs.concept,
    )
