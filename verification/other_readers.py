"""What other programs' readers make of our files, and ours of theirs; by hand: pytest verification/other_readers.py.

``pip install pyovf`` is small; ``pip install discretisedfield`` (Ubermag) takes 1.5 GB and brings VTK with it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import spinloom as sl

CELL = (2e-9, 3e-9, 1.5e-9)


def layers(count: int = 1, rows: int = 5, columns: int = 7) -> torch.Tensor:
    """Unit vectors (Z, 3, Y, X), every site another and no two sides equal, so that no flip or swap can hide."""
    spins = torch.randn(count, 3, rows, columns, generator=torch.Generator().manual_seed(count))
    return spins / spins.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("count", [1, 3])
def test_pyovf_reads_what_we_write(tmp_path, count):
    pyovf = pytest.importorskip("pyovf")
    spins = layers(count)
    sl.write_ovf(tmp_path / "m.ovf", spins, CELL, "bin4")  # the representation it knows
    read = pyovf.read(str(tmp_path / "m.ovf"))
    assert np.array_equal(np.asarray(read.data).reshape(count, 5, 7, 3), spins.movedim(1, -1).numpy())
    assert (read.xstepsize, read.ystepsize, read.zstepsize) == pytest.approx(CELL, rel=1e-6)


def test_we_read_what_pyovf_writes(tmp_path):
    pyovf = pytest.importorskip("pyovf")
    spins = layers(2)
    pyovf.write(str(tmp_path / "m.ovf"), spins.movedim(1, -1).contiguous().numpy())
    assert torch.equal(sl.read_ovf(tmp_path / "m.ovf").vectors, spins)


@pytest.mark.parametrize("mode", ["bin4", "bin8", "text"])
@pytest.mark.parametrize("count", [1, 3])
def test_ubermag_reads_what_we_write(tmp_path, mode, count):
    df = pytest.importorskip("discretisedfield")
    spins = layers(count)
    sl.write_ovf(tmp_path / "m.omf", spins, CELL, mode, magnitude=8e5)
    field = df.Field.from_file(str(tmp_path / "m.omf"))
    assert np.allclose(field.array, 8e5 * spins.double().permute(3, 2, 0, 1).numpy(), rtol=1e-6)  # (x, y, z, 3)
    assert np.allclose(field.mesh.cell, CELL, rtol=1e-12)
    # and at a place: Ubermag's own look-up agrees on which way y grows
    place = ((3 + 0.5) * CELL[0], (4 + 0.5) * CELL[1], 0.5 * CELL[2])
    assert np.allclose(field(place), 8e5 * spins[0, :, 4, 3].numpy(), rtol=1e-6)


@pytest.mark.parametrize("representation", ["txt", "bin4", "bin8"])
def test_we_read_what_ubermag_writes(tmp_path, representation):
    df = pytest.importorskip("discretisedfield")
    spins = layers(3).double()
    mesh = df.Mesh(p1=(0, 0, 0), p2=(7 * CELL[0], 5 * CELL[1], 3 * CELL[2]), n=(7, 5, 3))
    field = df.Field(mesh, nvdim=3, value=8e5 * spins.permute(3, 2, 0, 1).numpy(), unit="A/m")
    field.to_file(str(tmp_path / "m.omf"), representation=representation)
    read = sl.read_ovf(tmp_path / "m.omf")
    assert torch.allclose(read.vectors.double(), 8e5 * spins, rtol=1e-6)
    assert read.cell == pytest.approx(CELL, rel=1e-9)
    assert read.valueunit == "A/m"


def test_ubermag_takes_our_netcdf_and_we_take_its(tmp_path):
    df = pytest.importorskip("discretisedfield")
    xarray = pytest.importorskip("xarray")
    data = sl.write_dataset(tmp_path / "set", layers(4, 6, 8))
    (file,) = sl.export_dataset(data, tmp_path / "set.nc", "netcdf", cell=CELL)
    with xarray.open_dataarray(file) as array:
        array.attrs["nvdim"] = 3  # Ubermag asks for Python's int, which no netCDF file gives back, its own neither
        for k in range(4):
            field = df.Field.from_xarray(array[k].load())
            assert np.allclose(field.array[:, :, 0], data[k].permute(2, 1, 0).numpy(), atol=1e-6)
            assert np.allclose(field.mesh.cell, CELL)
    theirs = field.to_xarray(unit="A/m")  # without a unit its array cannot be written
    theirs.to_netcdf(tmp_path / "ubermag.nc")
    again = sl.import_dataset(tmp_path / "ubermag.nc", tmp_path / "again")
    assert torch.allclose(again[0], data[3], atol=2e-4)
    assert again.info["origin"]["cell"] == pytest.approx(CELL)
    assert again.info["origin"]["unit"] == "A/m"


def test_vtk_reads_what_we_export(tmp_path):
    vtk_xml = pytest.importorskip("vtkmodules.vtkIOXML")
    numpy_support = pytest.importorskip("vtkmodules.util.numpy_support")
    data = sl.write_dataset(tmp_path / "set", layers(2, 6, 8))
    files = sl.export_dataset(data, tmp_path / "images", "vtk", cell=CELL, magnitude=8e5)
    for k, file in enumerate(files):
        reader = vtk_xml.vtkXMLImageDataReader()
        reader.SetFileName(str(file))
        reader.Update()
        image = reader.GetOutput()
        assert image.GetDimensions() == (9, 7, 2)  # points; cells are one fewer
        assert image.GetSpacing() == pytest.approx(CELL)
        vectors = numpy_support.vtk_to_numpy(image.GetCellData().GetVectors()).reshape(6, 8, 3)
        assert np.allclose(vectors, 8e5 * data[k].permute(1, 2, 0).numpy(), rtol=1e-6)


def test_ubermag_and_we_agree_on_the_files_of_others():
    df = pytest.importorskip("discretisedfield")
    folder = Path(df.__file__).parent / "tests" / "test_sample"
    files = [file for file in sorted(folder.glob("*.o[mvh]f")) if b"irregular" not in file.read_bytes()[:4000]]
    if not files:
        pytest.skip("this discretisedfield came without sample files")
    for file in files:
        theirs = df.Field.from_file(str(file))
        if theirs.nvdim != 3:
            with pytest.raises(sl.BadInput, match="components"):
                sl.read_ovf(file)
            continue
        ours = sl.read_ovf(file)
        assert np.allclose(ours.vectors.permute(3, 2, 0, 1).numpy(), theirs.array, rtol=1e-6), file.name
        assert ours.cell == pytest.approx(tuple(theirs.mesh.cell), rel=1e-9)
