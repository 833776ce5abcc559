"""A data set as one labelled array of Ubermag fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np

from spinloom.errors import BadInput

if TYPE_CHECKING:
    from spinloom.dataset import Dataset

SITES_A_BLOCK = 2**22
"""Sites that Dask decodes at once, 48 MiB."""


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
