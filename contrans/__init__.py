"""Carry a concept out of one language model and plant it in another.

The names below are imported on first use, so that `import contrans` is instant:

    import contrans as ct

    source, target = ct.load_model("zoo/small-aligned"), ct.load_model("zoo/large")
    anger = ct.mean_difference(ct.collect_pairs(source, ct.data.pack("anger")))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from contrans.core.version import __version__ as __version__

_WHERE = {
    "ConceptVector": "core.types",
    "HiddenStates": "core.types",
    "LinearMap": "core.types",
    "PairedStates": "core.types",
    "PromptPairs": "core.types",
    "Site": "core.types",
    "save": "core.artifacts",
    "load": "core.artifacts",
    "LM": "models.lm",
    "UnsupportedModelError": "models.anatomy",
    "load_model": "models.loading",
    "collect": "models.collect",
    "collect_pairs": "models.collect",
    "residual_norms": "models.collect",
    "concept_vector": "vectors.concepts",
    "logistic_direction": "vectors.concepts",
    "mean_difference": "vectors.concepts",
    "principal_direction": "vectors.concepts",
    "reliability": "vectors.concepts",
    "whitened_difference": "vectors.concepts",
    "fit_linear_map": "vectors.maps",
    "minimum_norm": "vectors.gram",
    "move_directions": "vectors.ridge",
    "diagnose": "vectors.diagnostics",
    "pair_layers": "vectors.transplant",
    "transplant": "vectors.transplant",
    "NoControl": "control.steer",
    "Steer": "control.steer",
    "compose": "control.steer",
    "random_like": "control.steer",
    "evaluate": "evaluation",
    "run_transplant": "experiments.transplant.run",
}
_MODULES = ("data", "library", "zoo")
__all__ = [
    *_WHERE,
    *_MODULES,
    "__version__",
]

if TYPE_CHECKING:
    from contrans.control.steer import (
        Steer as Steer,
        compose as compose,
        random_like as random_like,
    )
    from contrans.core.artifacts import load as load, save as save
    from contrans.core.types import (
        ConceptVector as ConceptVector,
        HiddenStates as HiddenStates,
        LinearMap as LinearMap,
        PairedStates as PairedStates,
        PromptPairs as PromptPairs,
        Site as Site,
    )
    from contrans.evaluation import evaluate as evaluate
    from contrans.experiments.transplant.run import run_transplant as run_transplant
    from contrans.models import zoo as zoo
    from contrans.models.anatomy import UnsupportedModelError as UnsupportedModelError
    from contrans.models.collect import (
        collect as collect,
        collect_pairs as collect_pairs,
        residual_norms as residual_norms,
    )
    from contrans.models.edits import NoControl as NoControl
    from contrans.models.lm import LM as LM
    from contrans.models.loading import load_model as load_model
    from contrans.vectors.concepts import (
        concept_vector as concept_vector,
        logistic_direction as logistic_direction,
        mean_difference as mean_difference,
        principal_direction as principal_direction,
        reliability as reliability,
        whitened_difference as whitened_difference,
    )
    from contrans.vectors.diagnostics import diagnose as diagnose
    from contrans.vectors.gram import minimum_norm as minimum_norm
    from contrans.vectors.maps import fit_linear_map as fit_linear_map
    from contrans.vectors.ridge import move_directions as move_directions
    from contrans.vectors.transplant import (
        pair_layers as pair_layers,
        transplant as transplant,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.{_WHERE[name]}"), name)
    if name in _MODULES:
        return import_module(f"contrans.{name}")
    raise AttributeError(f"module 'contrans' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
