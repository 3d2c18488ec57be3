"""The main job: refine, reformulate, transplant, evaluate; one folder as the answer.

`prepare.py` prepares (data, models, states), `compare.py` searches, tests and compares;
this file is the door to both and writes the folder.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contrans.core.artifacts import save
from contrans.core.cache import Cache, cache_folder
from contrans.core.files import digest, write_json, write_text
from contrans.core.results import TransplantResults, read_results
from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.experiments.cached import StageProgress, Stages
from contrans.experiments.transplant.compare import compare
from contrans.experiments.transplant.prepare import prepare
from contrans.experiments.transplant.settings import Settings
from contrans.library import Library, is_reference
from contrans.library.concepts import pin_concept
from contrans.models import zoo
from contrans.models.locate import locate


def run_transplant(
    source: str,
    target: str,
    *,
    concept: str,
    out: str | Path | None = None,
    force: bool = False,
    cache: str | Path | None = None,
    progress: StageProgress | None = None,
    notify: Callable[[str], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Carry a concept from one model into another, and measure what that did.

    Args:
        source: the (aligned) model that has the concept: hub id, folder, `zoo/...`.
        target: the model that receives it.
        concept: a built-in pack, a file of pairs, or an entry of the library.
        out: folder for `vector.safetensors`, `report.md`, `report.html` and
            `results.json`; None writes nothing.
        force: overwrite what another run left in `out`.
        cache: folder of finished stages; None uses `$CONTRANS_CACHE` or
            `~/.cache/contrans`.
        progress: called with (stage, done, total).
        notify: called with each warning as it arises.
        **settings: the fields of `Settings`.

    Returns:
        The results, as written to `results.json`.

    Raises:
        FileExistsError: when `out` holds the results of other settings.
        ValueError, KeyError, FileNotFoundError: for settings or files that cannot work.
    """
    concept = pin_concept(concept)
    chosen = Settings(source=source, target=target, concept=concept, **settings)
    chosen.check()
    folder = None if out is None else Path(out)
    ready = _finished(chosen, folder, force=force)
    if ready is not None:
        return ready
    stages = Stages(Cache(cache or cache_folder()), progress, notify)
    results, vector = compare(prepare(chosen, stages), stages)
    if folder is not None:
        _write(folder, results, vector)
    return results.as_dict()


def _finished(settings: Settings, folder: Path | None, *, force: bool) -> Any:
    """The results already in `folder`, when they are of exactly these settings."""
    if folder is None or not folder.exists() or force:
        return None
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; -o needs the name of a folder")
    index = folder / "contrans.json"
    if index.is_file():
        known = json.loads(index.read_text(encoding="utf-8"))
        if known.get("settings_digest") == _settings_digest(settings):
            if not (folder / "vector.safetensors").is_file():
                return None
            return read_results(folder / "results.json").as_dict()
    if any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} is not empty and was not made by this command; choose another "
            "folder, or pass --force to replace the results in it"
        )
    return None


def _settings_digest(settings: Settings) -> str:
    files: dict[str, Any] = {}
    for name in ("concept", "corpus", "perplexity", "eval_file"):
        value = getattr(settings, name)
        if value is not None and Path(value).is_file():
            files[name] = digest(Path(value).read_text(encoding="utf-8"))
    if is_reference(settings.concept):
        files["concept"] = Library().find(settings.concept).id
    for name in ("source", "target", "map_source", "aligned_target"):
        if stamp := _stamp(getattr(settings, name)):
            files[name] = stamp
    return digest([__version__, asdict(settings), files])


def _stamp(model: str | None) -> list[list[Any]]:
    """Names, sizes and times of the weights of a model in a folder of the user.

    Models of the hub are held by their revision, the shipped ones by our version.
    """
    shipped = not os.environ.get(zoo.ROOT_VARIABLE)
    if model is None or (zoo.is_zoo(model) and shipped):
        return []
    place = Path(locate(model).model)
    found = [(file, file.stat()) for file in sorted(place.glob("*.safetensors"))]
    return [[file.name, at.st_size, at.st_mtime_ns] for file, at in found]


def _write(folder: Path, results: TransplantResults, vector: ConceptVector) -> None:
    from contrans.report import to_html, to_markdown  # needs matplotlib

    save(vector, folder / "vector.safetensors", force=True)
    plain = results.as_dict()
    write_text(folder / "report.md", to_markdown(plain), force=True)
    write_text(folder / "report.html", to_html(plain), force=True)
    write_json(folder / "results.json", plain, force=True)
    index = {
        "contrans": __version__,
        "what": f"{results.concept.name} from {results.source.name} "
        f"into {results.target.name}",
        "settings_digest": _settings_digest(Settings(**results.command)),
        "files": {
            "vector.safetensors": "the transplanted concept vector",
            "report.md": "what was done and what it did",
            "report.html": "the same with plots, self-contained",
            "results.json": "the same for programs",
        },
    }
    write_json(folder / "contrans.json", index, force=True)
