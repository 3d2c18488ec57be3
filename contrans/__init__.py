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
    "ConceptVector": "types",
    "HiddenStates": "types",
    "LinearMap": "types",
    "PairedStates": "types",
    "PromptPairs": "types",
    "Site": "types",
    "save": "store",
    "load": "store",
    "LM": "models",
    "UnsupportedModelError": "anatomy",
    "load_model": "models",
    "collect": "activations",
    "collect_pairs": "activations",
    "residual_norms": "activations",
    "concept_vector": "concept",
    "logistic_direction": "concept",
    "mean_difference": "concept",
    "principal_direction": "concept",
    "reliability": "concept",
    "whitened_difference": "concept",
    "fit_linear_map": "linear_map",
    "minimum_norm": "gram",
    "move_directions": "solver",
    "diagnose": "diagnostics",
    "pair_layers": "transfer",
    "transplant": "transfer",
    "NoControl": "control",
    "Steer": "control",
    "compose": "control",
    "random_like": "control",
    "evaluate": "evaluation",
    "run_transplant": "pipeline",
}
_MODULES = ("data", "library", "zoo")
__all__ = [
    *_WHERE,
    *_MODULES,
    "__version__",
]

if TYPE_CHECKING:
    from contrans import data as data, library as library, zoo as zoo
    from contrans.activations import (
        collect as collect,
        collect_pairs as collect_pairs,
        residual_norms as residual_norms,
    )
    from contrans.anatomy import UnsupportedModelError as UnsupportedModelError
    from contrans.concept import (
        concept_vector as concept_vector,
        logistic_direction as logistic_direction,
        mean_difference as mean_difference,
        principal_direction as principal_direction,
        reliability as reliability,
        whitened_difference as whitened_difference,
    )
    from contrans.control import (
        NoControl as NoControl,
        Steer as Steer,
        compose as compose,
        random_like as random_like,
    )
    from contrans.diagnostics import diagnose as diagnose
    from contrans.evaluation import evaluate as evaluate
    from contrans.gram import minimum_norm as minimum_norm
    from contrans.linear_map import fit_linear_map as fit_linear_map
    from contrans.models import LM as LM, load_model as load_model
    from contrans.pipeline import run_transplant as run_transplant
    from contrans.solver import move_directions as move_directions
    from contrans.store import load as load, save as save
    from contrans.transfer import (
        pair_layers as pair_layers,
        transplant as transplant,
    )
    from contrans.types import (
        ConceptVector as ConceptVector,
        HiddenStates as HiddenStates,
        LinearMap as LinearMap,
        PairedStates as PairedStates,
        PromptPairs as PromptPairs,
        Site as Site,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.{_WHERE[name]}"), name)
    if name in _MODULES:
        return import_module(f"contrans.{name}")
    raise AttributeError(f"module 'contrans' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
