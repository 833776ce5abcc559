"""Textures to the files of other programs and back, and data sets of textures whose Hamiltonian nobody knows."""

import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import spinloom as sl
from spinloom.cli import main
from spinloom.errors import BadInput
from spinloom.files import _machine
from spinloom.interchange import DEFAULT_CELL

H = sl.Hamiltonian(D=0.6)
CELL = (2e-9, 3e-9, 1.5e-9)


def textures(count=5, size=(6, 8), seed=0) -> torch.Tensor:
    spins = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=1, keepdim=True)


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(BadInput) as caught:
        call(*arguments, **options)
    line = str(caught.value)
    assert "\n" not in line and ";" in line, line
    return line


@dataclass(frozen=True)
class Done:
    returncode: object
    stdout: str
    stderr: str


def spinloom(*arguments) -> Done:
    """The command line in this process; test_ovf.py and the last test here start a new one."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return Done(ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> sl.Dataset:
    return sl.write_dataset(tmp_path_factory.mktemp("sets") / "set", textures(), H, shard_size=2)


# ---------------------------------------------------------------- out, and back in


@pytest.mark.parametrize("out", ["ovf", "netcdf", "npy", "set.nc", "set.npy"])
def test_what_goes_out_comes_back_the_same(data, tmp_path, out):
    format = {"set.nc": "netcdf", "set.npy": "npy"}.get(out, out)
    if format == "netcdf":
        pytest.importorskip("h5netcdf")
    files = sl.export_dataset(data, tmp_path / out, format)
    assert files and all(file.is_file() for file in files)
    assert len(list(tmp_path.iterdir())) == 1
    again = sl.import_dataset(files, tmp_path / "again", hamiltonian=H, shard_size=2)
    assert again.checksum == data.checksum  # the codes themselves, bit for bit
    assert again.info["statistics"] == data.info["statistics"]
    assert again.info["origin"]["magnitude"] == 1
    assert again.info["origin"]["cell"] == (None if format == "npy" else list(DEFAULT_CELL))


def test_folders_stand_for_their_ovf_files_in_order(data, tmp_path):
    sl.export_dataset(data, tmp_path / "ovf")
    (tmp_path / "ovf" / "table.txt").write_text("# of another program")
    again = sl.import_dataset(tmp_path / "ovf", tmp_path / "again")
    assert torch.equal(again[:], data[:])
    assert [entry["name"] for entry in again.info["origin"]["files"]] == [f"texture-{k:06d}.ovf" for k in range(5)]


@pytest.mark.parametrize("mode", ["text", "bin4", "bin8"])
def test_ovf_files_are_the_textures_themselves(data, tmp_path, mode):
    files = sl.export_dataset(data, tmp_path / "ovf", mode=mode, cell=CELL, first=1, number=3)
    assert [file.name for file in files] == ["texture-000001.ovf", "texture-000002.ovf", "texture-000003.ovf"]
    for k, file in enumerate(files, 1):
        read = sl.read_ovf(file)
        assert torch.equal(read.spins[0], data[k])
        assert (read.cell, read.title) == (CELL, f"texture {k}")


def test_parts_keep_their_numbers(data, tmp_path):
    _, rest = data.split(0.4)
    files = sl.export_dataset(rest, tmp_path / "ovf", first=1)
    assert [file.name for file in files] == ["texture-000003.ovf", "texture-000004.ovf"]
    assert torch.equal(sl.read_ovf(files[0]).spins[0], data[3])


def test_one_numpy_array(data, tmp_path):
    (file,) = sl.export_dataset(data, tmp_path / "out", "npy", magnitude=8e5)
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    assert (array.dtype, array.shape) == (np.float32, (5, 3, 6, 8))
    assert np.allclose(array, 8e5 * data[:].numpy(), rtol=1e-6)


def test_a_vtk_image_holds_the_vectors_x_fastest(data, tmp_path):
    files = sl.export_dataset(data, tmp_path / "vtk", "vtk", cell=CELL)
    for k, file in enumerate(files):
        content = file.read_bytes()
        head, _, tail = content.partition(b'<AppendedData encoding="raw">\n   _')
        root = ElementTree.fromstring(head + b"</VTKFile>")
        image = root.find("ImageData")
        assert image is not None and root.attrib["byte_order"] == "LittleEndian"
        assert image.attrib["WholeExtent"] == "0 8 0 6 0 1"
        assert tuple(map(float, image.attrib["Spacing"].split())) == CELL
        (length,) = np.frombuffer(tail[:8], "<u8")
        vectors = np.frombuffer(tail[8 : 8 + length], "<f4").reshape(6, 8, 3)
        assert np.array_equal(vectors, data[k].permute(1, 2, 0).numpy())
        assert tail[8 + length :].split() == [b"</AppendedData>", b"</VTKFile>"]


def test_netcdf_is_laid_out_as_ubermags(data, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    (file,) = sl.export_dataset(data, tmp_path / "out", "netcdf", cell=CELL, magnitude=8e5, first=2)
    with xarray.open_dataarray(file) as array:
        assert array.dims == ("texture", "x", "y", "z", "vdims")
        assert array.shape == (3, 8, 6, 1, 3)
        assert list(array.texture.values) == [2, 3, 4]
        assert np.allclose(array.x.values, (np.arange(8) + 0.5) * CELL[0])
        assert (array.attrs["units"], array.x.attrs["units"], int(array.attrs["nvdim"])) == ("A/m", "m", 3)
        assert np.allclose(array.attrs["cell"], CELL)
        assert np.allclose(array[1, 4, 5, 0].values, 8e5 * data[3][:, 5, 4].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"format": "gif"}, "format='gif'"),
        ({"mode": "bin5"}, "mode='bin5'"),
        ({"format": "vtk", "mode": "text"}, "no modes"),
        ({"format": "npy", "cell": CELL}, "no place"),
        ({"cell": (1e-9, -1e-9, 1e-9)}, "cell="),
        ({"magnitude": 0}, "magnitude=0"),
        ({"first": 5}, "5 textures"),
        ({"first": 2, "number": 4}, "5 textures"),
        ({"first": -1}, "first=-1"),
        ({"number": 0}, "number=0"),
    ],
)
def test_exports_that_cannot_be(data, tmp_path, options, why):
    assert why in refusal(sl.export_dataset, data, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["ovf", "npy", "vtk"])
def test_nothing_is_overwritten_and_an_export_that_fails_leaves_nothing(data, tmp_path, format, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    assert "nothing is overwritten" in refusal(sl.export_dataset, data, out, format)
    assert (out / "mine").read_text() == "x"
    (tmp_path / "set.npy").write_text("x")
    assert "nothing is overwritten" in refusal(sl.export_dataset, data, tmp_path / "set.npy", "npy")

    copy = sl.open_dataset(shutil.copytree(data.path, tmp_path / "copy"))
    (tmp_path / "copy" / "shard-000001.safetensors").write_bytes(b"damaged")
    before = sorted(tmp_path.rglob("*"))
    assert "damaged" in refusal(sl.export_dataset, copy, tmp_path / "new", format)
    assert sorted(tmp_path.rglob("*")) == before


# ---------------------------------------------------------------- in


def write(path: Path, vectors, **options) -> Path:
    sl.write_ovf(path, vectors, **{"cell": CELL, **options})
    return path


def test_magnitude_cell_and_names_are_kept(tmp_path):
    spins = textures(2)
    files = [write(tmp_path / f"m{k}.omf", spins[k], magnitude=8e5) for k in range(2)]
    made = sl.import_dataset(files, tmp_path / "set")
    assert torch.allclose(made[:], spins, atol=2e-4)
    origin = made.info["origin"]
    assert (origin["kind"], origin["unit"], origin["cell"]) == ("imported", "A/m", list(CELL))
    assert origin["magnitude"] == pytest.approx(8e5, rel=1e-6)
    assert [entry["name"] for entry in origin["files"]] == ["m0.omf", "m1.omf"]
    assert made.hamiltonian is None and "energy_excess" not in made.info["statistics"]
    # and the cell goes out again
    (file, _) = sl.export_dataset(made, tmp_path / "out")
    assert sl.read_ovf(file).cell == CELL


def test_a_magnitude_that_varies_is_told_as_mean_and_spread(tmp_path):
    spins = textures(1)
    strength = torch.linspace(1, 3, 48, dtype=torch.float64).reshape(6, 8)
    other = write(tmp_path / "same.ovf", spins[0], magnitude=2.0)
    made = sl.import_dataset(
        [write(tmp_path / "m.ovf", spins[0].double() * strength, mode="bin8"), other], tmp_path / "set"
    )
    first, second = made.info["origin"]["files"]
    assert first["magnitude"]["mean"] == pytest.approx(2)
    assert first["magnitude"]["std"] == pytest.approx(float(strength.std(correction=0)), rel=1e-5)
    assert (first["magnitude"]["min"], first["magnitude"]["max"]) == pytest.approx((1, 3))
    assert second["magnitude"] == pytest.approx(2)
    both = torch.cat([strength.flatten(), torch.full((48,), 2.0)])
    assert made.info["origin"]["magnitude"]["std"] == pytest.approx(float(both.std(correction=0)), rel=1e-5)
    assert torch.allclose(made[0], spins[0], atol=2e-4)


def test_layers_and_crops(tmp_path):
    film = textures(3)
    file = write(tmp_path / "film.ovf", film)
    assert "holds 3 layers" in refusal(sl.import_dataset, file, tmp_path / "set")
    assert "layer=3" in refusal(sl.import_dataset, file, tmp_path / "set", layer=3)
    assert not (tmp_path / "set").exists()
    made = sl.import_dataset(file, tmp_path / "set", layer=1, crop=(1, 5, 2, 6))
    assert made.size == (4, 4)
    assert torch.allclose(made[0], film[1, :, 2:6, 1:5], atol=2e-4)
    assert (made.info["origin"]["layer"], made.info["origin"]["crop"]) == (1, [1, 5, 2, 6])


def test_samples_with_an_edge_are_refused_with_the_crop_that_works(tmp_path):
    spins = textures(1, (8, 8))[0]
    spins[:, :2] = 0
    spins[:, :, 7] = 0
    file = write(tmp_path / "m.ovf", spins, magnitude=8e5)
    line = refusal(sl.import_dataset, file, tmp_path / "set")
    assert "22 of 64 cells" in line and "0 7 2 8" in line
    assert not (tmp_path / "set").exists()
    made = sl.import_dataset(file, tmp_path / "set", crop=(0, 7, 2, 8))
    assert torch.allclose(made[0], spins[:, 2:, :7], atol=2e-4)
    assert "22 of 64" in refusal(sl.write_dataset, tmp_path / "other", spins)


def test_numpy_arrays_of_any_kind(tmp_path):
    spins = textures(4)
    kinds = {
        "c.npy": spins.numpy(),
        "fortran.npy": np.asfortranarray(spins.numpy()),
        "big.npy": spins.numpy().astype(">f8"),
        "one.npy": spins[0].numpy(),
        "whole.npy": np.round(spins.numpy() * 1000).astype(np.int16),
    }
    for name, array in kinds.items():
        np.save(tmp_path / name, array)
        made = sl.import_dataset(tmp_path / name, tmp_path / f"{name}-set")
        expected = spins[:1] if name == "one.npy" else spins
        assert torch.allclose(made[:], expected, atol=2e-3), name
    for name, save in (("stored.npz", np.savez), ("packed.npz", np.savez_compressed)):
        save(tmp_path / name, spins=spins.numpy())
        assert torch.allclose(sl.import_dataset(tmp_path / name, tmp_path / f"{name}-set")[:], spins, atol=2e-4)


def test_ubermags_own_netcdf(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    film = textures(2)  # (z, 3, y, x)
    array = xarray.DataArray(
        8e5 * film.permute(3, 2, 0, 1).double().numpy(),
        dims=("x", "y", "z", "vdims"),
        coords={axis: (np.arange(n) + 0.5) * CELL[i] for i, (axis, n) in enumerate([("x", 8), ("y", 6), ("z", 2)])}
        | {"vdims": ["x", "y", "z"]},
        name="field",
        attrs={"units": "A/m", "cell": CELL, "pmin": [0.0, 0, 0], "pmax": [1.6e-8, 1.8e-8, 3e-9], "nvdim": 3},
    )
    for axis in "xyz":
        array[axis].attrs["units"] = "m"
    array.to_netcdf(tmp_path / "film.nc", engine="h5netcdf")
    array[:, :, 0].drop_vars("z").to_netcdf(tmp_path / "flat.nc", engine="h5netcdf")
    array.rename(vdims="comp").to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    for name, layer in (("film.nc", 1), ("old.nc", 1), ("flat.nc", None)):
        made = sl.import_dataset(tmp_path / name, tmp_path / f"{name}-set", layer=layer)
        assert torch.allclose(made[0], film[layer or 0], atol=2e-4), name
        assert made.info["origin"]["cell"] == pytest.approx(list(CELL))
        assert made.info["origin"]["magnitude"] == pytest.approx(8e5, rel=1e-6)
    array.isel(y=slice(None, None, -1)).to_netcdf(tmp_path / "down.nc", engine="h5netcdf")
    assert "y does not grow" in refusal(sl.import_dataset, tmp_path / "down.nc", tmp_path / "set", layer=0)
    array.isel(vdims=[0, 1]).to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    assert "no vector field" in refusal(sl.import_dataset, tmp_path / "two.nc", tmp_path / "set")


def test_files_that_do_not_go_together(tmp_path):
    small, large = write(tmp_path / "a.ovf", textures(1)[0]), write(tmp_path / "b.ovf", textures(1, (8, 8))[0])
    assert "size 8 × 8, but a.ovf has 6 × 8" in refusal(sl.import_dataset, [small, large], tmp_path / "set")
    other = write(tmp_path / "c.ovf", textures(1)[0], cell=(1e-9, 1e-9, 1e-9))
    assert "cell 1e-09" in refusal(sl.import_dataset, [small, other], tmp_path / "set")
    made = sl.import_dataset([small, other], tmp_path / "set", cell=CELL)
    assert made.info["origin"]["cell"] == list(CELL)


class Shout:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self):
        return (Path.touch, (Path(SHOUTED),))


SHOUTED = "/tmp/spinloom-was-unpickled"


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def bomb(declared: int) -> bytes:
    """A tiny archive that unpacks to ``declared`` zeros."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("spins.npy", "w") as member:
        member.write(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({declared // 192}, 3, 4, 4), }}"))
        member.write(bytes(declared))
    return memory.getvalue()


def absurd_archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("a.npy", header("{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000, 3, 4, 4), }"))
    return memory.getvalue()


def pickled() -> bytes:
    memory = io.BytesIO()
    np.save(memory, np.array([Shout()], dtype=object), allow_pickle=True)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no OVF, npy"),
        (b"hello", "no OVF, npy"),
        (pickle.dumps([1, 2]), "no OVF, npy"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000, 3, 4, 4), }"), "numpy.save"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3, 4, 4), }"), "numpy.save"),
        (header("(" * 5000), "numpy.save"),
        (header("__import__('os').system('true')"), "numpy.save"),
        (b"\x93NUMPY\x09\x00", "numpy.save"),
        (b"PK\x03\x04 and no more", "numpy.save"),
        (absurd_archive(), "more than it holds"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "netCDF"),
        (b"CDF\x01" + bytes(100), "holds 0 fields"),
        (b"CDF\x01" + b"\xff" * 100, "netCDF"),
    ],
)
def test_hostile_files(tmp_path, content, why):
    (tmp_path / "m.ovf").write_bytes(content)
    assert why in refusal(sl.import_dataset, tmp_path / "m.ovf", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["m.ovf"]


def test_pickles_are_not_opened(tmp_path):
    (tmp_path / "m.npy").write_bytes(pickled())
    refusal(sl.import_dataset, tmp_path / "m.npy", tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("spins.npy", pickled())
    refusal(sl.import_dataset, tmp_path / "m.npz", tmp_path / "set")
    assert not Path(SHOUTED).exists()


def test_archives_that_would_burst(tmp_path, monkeypatch):
    monkeypatch.setattr("spinloom.interchange.LARGEST_PACKED", 10**6)
    (tmp_path / "m.npz").write_bytes(bomb(3 * 10**6))
    assert "would unpack to" in refusal(sl.import_dataset, tmp_path / "m.npz", tmp_path / "set")


def test_hdf5_that_declares_more_than_it_holds(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.nc", "w") as file:
        file.create_dataset("field", (10**6, 10**6, 1, 3), "f4", chunks=(8, 8, 1, 3))
        file.create_dataset("x", (10**9,), "f8", chunks=(8,))
    assert "cannot hold" in refusal(sl.import_dataset, tmp_path / "m.nc", tmp_path / "set")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((4, 4)), "shape (4, 4)"),
        (np.zeros((2, 4, 4, 4)), "shape (2, 4, 4, 4)"),
        (np.zeros((0, 3, 4, 4)), "shape (0, 3, 4, 4)"),
        (np.zeros((1, 3, 4, 4)), "all 16 cells"),
        (np.full((1, 3, 4, 4), np.nan), "NaN"),
        (np.full((2, 3, 4, 4), np.inf), "texture 0: 16 of 16 vectors"),
        (np.full((1, 3, 4, 4), 1e200), "no magnetisation"),
        (np.ones((1, 3, 4, 4), complex), "complex128"),
        (np.full((1, 3, 4, 4), "x"), "<U1"),
    ],
)
def test_arrays_that_are_no_textures(tmp_path, array, why):
    np.save(tmp_path / "m.npy", array)
    assert why in refusal(sl.import_dataset, tmp_path / "m.npy", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["m.npy"]


def test_names_that_are_wrong(data, tmp_path):
    file = write(tmp_path / "m.ovf", textures(1)[0])
    assert "no such file" in refusal(sl.import_dataset, [file, tmp_path / "none.ovf"], tmp_path / "set")
    (tmp_path / "empty").mkdir()
    assert "holds no .ovf" in refusal(sl.import_dataset, tmp_path / "empty", tmp_path / "set")
    assert "none given" in refusal(sl.import_dataset, [], tmp_path / "set")
    assert "nothing is overwritten" in refusal(sl.import_dataset, file, data.path)
    assert "segment 1 is not there" in refusal(sl.import_dataset, file, tmp_path / "set", segment=1)
    np.save(tmp_path / "m.npy", textures(1).numpy())
    assert "is not an OVF file" in refusal(sl.import_dataset, tmp_path / "m.npy", tmp_path / "set", segment=0)


# ---------------------------------------------------------------- textures of unknown Hamiltonian


@pytest.fixture(scope="module")
def unknown(tmp_path_factory) -> Path:
    """Sixty imported textures, smooth so that they can be measured, in a folder made by the command line."""
    folder = tmp_path_factory.mktemp("unknown")
    schedule = sl.Schedule.geometric(1.0, 0.1, steps=4).then_relax(4)
    np.save(folder / "m.npy", sl.anneal(H, size=32, samples=60, seed=3, schedule=schedule).numpy())
    done = spinloom("import", folder / "m.npy", folder / "set", "--shard-size", 40)
    assert done.returncode == 0, done.stderr
    assert "60 textures of 32 × 32" in done.stdout
    assert "Hamiltonian unknown" in done.stdout
    return folder / "set"


def test_everything_but_energies_is_measured(unknown):
    done = spinloom("measure", unknown, "--json")
    assert done.returncode == 0, done.stderr
    assert "Hamiltonian unknown; give --J and --D" in done.stderr
    (row,) = json.loads(done.stdout)
    assert "energy_excess" not in row["measures"]
    assert "need a Hamiltonian" in refusal(sl.measure(sl.open_dataset(unknown)).__getitem__, "energy_excess")
    assert {"mz", "charge", "nodal_points", "wavelength"} <= set(row["measures"])

    done = spinloom("measure", unknown, "--J", 1, "--D", 0.6, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = json.loads(done.stdout)
    exact = H.energy_excess(sl.open_dataset(unknown)[:].double())
    assert row["measures"]["energy_excess"]["mean"] == pytest.approx(float(exact.mean()), abs=1e-9)

    done = spinloom("measure", unknown, "--D", 0.6)
    assert done.returncode == 2 and "give --J and --D" in done.stderr


def test_a_hamiltonian_of_its_own_stays(data):
    assert spinloom("measure", data.path, "--J", 1, "--D", 0.6).returncode == 0
    done = spinloom("measure", data.path, "--J", 1, "--D", 0.5)
    assert done.returncode == 2 and "of its own" in done.stderr


def test_training_sampling_and_coverage_need_no_hamiltonian(unknown, tmp_path):
    textures = sl.open_dataset(unknown)
    shapes = sl.NetworkConfig(size=(32, 32), latent=4, generator=4, discriminator=4, encoder=4, widest=8)
    training = {"steps": 2, "batch": 8}
    with pytest.raises(BadInput, match="symmetries"):
        sl.train(textures, tmp_path / "turned", shapes, sl.TrainingConfig(augment=True, **training), False)
    assert not (tmp_path / "turned").exists()
    run = sl.train(textures, tmp_path / "run", shapes, sl.TrainingConfig(**training), False)
    assert run.hamiltonian is None
    fakes = sl.sample(run, 40, seed=0)
    with pytest.raises(BadInput, match="relax"):
        sl.sample(run, 4, seed=0, relax=3)
    found = sl.coverage(textures[:], fakes)
    assert 0 <= found.coverage <= 1


def test_it_is_verified_and_a_damaged_shard_cannot_be_made_again(unknown, tmp_path):
    copy = shutil.copytree(unknown, tmp_path / "set")
    assert spinloom("verify", copy).returncode == 0
    shard = copy / "shard-000001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    done = spinloom("verify", copy)
    assert done.returncode == 1
    assert "shard-000001.safetensors: damaged" in done.stdout and "--repair" not in done.stdout
    done = spinloom("verify", copy, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"path": str(copy), "damaged": ["shard-000001.safetensors"]}
    done = spinloom("verify", copy, "--repair")
    assert done.returncode == 2
    assert "cannot be made again" in done.stderr and "import the files again" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------- the command line


def test_what_a_killed_export_left_is_taken_away(data, tmp_path):
    left = tmp_path / f".all.npy.{_machine()}-999999999-0439e6b7.partial"
    left.write_bytes(b"half")
    sl.export_dataset(data, tmp_path / "all.npy", "npy")
    assert [file.name for file in tmp_path.iterdir()] == ["all.npy"]


@pytest.mark.parametrize("magnitude", [1e39, 1e-50, float("nan"), 10**400])
@pytest.mark.parametrize("format", ["npy", "vtk", "ovf"])
def test_magnitudes_that_float32_cannot_hold_are_refused(data, tmp_path, format, magnitude):
    with pytest.raises(BadInput, match="magnitude="):
        sl.export_dataset(data, tmp_path / "out", format, magnitude=magnitude)
    assert not any(tmp_path.iterdir())


def test_export_and_import_as_commands(data, tmp_path):
    command = [sys.executable, "-m", "spinloom", "export", data.path, tmp_path / "npy", "--format", "npy"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{tmp_path / 'npy'}: textures.npy\n"
    done = spinloom("export", data.path, tmp_path / "ovf", "-n", 3, "--first", 1, "--mode", "bin8", "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert [Path(file).name for file in files] == [f"texture-{k:06d}.ovf" for k in (1, 2, 3)]
    done = spinloom("import", *files, tmp_path / "set", "--J", 1, "--D", 0.6, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hamiltonian"] == H.as_dict()
    assert torch.equal(sl.open_dataset(tmp_path / "set")[:], data[1:4])
    done = spinloom("export", tmp_path / "set", tmp_path / "film", "--magnitude", 8e5)
    assert done.returncode == 0 and "3 files" in done.stdout
    done = spinloom("import", tmp_path / "film", tmp_path / "again")
    assert done.returncode == 0 and "magnitude 800000" in done.stdout
    done = spinloom("import", tmp_path / "film", tmp_path / "part", "--crop", 0, 7, 0, 6)
    assert done.returncode == 0 and "odd sides" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["export", "SET", "OUT", "--format", "gif"], "gif"),
        (["export", "OUT", "OUT"], "no such folder"),
        (["import", "OUT"], "name files and, last"),
        (["import", "FILE", "FILE"], "is a file"),
        (["import", "FILE", "OUT", "--layer", "7"], "--layer 7"),
        (["import", "FILE", "OUT", "--crop", "0", "99", "0", "4"], "--crop 0 99 0 4"),
        (["import", "FILE", "OUT", "--J", "1"], "--J"),
        (["import", "FILE", "OUT", "--J", "-1", "--D", "0"], "--J -1"),
    ],
)
def test_bad_commands_are_one_line_and_leave_nothing(data, tmp_path, arguments, why):
    file = write(tmp_path / "m.ovf", textures(1)[0])
    names = {"SET": data.path, "OUT": tmp_path / "out", "FILE": file}
    done = spinloom(*(names.get(word, word) for word in arguments))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and why in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.ovf"]


def test_the_page_of_the_documentation_runs_as_it_stands(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "exchange.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "exchange.md", "exec"), names)
    for option in re.findall(r"spinloom (?:import|export)[^\n]*? (--[a-z]+)", page):
        assert option in spinloom("import", "--help").stdout + spinloom("export", "--help").stdout
