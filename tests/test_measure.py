"""Tables of quantities, structure factors and wavelengths on textures whose answers are known."""

import math

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import Table, measure, radial_average, structure_factor, wave_vectors, wavelength
from spinloom.spiral import spiral
from spinloom.topology import bond_share, charge, nodal_points

H = Hamiltonian(D=0.6)
NAMES = (
    "energy_excess",
    "mz",
    "nodal_points",
    "nodal_points_75",
    "nodal_points_60",
    "bond_share_90",
    "bond_share_75",
    "bond_share_60",
    "charge",
    "wavelength",
)


def rough_spirals(count, size=(12, 16), noise=0.4, seed=0):
    """Spirals with noise on top: nodal points, charges and energies that differ."""
    generator = torch.Generator().manual_seed(seed)
    base = spiral(H, size, 1, 1).float()
    spins = base + noise * torch.randn(count, 3, *size, generator=generator)
    return spins / spins.norm(dim=1, keepdim=True)


def test_columns_are_the_quantities():
    spins = rough_spirals(7)
    table = measure(spins, H)
    assert table.names == NAMES and len(table) == 7
    torch.testing.assert_close(table["energy_excess"], H.energy_excess(spins.double()))
    torch.testing.assert_close(table["mz"], spins[:, 2].double().mean((1, 2)))
    torch.testing.assert_close(table["charge"], charge(spins))
    torch.testing.assert_close(table["wavelength"], wavelength(spins))
    for angle in (90, 75, 60):
        name = "nodal_points" if angle == 90 else f"nodal_points_{angle}"
        assert torch.equal(table[name], nodal_points(spins, angle))
        torch.testing.assert_close(table[f"bond_share_{angle}"], bond_share(spins, angle))
    assert table["nodal_points_60"].sum() > 0


def test_without_a_hamiltonian_there_is_no_energy():
    assert measure(rough_spirals(2)).names == NAMES[1:]


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_batches_do_not_show(batch):
    spins = rough_spirals(8)
    whole, parts = measure(spins, H, batch=8), measure(spins, H, batch=batch)
    for name in NAMES:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-12, atol=1e-12)


def test_leading_axes_are_flattened_and_one_texture_is_a_table():
    spins = rough_spirals(6)
    assert torch.equal(measure(spins.reshape(2, 3, 3, 12, 16))["mz"], measure(spins)["mz"])
    assert len(measure(spins[0])) == 1
    torch.testing.assert_close(measure(spins.numpy(), H)["charge"], measure(spins, H)["charge"])


def test_a_data_set_is_read_slice_by_slice():
    class Folder:
        asked = 0

        def __len__(self):
            return 9

        def __getitem__(self, part):
            assert isinstance(part, slice)
            found = rough_spirals(9)[part]
            Folder.asked = max(Folder.asked, len(found))
            return found

    assert torch.equal(measure(Folder(), H, batch=4)["charge"], measure(rough_spirals(9), H)["charge"])
    assert Folder.asked == 4


def test_summaries():
    table = Table({"mz": torch.tensor([1.0, 2.0, 6.0]), "nodal_points": torch.tensor([0, 1, 2])})
    assert table.summary()["mz"] == {"mean": 3.0, "std": pytest.approx(math.sqrt(7))}
    assert table.summary()["nodal_points"] == {"mean": 1.0, "std": 1.0}
    assert Table({"mz": torch.tensor([2.0])}).summary() == {"mz": {"mean": 2.0, "std": 0.0}}


def test_tables_come_back_from_disk_as_they_were(tmp_path):
    table = measure(rough_spirals(5), H)
    table.save(tmp_path / "table.safetensors")
    again = Table.load(tmp_path / "table.safetensors")
    assert again.names == table.names
    for name in NAMES:
        assert again[name].dtype == table[name].dtype and torch.equal(again[name], table[name])


def test_files_that_are_no_tables_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(BadInput, match="cannot be read"):
        Table.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no table")
    with pytest.raises(BadInput, match="not a table"):
        Table.load(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights")
    with pytest.raises(BadInput, match="not a table"):
        Table.load(tmp_path / "weights")
    with pytest.raises(BadInput, match="cannot be written"):
        measure(rough_spirals(1)).save(tmp_path / "no" / "folder")


def test_unknown_and_unequal_columns_are_refused():
    with pytest.raises(BadInput, match="column='energy'"):
        measure(rough_spirals(1))["energy"]
    with pytest.raises(BadInput, match="columns="):
        Table({"a": torch.zeros(2), "b": torch.zeros(3)})


def test_what_cannot_be_measured_is_refused():
    spins = rough_spirals(4)
    spins[2, 0, 3, 3] = math.nan
    with pytest.raises(BadInput, match="spins=1 textures"):
        measure(spins, batch=4)
    with pytest.raises(BadInput, match="spins=0"):
        measure(torch.zeros(0, 3, 4, 4))
    with pytest.raises(BadInput, match="batch=0"):
        measure(spins, batch=0)
    with pytest.raises(BadInput, match="shape"):
        measure(np.zeros((4, 4)))


def test_the_structure_factor_sums_to_the_sites():
    factor = structure_factor(rough_spirals(3))
    assert factor.shape == (3, 12, 16)
    torch.testing.assert_close(factor.sum((-2, -1)), torch.full((3,), 192.0), rtol=1e-5, atol=0)


def test_the_structure_factor_by_its_definition():
    spins = rough_spirals(1, size=(4, 6))[0].double()
    q_x, q_y = wave_vectors(4, 6)
    row, column = torch.meshgrid(torch.arange(4.0).double(), torch.arange(6.0).double(), indexing="ij")
    phase = torch.exp(-1j * (q_x[..., None, None] * column + q_y[..., None, None] * row))
    expected = torch.einsum("mnrc,arc->amn", phase, spins.to(phase.dtype)).abs().square().sum(0) / 24
    torch.testing.assert_close(structure_factor(spins), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (0, 3), (-1, 4)])
def test_a_spiral_is_two_bragg_peaks(n, m):
    spins = spiral(H, (24, 32), n, m)
    factor = structure_factor(spins)
    peaks = torch.zeros(24, 32, dtype=torch.float64)
    peaks[m % 24, n % 32] = peaks[-m % 24, -n % 32] = 24 * 32 / 2
    torch.testing.assert_close(factor, peaks, rtol=0, atol=1e-9)
    expected = 1 / math.hypot(n / 32, m / 24)
    assert wavelength(spins).item() == pytest.approx(expected, rel=1e-12)


def test_a_uniform_texture_has_the_longest_wavelength():
    spins = torch.zeros(2, 3, 12, 20)
    spins[:, 2] = 1
    spins[1, 0], spins[1, 2] = math.sqrt(0.3), math.sqrt(0.7)
    assert wavelength(spins).tolist() == [20, 20]


def test_radial_averages():
    q_x, q_y = wave_vectors(24, 32)
    q = torch.hypot(q_x, q_y)
    centres, of_q = radial_average(q)
    assert centres.shape == of_q.shape == (16,)
    width = math.pi / 16
    assert (of_q - centres).abs().max() <= width / 2 + 1e-9
    _, ones = radial_average(torch.ones(2, 5, 24, 32).double(), bins=8)
    torch.testing.assert_close(ones, torch.ones(2, 5, 8).double())
    # q = 0 belongs to no ring
    peak = torch.zeros(24, 32)
    peak[0, 0] = 1
    assert radial_average(peak)[1].abs().max() == 0


def test_rings_hold_every_entry_once():
    """The ring averages times the entries on each ring add up to everything in 0 < |q| ≤ π."""
    factor = structure_factor(rough_spirals(2, size=(16, 16)).double())
    centres, average = radial_average(factor)
    q = torch.hypot(*wave_vectors(16, 16))
    width = math.pi / len(centres)
    entries = torch.stack([((q > c - width / 2 + 1e-9) & (q <= c + width / 2 + 1e-9)).sum() for c in centres])
    inside = (q > 0) & (q <= math.pi + 1e-9)
    torch.testing.assert_close((average * entries).sum(-1), factor[:, inside].sum(-1))
