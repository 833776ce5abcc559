"""The commands that exchange textures with other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from spinloom.dataset import open_dataset
from spinloom.errors import BadInput
from spinloom.interchange import Format, export_dataset, import_dataset
from spinloom.networks import SMALLEST_SIDE
from spinloom.options import (
    AsJson,
    Count,
    Dzyaloshinskii,
    EasyAxis,
    Exchange,
    Field,
    Quiet,
    Walls,
    Whole,
    given_hamiltonian,
    print_json,
    statistics_line,
)
from spinloom.ovf import Mode


def export(
    data: Path,
    out: Path,
    /,
    *,
    format: Annotated[Format, Parameter(help="ovf, vtk: a file a texture; netcdf, npy: one file.")] = "ovf",
    number: Annotated[Count | None, Parameter(name=("-n", "--number"), help="How many textures; default: all.")] = None,
    first: Annotated[Whole, Parameter(help="The first one, from 0.")] = 0,
    cell: Annotated[
        tuple[float, float, float] | None, Parameter(help="x y z in m; default: as imported, or 2 × 2 × 1 nm.")
    ] = None,
    mode: Annotated[Mode | None, Parameter(help="Numbers of an ovf; default: bin4.")] = None,
    magnitude: Annotated[float | None, Parameter(help="Ms in A/m; default: unit vectors.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write textures as files of other programs: OVF for mumax³, OOMMF and Ubermag, VTK, netCDF, NumPy.

    Parameters
    ----------
    data
        Folder of a data set.
    out
        Folder to make; for netcdf and npy also a file, FILE.nc or FILE.npy.
    """
    textures = open_dataset(data)
    show = not (quiet or as_json)
    made = export_dataset(textures, out, format, cell, mode, magnitude, first, number, show)
    if as_json:
        print_json({"path": str(out), "format": format, "files": [str(file) for file in made]})
    else:
        kept = textures.info["origin"].get("magnitude")
        came = kept is not None and kept != 1 and magnitude is None
        names = made[0].name if len(made) == 1 else f"{len(made)} files, {made[0].name} to {made[-1].name}"
        print(f"{out}: {names}")
        if came:
            print(f"unit vectors; the textures came with magnitude {_magnitude(textures.info['origin'])}")


def import_(
    *paths: Annotated[Path, Parameter(name="FILES… OUT")],
    layer: Annotated[Whole | None, Parameter(help="Of several layers, from 0.")] = None,
    crop: Annotated[
        tuple[Whole, Whole, Whole, Whole] | None,
        Parameter(help="x0 x1 y0 y1: columns x0 to x1 − 1, rows y0 to y1 − 1 of every field."),
    ] = None,
    segment: Annotated[Whole | None, Parameter(help="Of an OVF file that holds several fields, from 0.")] = None,
    cell: Annotated[tuple[float, float, float] | None, Parameter(help="Cell x y z in m, if files do not say.")] = None,
    J: Exchange = None,
    D: Dzyaloshinskii = None,
    dmi: Walls = None,
    B: Field = None,
    K: EasyAxis = None,
    shard_size: Annotated[Count, Parameter(help="Textures a file of the set.")] = 500,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from OVF (.ovf, .omf, .ohf), NumPy (.npy, .npz) or netCDF files.

    Parameters
    ----------
    paths
        Files, or folders of OVF files; the last name is the folder of the data set to make.
    """
    if len(paths) < 2:
        raise BadInput("import: name files and, last, the folder to make, e.g. `spinloom import m*.ovf labyrinths`")
    *files, out = paths
    if out.is_file():
        raise BadInput(f"{out}: is a file; the last name is that of the folder to make, add it")
    model = given_hamiltonian(J, D, dmi, B, K)
    data = import_dataset(files, out, layer, crop, model, cell, segment, shard_size, not (quiet or as_json))
    if as_json:
        print_json({"path": str(out), **data.info})
        return
    rows, columns = data.size
    print(f"{out}: {len(data)} textures of {rows} × {columns}, {statistics_line(data.info['statistics'])}")
    origin = data.info["origin"]
    varies = "; it varies, directions alone are stored" if isinstance(origin["magnitude"], dict) else ""
    print(f"magnitude {_magnitude(origin)}{varies}")
    unfit = _unfit(data.size)
    if unfit:
        print(unfit)
    if model is None:
        print("Hamiltonian unknown: no energies; give --J and --D here, or to `spinloom measure`")


def _unfit(size: tuple[int, int]) -> str:
    """What textures of these sides cannot be used for, in a line."""
    if any(side % 2 for side in size):
        return (
            f"odd sides: to measure and export; relaxing needs even ones, training multiples of 8 from {SMALLEST_SIDE}"
        )
    if any(side % 8 or side < SMALLEST_SIDE for side in size):
        return f"sides to measure, relax and export; training needs multiples of 8 from {SMALLEST_SIDE}"
    return ""


def _magnitude(origin: Mapping[str, Any]) -> str:
    kept, unit = origin["magnitude"], origin.get("unit") or ""
    unit = "" if unit == "1" else unit  # of vectors that are without one
    if isinstance(kept, Mapping):
        return f"{kept['mean']:g} ± {kept['std']:.3g} ({kept['min']:g} to {kept['max']:g}) {unit}".rstrip()
    return f"{kept:g} {unit}".rstrip()
