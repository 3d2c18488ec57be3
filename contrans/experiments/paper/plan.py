"""A plan: which models play which part in the recipes, and on which data.

`zoo` (the embedded models) and `paper` (the hub models of the paper) are plans that
come with contrans; any YAML or JSON file with the same fields is one, too. A section
that is left out only means that the recipes which read it cannot run.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from contrans.core.registry import unknown
from contrans.core.yaml_text import read
from contrans.experiments.search import RELATIVE_GRID, TRIED_PAIRS

PLANS = Path(__file__).parent / "plans"


class _Part(BaseModel, extra="forbid", frozen=True):
    """Frozen, so hashable: parts of a plan are keys of caches."""


class Model(_Part, frozen=True):
    """One model; a plain text in the file is its name."""

    name: str = Field(min_length=1)
    """Hub id, folder or zoo/NAME."""
    revision: str | None = None
    label: str = ""
    """What tables call it."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def __str__(self) -> str:
        return self.label or self.name.rpartition("/")[2] + (
            f"@{self.revision}" if self.revision else ""
        )


class Target(_Part, frozen=True):
    """A model that receives concepts, and its aligned version where there is one."""

    model: Model
    aligned: Model | None = None
    label: str = ""
    published: str | None = None
    """Its column in the paper's tables."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    def __str__(self) -> str:
        return self.label or str(self.model)


class Series(_Part, frozen=True):
    """A small base model, its aligned version, and the targets."""

    weak: Model
    weak_aligned: Model
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    label: str = ""
    published: str | None = None
    """Column of the small aligned model itself."""


class Emotions(_Part, frozen=True):
    """Base models only: a small one, and the targets from small to large."""

    weak: Model
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]


class Source(_Part, frozen=True):
    """An aligned model of another kind, with the base model it was made from."""

    model: Model
    base: Model | None = None
    near: bool | None = None
    """Whether its base model is like the target; None where that means nothing."""
    published: str | None = None

    def __str__(self) -> str:
        return str(self.model)


class Sources(_Part, frozen=True):
    """One target and many sources."""

    target: Target
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]


class Sizes(_Part, frozen=True):
    """Models of one family, from small to large."""

    models: Annotated[tuple[Model, ...], Field(min_length=2)]
    without: tuple[str, ...] = ()
    """Labels of those that should have no concepts yet, the paper says."""

    @model_validator(mode="after")
    def _known(self) -> "Sizes":
        labels = [str(model) for model in self.models]
        for name in self.without:
            if name not in labels:
                raise ValueError(f"{name!r} is none of the models {', '.join(labels)}")
        return self


class Data(_Part, frozen=True):
    """Where the texts come from."""

    honesty: str = "honesty"
    """A pack, a file of pairs, or truthfulqa:WHERE (a hub id or a local path)."""
    honesty_elsewhere: str = "honesty"
    """Pairs about honesty in another domain, for Table 10."""
    fairness: str = "fairness"
    """A pack, a file of pairs, or toxigen:WHERE (a hub id or a local path)."""
    emotions: str | None = None
    """Folder of refine_<emotion>.json; None takes the built-in packs."""
    fewshot: bool = False
    """Six demonstrations before every emotion prompt, as published."""
    labelled: str | None = None
    """Texts labelled as toxic or not, for the fairness vector of ToxiGen."""
    classifier: str | None = None
    """Text classifier for toxicity; None trains a small one on labelled data."""
    corpus: str | None = None
    """Texts that maps are fitted on; None takes the built-in corpus."""
    map_texts: int | None = Field(default=None, ge=50)
    """At most so many of them."""
    perplexity: str | None = None
    """File of whole texts; "world" writes some of the zoo; None keeps corpus texts."""
    perplexity_texts: int = Field(default=72, ge=9)
    """A third of them for choosing, the others for the result."""


class Choice(_Part, frozen=True):
    """How layers and strengths are chosen on validation prompts."""

    unit: Literal["relative", "raw"] = "relative"
    grid: Annotated[tuple[float, ...], Field(min_length=1)] = RELATIVE_GRID
    emotion_strengths: tuple[float, float] = (1.0, 2.0)
    """Raw strengths of the published emotion scripts."""
    budget: float = Field(default=1.15, ge=1)
    """Largest ratio of perplexities."""
    fairness_budget: float = Field(default=1.10, ge=1)
    layers: Literal["search", "depth"] = "search"
    """"search" tries the best few pairs of layers; "depth" takes 0.75, as published."""
    tried: int = Field(default=TRIED_PAIRS, ge=1)
    """Pairs of layers tried in behaviour."""


class Plan(_Part, frozen=True):
    """Models, data and choices of a run of recipes."""

    title: str
    notes: tuple[str, ...] = ()
    """Departures that every result of this plan should name."""
    compare: bool = False
    """Print the published numbers beside ours."""
    series: tuple[Series, ...] = ()
    emotions: Emotions | None = None
    sources: Sources | None = None
    checkpoints: tuple[Model, ...] = ()
    """Of one pretraining, from early to final."""
    sizes: Sizes | None = None
    data: Data = Data()
    choice: Choice = Choice()
    method: Literal["contrans", "ridge", "procrustes", "low_rank"] = "contrans"
    """How maps are fitted; the paper's way by default."""
    dtype: str = "auto"
    device_map: str | None = None
    quantize: Literal["8bit", "4bit"] | None = None
    in_memory: int = Field(default=3, ge=3)
    """Models kept in memory at once; proxy-tuning needs three."""
    seed: int = 0

    def missing(self, needs: tuple[str, ...]) -> list[str]:
        """The sections among `needs` that this plan leaves out."""
        return [name for name in needs if not getattr(self, name)]

    def first_model(self, needs: tuple[str, ...]) -> Model:
        """The first model that a recipe with these needs will ask for."""
        section: Any = getattr(self, needs[0])
        entry = section[0] if isinstance(section, tuple) else section
        if isinstance(entry, Model):
            return entry
        if isinstance(entry, Sources):
            return entry.target.model
        return entry.models[0] if isinstance(entry, Sizes) else entry.weak


def plan_names() -> list[str]:
    """The plans that come with contrans."""
    return sorted(path.stem for path in PLANS.glob("*.yaml"))


def load_plan(name_or_path: str | Path) -> Plan:
    """A plan by name (`zoo`, `paper`) or from a YAML or JSON file.

    Raises:
        KeyError: for a name that is no plan.
        FileNotFoundError: when there is no such file.
        ValueError: for a file that is no plan; the message names the field.
    """
    path = Path(name_or_path)
    if str(name_or_path) in plan_names():
        path = PLANS / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml", ".json"):
        error = unknown("plan of models", str(name_or_path), plan_names())
        raise KeyError(f"{error.args[0]}. Or give a .yaml or .json file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (looked in {Path.cwd()})")
    text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text) if path.suffix == ".json" else read(text, str(path))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} holds {type(value).__name__}, not fields; begin with "
            "'title: ...' and a section such as 'series:'"
        )
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the plan"
        raise ValueError(
            f"{path}, {field}: {first['msg']} (found {first['input']!r:.80}); "
            "docs/recipes.md lists the fields"
        ) from error
