"""What a suite is: models, vectors, tasks, and the bounds that must hold."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

Undecided = Literal["warn", "fail", "pass"]
Better = Literal["higher", "lower", "neither"]


class Part(BaseModel):
    """A block of the file: no unknown fields, nothing changes afterwards.

    Numbers are finite: no interval is ever on one side of NaN.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _some(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("the list is empty; name one or more")
    return value


def _one_of(part: BaseModel, names: tuple[str, ...], what: str) -> str:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        said = f"{' and '.join(given)} are both given" if given else "none is given"
        raise ValueError(f"{what} needs one of {', '.join(names)}; {said}")
    return given[0]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Names = Annotated[list[str], BeforeValidator(_as_list), AfterValidator(_some)]


class ModelSpec(Part):
    """A model; a bare string is its name."""

    name: str
    """Hub id, folder, or zoo/NAME."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device_map: str | None = None
    quantize: Literal["8bit", "4bit"] | None = None
    revision: str | None = None
    blocks: str | None = None


class VectorSpec(Part):
    """A vector and how it is used."""

    model: str
    """A name under `models`."""
    file: str | None = None
    """A vector file, a folder of `contrans transplant`, or NAME@VERSION of the library."""
    refine: str | None = None
    """Or a concept: the model's own vector of it, refined when the suite runs."""
    method: str = "mean"
    """With `refine`: mean, pca, logistic or whitened."""
    strength: float | None = None
    """Without it: the strength written into the file, else 1."""
    kl: float | None = Field(default=None, gt=0)
    """Or the dose that the strength is to have, in nats per token."""
    unit: Literal["raw", "relative"] = "raw"
    layers: str | int | None = None
    positions: Literal["all", "prompt", "generated"] = "all"
    any_model: bool = False
    """Accept a vector made for other weights of this width."""

    @model_validator(mode="after")
    def _consistent(self) -> "VectorSpec":
        source = _one_of(self, ("file", "refine"), "a vector")
        if source == "file" and self.method != "mean":
            raise ValueError(f"method {self.method!r} is for refine, not for a file")
        if self.kl is not None and (self.strength is not None or self.unit != "raw"):
            raise ValueError(
                "kl says how strong the edit is; leave out strength and unit"
            )
        if self.unit == "relative" and self.strength is None:
            raise ValueError(
                "unit 'relative' needs a strength, such as 0.3 (30% of the stream)"
            )
        return self


class TaskSpec(Part):
    """What is measured."""

    concept: str | None = None
    """A concept pack, a file of pairs, or NAME@VERSION: its own task."""
    questions: str | None = None
    """Multiple-choice questions: a file, or a data set of the hub."""
    perplexity: str | None = None
    """Texts: a file, or `builtin`."""
    task: str | None = None
    """A published task by name, such as truthfulqa_mc1; see `evaluation.named.TASKS`."""
    data: str | None = None
    """With `task`: its file, folder or hub id."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """With `task`: its further settings."""
    measure: Literal["task", "likelihood"] = "task"
    """With `concept`: its own task, or the likelihood of its held-out pairs."""
    split: str | None = None
    """`test` (default) or `validate` of a concept; any split of the hub."""
    subset: str | None = None
    """With `questions` from the hub: the configuration, such as ARC-Challenge."""
    limit: Annotated[int | None, Field(ge=2)] = None
    """At most so many items; of texts, 200 without it."""
    seed: Seed | None = None
    """Draw the items at random; without it, the first ones are taken."""
    fewshot: bool = False
    """With an emotion: six demonstrations in front, where they fit."""
    shots: Annotated[int, Field(ge=0)] = 0
    """With `questions`: so many answered questions in front."""
    style: Literal["text", "letters"] = "text"
    """With `questions`: score whole options, or their letters."""
    better: Better | None = None
    """Which way is better, for regressions; without it, what the task says."""

    @model_validator(mode="after")
    def _consistent(self) -> "TaskSpec":
        kind = _one_of(self, ("concept", "questions", "perplexity", "task"), "a task")
        owner = {
            "data": "task",
            "settings": "task",
            "measure": "concept",
            "fewshot": "concept",
            "subset": "questions",
            "shots": "questions",
            "style": "questions",
        }
        for name in sorted(self.model_fields_set & set(owner)):
            if owner[name] != kind:
                raise ValueError(
                    f"{name} is for {owner[name]}, not for {kind}; leave it out"
                )
        if kind == "perplexity" and self.better is not None:
            raise ValueError(
                "better is not for perplexity, of which less is always better; leave "
                "it out"
            )
        if kind in ("perplexity", "task") and self.split is not None:
            raise ValueError(f"split is not for {kind}; leave it out")
        if kind == "task" and self.data is None:
            raise ValueError(f"task {self.task!r} needs data: a file, folder or hub id")
        if kind == "concept" and self.split not in (None, "test", "validate"):
            raise ValueError(
                f"unknown split {self.split!r} of a concept; choose test or validate"
            )
        return self


class Bound(Part):
    """A lower bound, an upper one, or both."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Bound":
        if self.min is None and self.max is None:
            raise ValueError("give min, max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; swap them")
        return self


class Controls(Part):
    """Random vectors of the same length must do less than the vector."""

    draws: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Seed = 0
    margin: float = 0.0
    """The vector's effect must be above every draw's by more than this."""
    max: float | None = None
    """And no draw may have an effect above this."""


class Check(Part):
    """Bounds on one or several vectors (or models) and tasks."""

    vector: Names | None = None
    model: Names | None = None
    """Instead of a vector: the model as it is, for `score`."""
    task: Names
    effect: Bound | None = None
    """Change from the unedited model, on the same items; a gain is above zero."""
    score: Bound | None = None
    """The score itself."""
    ratio: Bound | None = None
    """For texts: perplexity divided by that of the unedited model."""
    controls: Controls | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Check":
        _one_of(self, ("vector", "model"), "a check")
        given = [
            name
            for name in ("effect", "score", "ratio", "controls")
            if getattr(self, name) is not None
        ]
        if not given:
            raise ValueError("no bound; give effect, score, ratio or controls")
        if self.model is not None and given != ["score"]:
            raise ValueError(
                f"{', '.join(n for n in given if n != 'score')} compares with the "
                "unedited model and needs a vector; with a model, bound its score"
            )
        return self


class Suite(Part):
    """A regression suite of concepts."""

    name: str = "contrans"
    seed: Seed = 0
    """Read for suites written earlier: intervals draw nothing any more."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    undecided: Undecided = "warn"
    """What an interval that holds the bound counts as."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Against a baseline: a change for the worse up to this is none."""
    models: Annotated[
        dict[str, Annotated[ModelSpec, BeforeValidator(_named)]], Field(min_length=1)
    ]
    vectors: dict[str, VectorSpec] = Field(default_factory=dict)
    tasks: Annotated[dict[str, TaskSpec], Field(min_length=1)]
    checks: Annotated[list[Check], Field(min_length=1)]
