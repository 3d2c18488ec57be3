"""The main job: refine, reformulate, transplant, evaluate; one folder as the answer.

`prepare.py` prepares (data, models, states), `compare.py` searches, tests and compares;
this file is the door to both and writes the folder.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contrans.core.artifacts import save
from contrans.core.cache import Cache, cache_folder
from contrans.core.files import digest, write_json, write_text
from contrans.core.folders import MARK, check_folder, new_folder, read_index
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

KIND = "transplant"
"""What the index of a folder of results calls it."""


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
        force: replace the results of another run in `out`.
        cache: folder of finished stages; None uses `$CONTRANS_CACHE` or
            `~/.cache/contrans`.
        progress: called with (stage, done, total).
        notify: called with each warning as it arises.
        **settings: the fields of `Settings`.

    Returns:
        The results, as written to `results.json`.

    Raises:
        FileExistsError: when `out` holds the results of other settings, or, also with
            `force`, what is no folder of results.
        ValueError, KeyError, FileNotFoundError: for settings or files that cannot work.
    """
    concept = pin_concept(concept)
    chosen = Settings(source=source, target=target, concept=concept, **settings)
    chosen.check()
    folder = None if out is None else Path(out)
    key = _settings_digest(chosen)
    if folder is not None:
        mine = _of(folder, key)
        files = read_index(folder).get("files", ())
        if mine and not force and all((folder / name).is_file() for name in files):
            return read_results(folder / "results.json").as_dict()
        force = force or mine
        check_folder(folder, KIND, force=force)
    stages = Stages(Cache(cache or cache_folder()), progress, notify)
    results, vector = compare(prepare(chosen, stages), stages)
    if folder is not None:
        try:
            _write(folder, results, vector, key, force=force)
        except FileExistsError:  # the same command at the same time was faster
            if not _of(folder, key):
                raise
    return results.as_dict()


def _of(folder: Path, key: str) -> bool:
    """Whether a folder holds results of exactly these settings."""
    return read_index(folder).get("settings_digest") == key


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


def _write(
    folder: Path,
    results: TransplantResults,
    vector: ConceptVector,
    key: str,
    *,
    force: bool,
) -> None:
    from contrans.report import to_html, to_markdown  # needs matplotlib

    plain = results.as_dict()
    index = {
        "contrans": __version__,
        "kind": KIND,
        "what": f"{results.concept.name} from {results.source.name} "
        f"into {results.target.name}",
        "settings_digest": key,
        "files": {
            "vector.safetensors": "the transplanted concept vector",
            "report.md": "what was done and what it did",
            "report.html": "the same with plots, self-contained",
            "results.json": "the same for programs",
        },
    }
    with new_folder(folder, KIND, force=force) as part:
        save(vector, part / "vector.safetensors")
        write_text(part / "report.md", to_markdown(plain))
        write_text(part / "report.html", to_html(plain))
        write_json(part / "results.json", plain)
        write_json(part / MARK, index)
