"""Data sets out to the files of other programs, and in from them."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from spinloom.dataset import Dataset, new_folder, open_dataset, write_dataset
from spinloom.errors import BadInput
from spinloom.fields import MOST_PACKED, cell_of, open_netcdf, write_netcdf
from spinloom.files import beside, sync_folder, tidy, write_bytes
from spinloom.hamiltonian import Hamiltonian
from spinloom.magnetisation import LENGTHS, Spread, check_full, cropped, directions, one_layer
from spinloom.ovf import Mode, checked_cell, checked_magnitude, ovf_bytes, read_ovf
from spinloom.progress import progress
from spinloom.vtk import vti_bytes

Format = Literal["ovf", "vtk", "netcdf", "npy"]
Cell = tuple[float, float, float]

SINGLE = {"netcdf": ".nc", "npy": ".npy"}
"""Formats that hold all textures in one file, and how its name ends."""

OVF_NAMES = (".ovf", ".omf", ".ohf")
FILE_NAMES = (*OVF_NAMES, ".vti", ".vtk", *SINGLE.values())
"""Endings of names that are no folder's."""

DEFAULT_CELL = (2e-9, 2e-9, 1e-9)

SITES_AT_ONCE = 2**20
"""Sites taken from a file, or a set, at a time."""

LARGEST_PACKED = 2**31
"""Bytes of a compressed array, which is unpacked whole."""


# ---------------------------------------------------------------- out


def export_dataset(
    data: Dataset | Path | str,
    out: Path | str,
    format: str = "ovf",
    cell: Sequence[float | int] | None = None,
    mode: str | None = None,
    magnitude: float | int | None = None,
    first: int = 0,
    number: int | None = None,
    show: bool = False,
) -> list[Path]:
    """Write textures of a data set as files of other programs; the paths of what was written.

    - ``ovf``: OVF 2.0, a file a texture (``mode`` bin4, bin8 or text), for mumax³, OOMMF, Ubermag, Spirit.
    - ``vtk``: an image (.vti) a texture, for ParaView.
    - ``netcdf``: one file laid out as Ubermag's ``Field.to_xarray``, with a dimension ``texture``.
    - ``npy``: one NumPy array (n, 3, H, W), float32.

    Files of a texture bear its number in the set. ``cell`` is the size (x, y, z) of a cell in m: by default what
    the set was imported with, else 2 × 2 × 1 nm. ``magnitude``, in A/m, multiplies the unit vectors. The folder
    ``out`` appears whole or not at all; for netcdf and npy an ``out`` that ends in .nc or .npy is the file itself.

    Raises:
        BadInput: an unknown format, a setting it does not have, textures that are not there, ``out`` exists or is
            named like a file and would be a folder, a library is missing, the disk is full.
    """
    data = data if isinstance(data, Dataset) else open_dataset(data)
    part = data.window(first, number)
    if format not in ("ovf", "vtk", *SINGLE):
        raise BadInput(f"format={format!r}: unknown; use ovf, vtk, netcdf or npy")
    if mode not in (None, *get_args(Mode)):
        raise BadInput(f"mode={mode!r}: unknown; use bin4, bin8 or text")
    if mode is not None and format != "ovf":
        raise BadInput(f"mode={mode!r}: {format} has no modes; leave it out, or use format ovf")
    if cell is not None and format == "npy":
        raise BadInput(f"cell={cell}: an npy file has no place for it; leave it out")
    sides = checked_cell(data.info["origin"].get("cell") or DEFAULT_CELL if cell is None else cell)
    strength = None if magnitude is None else checked_magnitude(magnitude)
    out = Path(out)
    if out.suffix.lower() in FILE_NAMES and SINGLE.get(format) != out.suffix:
        other = [name for name, ending in SINGLE.items() if ending == out.suffix]
        way = f", or use format {other[0]}" if other else ""
        raise BadInput(f"{out}: {format} makes a folder with its files inside; leave {out.suffix} out{way}")
    with progress("exporting", len(part), "textures", show) as advance:
        if format in SINGLE:
            name = f"textures{SINGLE[format]}"
            itself = out.suffix == SINGLE[format]
            with _new_file(out) if itself else new_folder(out) as made:
                file = made if itself else made / name
                if format == "npy":
                    _write_npy(part, file, strength, advance)
                else:
                    write_netcdf(part, file, sides, strength)
                    advance(len(part))
                _sync(file)
            return [out if itself else out / name]
        ending = ".ovf" if format == "ovf" else ".vti"
        names = [f"texture-{k:06d}{ending}" for k in part.part]
        with new_folder(out) as folder:
            for some, spins in _batches(part):
                for k, texture in zip(some, spins, strict=True):
                    if format == "ovf":
                        content = ovf_bytes(texture, sides, mode or "bin4", strength, f"texture {part.part[k]}")
                    else:
                        content = vti_bytes(texture if strength is None else texture * strength, sides)
                    write_bytes(folder / names[k], content)
                    advance(1)
    return [out / name for name in names]


def _batches(data: Dataset) -> Iterator[tuple[range, Tensor]]:
    step = max(1, SITES_AT_ONCE // math.prod(data.size))
    for begin in range(0, len(data), step):
        some = range(begin, min(begin + step, len(data)))
        yield some, data[some.start : some.stop]


def _write_npy(data: Dataset, file: Path, strength: float | None, advance: Callable[[int], None]) -> None:
    # written, not mapped: on a full disk that is an error to be told and not a dead process
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(data), 3, *data.size)}
    with file.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for some, spins in _batches(data):
            vectors = spins if strength is None else spins * strength
            handle.write(vectors.contiguous().numpy().astype("<f4", copy=False).data)
            advance(len(some))


@contextmanager
def _new_file(out: Path) -> Iterator[Path]:
    """A file beside ``out`` to write, which then takes its name; after an error nothing is left of it."""
    if out.exists():
        raise BadInput(f"{out}: exists; nothing is overwritten, use another name")
    partial = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tidy(out)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written ({error.strerror}); free the disk or use another name") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    sync_folder(out.parent)


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


# ---------------------------------------------------------------- in


@dataclass(frozen=True)
class Source:
    """A file's vectors (n, Z, 3, Y, X), some at a time; its cell in m and its unit, if it says."""

    batches: Iterator[Tensor]
    cell: Cell | None = None
    unit: str | None = None


def import_dataset(
    files: Sequence[Path | str] | Path | str,
    out: Path | str,
    layer: int | None = None,
    crop: Sequence[int] | None = None,
    hamiltonian: Hamiltonian | None = None,
    cell: Sequence[float | int] | None = None,
    segment: int | None = None,
    shard_size: int = 500,
    show: bool = False,
) -> Dataset:
    """Make a data set from files of other programs: OVF, NumPy arrays, netCDF, told apart by their content.

    OVF files hold a texture each, netCDF files one field of Ubermag's or what ``export_dataset`` wrote, .npy and
    .npz files an array (3, H, W) or (n, 3, H, W). A folder stands for the OVF files in it, by name. Vectors are
    normalised; ``data.info["origin"]`` keeps their magnitude (one number, or mean, std, min and max if it varies),
    its unit, the cell, and every file's name. Directions are kept to 0.004°.

    ``layer`` chooses one of a film's several, from 0; ``crop`` = (x0, x1, y0, y1) a part of every field.
    ``hamiltonian`` is what ε shall be measured with; without, the set has no energies. ``cell`` = (x, y, z) in m is
    for files that do not say. Lattices are periodic here: a part of a larger sample has a seam where its edges meet.

    Raises:
        BadInput: a file that is missing, damaged or of another kind, files of different sizes or cells, several
            layers and none chosen, cells of zero magnetisation, NaN, ``out`` exists, or the disk is full.
    """
    paths = _listed(files)
    given = None if cell is None else checked_cell(cell)
    entries: list[dict[str, Any]] = []
    origin: dict[str, Any] = {"kind": "imported", "files": entries}
    origin |= {name: value for name, value in (("layer", layer), ("segment", segment)) if value is not None}
    if crop is not None:
        origin["crop"] = list(crop)
    lengths = Spread()
    cells: dict[str, Cell] = {}
    units: set[str] = set()
    sizes: dict[str, tuple[int, ...]] = {}

    def textures() -> Iterator[Tensor]:
        with progress("importing", len(paths), "files", show) as advance:
            for path in paths:
                source = _open(path, segment)
                own = Spread()
                count = 0
                for vectors in source.batches:
                    chosen = cropped(one_layer(vectors, layer, str(path)), crop, str(path))
                    _same("size", sizes, path, tuple(chosen.shape[-2:]), lambda one, other: one == other)
                    spins, magnitude = directions(chosen)
                    for one in magnitude:
                        check_full(one, f"{path}, texture {count}" if count or len(magnitude) > 1 else str(path))
                        count += 1
                    own.add(magnitude)
                    lengths.add(magnitude)
                    yield spins
                found = given or source.cell
                if found is not None:
                    _same("cell", cells, path, found, lambda one, other: np.allclose(one, other, rtol=1e-6, atol=0))
                units.add(source.unit or "")
                entries.append({"name": path.name, "textures": count, "magnitude": own.as_json()})
                advance(1)

    def described() -> dict[str, Any]:
        sides = next(iter(cells.values()), None)
        unit = units.pop() if len(units) == 1 else ""
        return origin | {"cell": sides and list(sides), "magnitude": lengths.as_json(), "unit": unit or None}

    return write_dataset(out, textures(), hamiltonian, described, shard_size)


def _same(what: str, seen: dict[str, Any], path: Path, value: Any, alike: Callable[[Any, Any], Any]) -> None:
    """Refuse a file whose size or cell is not that of the one before."""
    for name, other in seen.items():
        if not alike(value, other):
            found = [" × ".join(f"{side:.6g}" for side in sides) for sides in (value, other)]
            raise BadInput(f"{path}: {what} {found[0]}, but {name} has {found[1]}; import them apart")
        return
    seen[path.name] = value


def _listed(files: Sequence[Path | str] | Path | str) -> list[Path]:
    """The files in the order given, folders opened."""
    paths = []
    for path in map(Path, [files] if isinstance(files, (Path, str)) else files):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in OVF_NAMES)
            if not inside:
                raise BadInput(f"{path}: holds no {', '.join(OVF_NAMES)}; name files, or a folder of such")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise BadInput(f"{path}: no such file; check the path")
    if not paths:
        raise BadInput("files: none given; name at least one")
    return paths


def _open(path: Path, segment: int | None) -> Source:
    """The file's vectors, by what it begins with."""
    try:
        with path.open("rb") as handle:
            begins = handle.read(8)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if begins.startswith(b"#"):
        field = read_ovf(path, segment)
        known = field.steps is not None and field.meshunit.lower() in LENGTHS
        return Source(iter([field.vectors[None]]), field.cell if known else None, field.valueunit)
    if segment is not None:
        raise BadInput(f"segment={segment}: {path} is not an OVF file; leave it out")
    if begins.startswith(b"\x93NUMPY"):
        return Source(_of_array(path, _mapped(path)))
    if begins.startswith(b"PK\x03\x04"):
        return Source(_of_array(path, _unpacked(path)))
    if begins.startswith((b"\x89HDF\r\n\x1a\n", b"CDF")):
        with open_netcdf(path) as array:
            return Source(_of_netcdf(path), cell_of(array), str(array.attrs.get("units", ""))[:80])
    raise BadInput(f"{path}: is no OVF, npy, npz or netCDF file; name one of those")


def _of_array(path: Path, array: np.ndarray) -> Iterator[Tensor]:
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] != 3 or not array.size:
        raise BadInput(f"{path}: holds an array of shape {array.shape}; need (3, H, W) or (n, 3, H, W)")
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{path}: holds {str(array.dtype)[:40]}, not real numbers; make the file again")
    kind = np.float64 if array.dtype.itemsize > 4 or array.dtype.kind != "f" else np.float32
    step = max(1, SITES_AT_ONCE // (array.shape[2] * array.shape[3]))
    for begin in range(0, len(array), step):
        yield torch.from_numpy(np.array(array[begin : begin + step], kind, order="C")).unsqueeze(1)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's reader of headers raises a dozen kinds
        raise BadInput(f"{path}: cannot be read as an array ({_why(error)}); save it with numpy.save") from error


def _unpacked(path: Path) -> np.ndarray:
    """The only array of an .npz file, unless it would need more memory than the file can hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = path.stat().st_size
        size = sum(member.file_size for member in members)
        if len(members) != 1:
            raise BadInput(f"{path}: holds {len(members)} arrays; save the textures alone, with numpy.save")
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadInput(f"{path}: is compressed in a way NumPy does not write; save it with numpy.save")
        if size > min(LARGEST_PACKED, MOST_PACKED * packed):
            raise BadInput(f"{path}: would unpack to {size} bytes; save it with numpy.save, which is read in parts")
        with zipfile.ZipFile(path) as archive, archive.open(members[0]) as member:
            version = np.lib.format.read_magic(member)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = reader[version](member)
            if dtype.hasobject or math.prod(shape) * dtype.itemsize > size:
                raise BadInput(f"{path}: declares more than it holds, or Python objects; save it with numpy.save")
        with np.load(path, allow_pickle=False) as archive:
            return archive[archive.files[0]]
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{path}: cannot be read as an array ({_why(error)}); save it with numpy.save") from error


def _of_netcdf(path: Path) -> Iterator[Tensor]:
    with open_netcdf(path) as array:
        sites = array.sizes["x"] * array.sizes["y"] * array.sizes["z"]
        step = max(1, SITES_AT_ONCE // sites)
        for begin in range(0, array.sizes["texture"], step):
            try:
                values = array.isel(texture=slice(begin, begin + step)).values
            except Exception as error:
                raise BadInput(f"{path}: damaged ({_why(error)}); make the file again") from error
            kind = np.float32 if values.dtype == np.float32 else np.float64
            yield torch.from_numpy(np.array(values, kind, order="C"))


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
