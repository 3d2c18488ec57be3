"""The last stage of `contrans transplant` alone: a vector file through a map file."""

import json
from pathlib import Path

import typer

from contrans.cli import screen


def through_map(
    vector_file: str,
    map_file: str,
    out: Path,
    files: list[bool],
    same_space: bool,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Move a vector, write it and say where it went.

    Args:
        vector_file: the vector.
        map_file: the map.
        out: the folder or file to write.
        files: whether each of the two is a file.
        same_space: allow a vector of a model with the same space.
        force: write over what is there.
        as_json: print JSON.

    Raises:
        ValueError: when not both are files, or the map starts at another model.
        FileExistsError: when `out` exists and `force` is false.
    """
    if not all(files):
        raise ValueError(
            f"{vector_file} and {map_file}: give two models, or a vector and a map "
            "(.safetensors files or entries of the library), not one of each"
        )
    screen.check_new(out, force=force)
    from contrans.cli.norms import carried
    from contrans.library import file_named
    from contrans.store import load, save
    from contrans.transfer import assume_model, transplant as move

    vector = load(file_named(vector_file, "vector"), "concept-vector")
    link = load(file_named(map_file, "map"), "linear-map")
    if same_space:
        vector = assume_model(vector, link)
    elif vector.model != link.source.model:
        raise ValueError(
            f"{vector_file} lives in {vector.name!r} but {map_file} starts at "
            f"{link.source.name!r}; refit the map on the model of the vector, or, if "
            "one is a tuned copy of the other, pass --same-space"
        )
    moved = carried(move(vector, link), link.provenance.get("target", {}))
    save(moved, out, force=force)
    layer = link.target.layer
    share = moved.relative_strength(layer)
    if as_json:
        made = {"out": str(out), "concept": moved.concept, "model": moved.name}
        place = {"layer": layer, "length": float(moved.norm(layer)), "relative": share}
        typer.echo(json.dumps(made | place, indent=2))
        return
    relative = "" if share is None else f", {share:.0%} of the residual stream"
    typer.echo(
        f"{out}: {moved.concept} for {moved.name}, layer {layer}, length "
        f"{moved.norm(layer):.2f}{relative}\n"
        f"next: contrans generate {moved.name} PROMPT --steer {out} --compare"
    )
