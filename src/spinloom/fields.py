"""A data set as one labelled array of Ubermag fields, in memory and as netCDF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from spinloom.errors import BadInput
from spinloom.magnetisation import LENGTHS

if TYPE_CHECKING:
    from spinloom.dataset import Dataset

SITES_A_BLOCK = 2**22
"""Sites that Dask decodes at once, 48 MiB."""

MOST_PACKED = 1100
"""A compressed file holds at most this many times its own length: deflate reaches 1032."""


def to_xarray(data: Dataset, name: str, cell: tuple[float, float, float], units: str) -> Any:
    """An ``xarray.DataArray`` (texture, x, y, z, vdims); see :meth:`spinloom.dataset.Dataset.to_xarray`."""
    try:
        import xarray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BadInput("to_xarray: needs xarray, which is not installed; pip install xarray dask") from error
    rows, columns = data.size
    counts = np.array((columns, rows, 1))
    edges = np.array(cell, dtype=float)
    array = xarray.DataArray(
        _values(Fields(data)),
        dims=("texture", "x", "y", "z", "vdims"),
        coords={
            "texture": np.asarray(data.part),
            **{axis: (np.arange(n) + 0.5) * edge for axis, n, edge in zip("xyz", counts, edges, strict=True)},
            "vdims": list("xyz"),
        },
        name=name,
        attrs={
            "units": "",
            "cell": edges,
            "pmin": np.zeros(3),
            "pmax": counts * edges,
            "nvdim": 3,
            "tolerance_factor": 1e-12,
        },
    )
    for axis in "xyz":
        array[axis].attrs["units"] = units
    return array


def write_netcdf(data: Dataset, path: Path, cell: tuple[float, float, float], magnitude: float | None) -> None:
    """:func:`to_xarray` of the data as a netCDF-4 file, textures decoded some at a time; ``cell`` in m.

    Raises:
        BadInput: a library is missing.
    """
    for library in ("xarray", "dask", "h5netcdf", "h5py"):
        if find_spec(library) is None:
            raise BadInput(f"netcdf: needs {library}, which is not installed; pip install 'spinloom[netcdf]'")
    array = to_xarray(data, "field", cell, "m")
    if magnitude is not None:
        attributes = array.attrs
        array = array * np.float32(magnitude)
        array.attrs = {**attributes, "units": "A/m"}
    array.to_netcdf(path, engine="h5netcdf")


@contextmanager
def open_netcdf(path: Path) -> Iterator[Any]:
    """The field in a netCDF file, nothing of it read yet, with dimensions (texture, z, vdims, y, x).

    It may be what :func:`write_netcdf` wrote, or one field of Ubermag's ``to_xarray().to_netcdf()``: without
    ``texture``, of any thickness, or without z.

    Raises:
        BadInput: xarray is missing; the file is not netCDF, holds no vector field or several.
    """
    try:
        import xarray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BadInput("netcdf: needs xarray, which is not installed; pip install 'spinloom[netcdf]'") from error
    try:
        _check_sizes(path)
        opened = xarray.open_dataset(path, decode_times=False, cache=False)
    except BadInput:
        raise
    except Exception as error:  # whatever the libraries underneath make of a strange file
        what = " ".join(str(error).split())[:160]
        raise BadInput(
            f"{path}: cannot be read as netCDF ({what}); pip install 'spinloom[netcdf]', check it"
        ) from error
    with opened:
        found = [array for array in opened.data_vars.values() if {"x", "y"} < set(array.dims)]
        if len(found) != 1:
            raise BadInput(f"{path}: holds {len(found)} fields over x and y; name a file with one")
        array = found[0]
        if "comp" in array.dims and "vdims" not in array.dims:
            array = array.rename(comp="vdims")  # Ubermag before 2023
        for name in ("texture", "z"):
            array = array if name in array.dims else array.expand_dims(name)
        if set(array.dims) != {"texture", "z", "vdims", "y", "x"} or array.sizes["vdims"] != 3 or not array.size:
            shape = ", ".join(f"{name} {length}" for name, length in found[0].sizes.items())
            raise BadInput(f"{path}: a field over {shape} is no vector field; need x, y, vdims 3, may have z, texture")
        if array.dtype.kind not in "fiu":
            raise BadInput(f"{path}: holds {array.dtype}, not numbers; make the file again")
        for axis in "xyz":
            at = array.coords[axis].values if axis in array.coords else np.zeros(1)
            if at.dtype.kind not in "fiu" or not (np.diff(at) > 0).all():
                raise BadInput(f"{path}: {axis} does not grow from cell to cell; sort it with array.sortby('{axis}')")
        yield array.transpose("texture", "z", "vdims", "y", "x")


def _check_sizes(path: Path) -> None:
    """Refuse an HDF5 file that declares more than it can hold: xarray reads coordinates as soon as it opens it.

    Classic netCDF needs no such look: it is not compressed, and mapped.
    """
    with path.open("rb") as handle:
        if not handle.read(4).startswith(b"\x89HDF"):
            return
    import h5py  # pyright: ignore[reportMissingImports]

    most = MOST_PACKED * path.stat().st_size

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.nbytes > most:
            raise BadInput(f"{path}: declares {item.nbytes} bytes, which it cannot hold; make the file again")

    with h5py.File(path) as file:
        file.visititems(look)


def cell_of(array: Any) -> tuple[float, float, float] | None:
    """The cell's sides in m, if the field's attributes say and their unit is a length."""
    try:
        x, y, *rest = (float(side) for side in np.atleast_1d(array.attrs["cell"]))
        z = rest[0] if rest else x
        unit = LENGTHS[str(array.coords["x"].attrs["units"]).lower()]
    except (KeyError, TypeError, ValueError):
        return None
    return x * unit, y * unit, z * unit


def _values(fields: Fields) -> Any:
    try:
        from dask.array import from_array  # pyright: ignore[reportMissingImports]
    except ImportError:
        return fields[:]
    at_once = max(1, SITES_A_BLOCK // (fields.shape[1] * fields.shape[2]))
    chunks: Any = (at_once, -1, -1, -1, -1)  # Dask's annotation forgets tuples
    return from_array(fields, chunks=chunks, name=False, asarray=False)


@final
class Fields:
    """The array (n, X, Y, Z = 1, 3) of a data set's vectors, which decodes the textures it is asked for."""

    def __init__(self, data: Dataset) -> None:
        rows, columns = data.size
        self.data = data
        self.shape = (len(data), columns, rows, 1, 3)
        self.ndim = 5
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *others = index if isinstance(index, tuple) else (index,)
        vectors = self.data[first].movedim(-3, -1).transpose(-3, -2).unsqueeze(-2).numpy()  # (…, x, y, 1, 3)
        return vectors[(..., *others) if len(others) == 4 else (slice(None),) * (vectors.ndim - 4) + tuple(others)]
