"""Domains, walls and their numbers on maps and decoders that are known exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from spinloom.domains import (
    Survey,
    compare_surveys,
    find_crossing,
    find_domains,
    map_numbers,
    spread_of_axes,
    survey,
    survey_design,
)
from spinloom.draw import ENERGY_COLOURS, PAGE
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.latent import LatentMap, Plane, latent_map
from spinloom.map_charts import NODAL_COLOURS, MapPanel, map_caption, map_figure
from spinloom.topology import charge, nodal_points
from test_charts import test_letters_are_legible_and_do_not_collide as check_letters

SITES = 100


def make_map(energy: np.ndarray, nodal: np.ndarray | None = None, span: tuple[float, float] = (-2.0, 2.0)) -> LatentMap:
    """A map with the given energies of whole textures, in J."""
    counts = torch.zeros(energy.shape, dtype=torch.int32) if nodal is None else torch.from_numpy(nodal.astype(np.int32))
    values = torch.from_numpy(np.asarray(energy, dtype=np.float64)) / SITES
    return LatentMap(Plane.along(4), span, values, counts, torch.zeros_like(counts), None, SITES, 1.0)


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    ticks = np.linspace(-2, 2, side)
    x, y = np.meshgrid(ticks, ticks)
    return x, y


def test_two_wells_are_two_domains_and_their_wall_is_the_ridge():
    x, y = grid(81)
    energy = 20 * (x**2 - 1) ** 2 + 3 * (x > 0) + y**2  # wells at x = ±1, a ridge of 20 at x = 0
    found = find_domains(make_map(energy))
    assert len(found.lowest) == 2
    assert (found.labels[x < -0.06] == 0).all()  # the deeper is number 0
    assert (found.labels[x > 0.06] == 1).all()
    row, column = found.walls[0, 1]
    assert abs(x[row, column]) < 0.06
    assert abs(y[row, column]) < 0.06  # the pass is where the ridge is lowest


def test_what_is_not_of_a_map_is_refused():
    with pytest.raises(BadInput, match="depth=-1"):
        find_domains(make_map(grid(21)[0]), -1)
    with pytest.raises(BadInput, match="depth=nan"):
        find_domains(make_map(grid(21)[0]), math.nan)
    with pytest.raises(BadInput, match=r"domains of 21 × 21 pixels: the map has 31 × 31"):
        map_numbers(make_map(grid(31)[0]), find_domains(make_map(grid(21)[0])))


def test_basins_are_one_unless_both_are_deep():
    x, y = grid(101)
    # depths below the passes at −1 and +0.9: 3 J on the left, 0.6 J in the middle, 2 J on the right
    energy = np.interp(x, [-2, -1.5, -1, -0.05, 0.9, 1.5, 2], [9, 0, 3, 2.4, 3.1, 1.1, 9]) + 0.001 * y**2
    assert len(find_domains(make_map(energy), 0.1).lowest) == 3
    assert len(find_domains(make_map(energy), 1.0).lowest) == 2
    assert len(find_domains(make_map(energy), 2.5).lowest) == 1
    assert len(find_domains(make_map(energy + 7), 1.0).lowest) == 2


def test_domains_turn_with_the_map():
    draw = np.random.default_rng(0)
    rough = draw.standard_normal((40, 40))
    smooth = np.fft.irfft2(np.fft.rfft2(rough) * np.exp(-(np.fft.fftfreq(40)[:, None] ** 2 * 900)), (40, 40)) * 40
    found, turned = find_domains(make_map(smooth)), find_domains(make_map(smooth.T.copy()))
    assert len(found.lowest) > 3
    assert np.array_equal(found.labels, turned.labels.T)


@pytest.mark.parametrize("degrees", [0, 17, 45, 70, 90])
def test_the_width_and_share_of_a_straight_strip(degrees):
    x, y = grid(201)
    angle = math.radians(degrees)
    across = x * math.cos(angle) + y * math.sin(angle)
    nodal = np.abs(across) < 0.15
    numbers = map_numbers(make_map(np.zeros((201, 201)), nodal))
    assert numbers["wall_width"] == pytest.approx(0.3, rel=0.16)  # the frame, the lattice's four directions
    assert numbers["flat_share"] == pytest.approx(1 - nodal.mean())


def test_the_width_at_both_ends():
    energy = np.zeros((101, 101))
    assert map_numbers(make_map(energy))["wall_width"] is None
    assert map_numbers(make_map(energy, np.ones((101, 101), bool)))["wall_width"] == pytest.approx(2, rel=0.1)
    thin = np.abs(grid(101)[0]) < 0.05
    assert map_numbers(make_map(energy, thin))["wall_width"] == pytest.approx(0.12, rel=0.16)
    wide = make_map(energy, thin, (-8.0, 8.0))
    assert map_numbers(wide)["wall_width"] == pytest.approx(0.48, rel=0.16)  # in latent units, whatever the pixels


def test_sharpness_tells_walls_from_a_blur():
    x, _ = grid(128)
    walls = 10 * np.exp(-((x - 0.5) ** 2) / 0.01) + 0.01 * x
    numbers = map_numbers(make_map(walls))
    assert numbers["sharpness"] > 0.9
    assert numbers["sharpness"] > numbers["blur_sharpness"] + 10 * numbers["blur_std"]
    draw = np.random.default_rng(3)
    frequency = np.fft.fftfreq(256)[:, None] ** 2 + np.fft.rfftfreq(256)[None] ** 2
    field = np.fft.irfft2(np.fft.rfft2(draw.standard_normal((256, 256))) * np.exp(-2 * (6 * np.pi) ** 2 * frequency))
    blur = map_numbers(make_map(field[:128, :128] * 100))
    assert abs(blur["sharpness"] - blur["blur_sharpness"]) < 4 * blur["blur_std"]
    # |∇ε| of a Gaussian field is Rayleigh distributed: its upper tenth holds 0.2031 of its mean
    assert blur["blur_sharpness"] == pytest.approx(0.2031, abs=0.006)
    assert blur["length"] == pytest.approx(6 * 4 / 127, rel=0.15)


def skyrmion(side: int, row: int, column: int, radius: float) -> torch.Tensor:
    r, c = torch.meshgrid(torch.arange(side) - row, torch.arange(side) - column, indexing="ij")
    distance, azimuth = torch.hypot(r.double(), c.double()), torch.atan2(r.double(), c.double())
    polar = math.pi * (1 - distance / radius).clamp(min=0)
    # in the plane it points inwards, as D > 0 wants
    return torch.stack((-polar.sin() * azimuth.cos(), -polar.sin() * azimuth.sin(), polar.cos())).float()


UP = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 24, 24).clone()
WITH = skyrmion(24, 15, 4, 6.0)
BROKEN = UP.clone()
BROKEN[:, 15, 4] = torch.tensor([0.0, 0.0, -1.0])


def two_worlds(z: torch.Tensor) -> torch.Tensor:
    """Uniform on one side of z₀ = 0, with a skyrmion on the other, a flipped spin on the wall."""
    textures = torch.stack([UP, BROKEN, WITH])
    which = torch.bucketize(z[:, 0].contiguous(), torch.tensor([-0.1, 0.1], dtype=z.dtype))
    return textures[which]


def test_k_l_m_lie_on_both_sides_of_a_wall_and_what_changes_is_found():
    H = Hamiltonian(D=0.6, B=0.2)
    assert charge(WITH[None]).round().tolist() == [-1]
    assert nodal_points(torch.stack([UP, BROKEN, WITH])).tolist() == [0, 1, 0]
    energy = H.energy(torch.stack([UP, BROKEN, WITH]).double())
    assert energy[1] > max(energy[0], energy[2])
    found = find_crossing(two_worlds, H, latent_map(two_worlds, H, Plane.along(3), resolution=41))
    assert found is not None
    assert found.clean
    assert found.nodal_points == (0, 1, 0)
    assert sorted(found.charge) in ([-1, 0, 0], [-1, -1, 0])
    assert abs(found.charge_difference) == 1
    assert np.hypot(found.centre[0] - 15, found.centre[1] - 4) < 1
    assert found.difference > 3
    k, wall, m = found.pixels
    assert min(k[1], m[1]) < wall[1] < max(k[1], m[1])
    assert abs(k[1] - m[1]) < 12  # they stand next to the wall


def test_a_map_without_any_wall_has_no_crossing():
    H = Hamiltonian()
    map_ = latent_map(lambda z: UP.expand(len(z), -1, -1, -1), H, Plane.along(3), resolution=20)
    assert find_crossing(two_worlds, H, map_) is None
    numbers = map_numbers(map_)
    assert numbers["domains"] == 1
    assert numbers["barrier"] is None
    assert numbers["length"] is None


def test_a_model_and_its_multiple_have_one_map():
    """Energies in the unit of J, depths and barriers in J."""
    x, y = grid(41)
    energy = 20 * (x**2 - 1) ** 2 + 3 * (x > 0) + y**2
    one = make_map(energy)
    other = replace(one, energy_excess=3 * one.energy_excess, J=3.0)
    assert (find_domains(other).labels == find_domains(one).labels).all()
    assert map_numbers(one)["barrier"] == pytest.approx(20 * 0.99**2, abs=0.01)  # the pass is the first pixel of x > 0
    assert map_numbers(other)["barrier"] == pytest.approx(map_numbers(one)["barrier"])
    told = find_domains(one).as_dict(one)
    (wall,) = told["walls"]
    assert (wall["between"], wall["barrier"]) == ([0, 1], pytest.approx(map_numbers(one)["barrier"]))
    assert energy[tuple(wall["pass"])] - energy[tuple(told["lowest"][1])] == pytest.approx(wall["barrier"])


def test_where_a_map_has_no_wall_of_1_j_the_crossing_says_how_low_its_is():
    x, y = grid(41)
    energy = 0.7 * (x**2 - 1) ** 2 + 0.1 * (x > 0) + 0.1 * y**2  # a ridge of 0.7 J between two wells
    nodal = np.abs(x) < 0.5
    map_ = make_map(energy, nodal)
    assert map_numbers(map_)["domains"] == 1
    found = find_crossing(lambda z: UP.expand(len(z), -1, -1, -1), Hamiltonian(), map_)
    assert found is not None
    assert (found.depth, found.shallow) == (0.5, True)
    higher = find_crossing(lambda z: UP.expand(len(z), -1, -1, -1), Hamiltonian(), make_map(10 * energy, nodal))
    assert higher is not None
    assert (higher.depth, higher.shallow) == (1.0, False)


# the picture


def panels(*names: str, logits: bool = True) -> list[MapPanel]:
    H = Hamiltonian(D=0.6, B=0.2)
    score = (lambda spins: spins[:, 2].mean((1, 2))) if logits else None
    found = latent_map(two_worlds, H, Plane.along(3), resolution=21, score=score)
    domains = find_domains(found)
    return [MapPanel(name, found, find_crossing(two_worlds, H, found, domains), domains) for name in names]


@pytest.mark.parametrize("nodal", [False, True])
@pytest.mark.parametrize("names", [("hybrid",), ("GAN", "hybrid"), ("VAE", "GAN", "hybrid"), ("GAN",) * 4])
def test_letters_on_maps_are_legible_and_pictures_fit_on_a_page(names, nodal):
    made = panels(*names)
    made = [replace(one, map_=replace(one.map_, logits=None)) if one.name == "VAE" else one for one in made]
    figure = map_figure(made, nodal=nodal)
    check_letters(lambda: figure)
    width, height = figure.get_size_inches()
    assert width <= PAGE + 1e-9
    assert height < 9.25


def test_maps_show_nodal_points_on_one_scale_and_walls_between_pixels_of_two_domains():
    one, other = panels("GAN", "hybrid")
    other = replace(other, map_=replace(other.map_, nodal_points=3 * other.map_.nodal_points))
    figure = map_figure([one, other], nodal=True)
    images = [image for ax in figure.axes for image in ax.get_images()]
    counts = [image for image in images if image.get_cmap().name == NODAL_COLOURS]
    for image, panel in zip(counts, (one, other), strict=True):
        assert (image.get_array() == panel.map_.nodal_points.numpy()).all()
        assert image.get_clim() == (0, 3)
    walls = [lines for ax in figure.axes for lines in ax.findobj(LineCollection) if lines.get_gid() == "domains"]
    assert len(walls) == 4  # a light and a dark line in either map of ε
    ticks = one.map_.ticks.numpy()
    assert one.domains is not None
    edges = {tuple(np.round(edge.mean(0), 6)) for edge in map(np.asarray, walls[0].get_segments())}
    labels = one.domains.labels
    wanted = {
        (round((ticks[column] + ticks[column + 1]) / 2, 6), round(ticks[row], 6))
        for row, column in np.argwhere(labels[:, 1:] != labels[:, :-1])
    }
    assert wanted
    assert wanted <= edges
    bare = map_figure([replace(one, domains=None)])  # the paper's figure
    assert not [lines for lines in bare.findobj(LineCollection) if lines.get_gid() == "domains"]


def test_energies_of_several_models_have_a_scale_each():
    one, other = panels("GAN", "hybrid")
    other = replace(other, map_=replace(other.map_, energy_excess=10 * other.map_.energy_excess))

    def spreads(*shown: MapPanel) -> list[float]:
        images = [image for ax in map_figure(shown).axes for image in ax.get_images()]
        limits = [image.get_clim() for image in images if image.get_cmap().name == ENERGY_COLOURS]
        return [high - low for low, high in limits]

    common = spreads(one, other)
    assert common[0] == pytest.approx(common[1])
    own = spreads(one, replace(other, model="another"))
    assert own == pytest.approx([common[1] / 10, common[1]])


@pytest.mark.parametrize("names", [("hybrid",), ("GAN", "hybrid")])
def test_a_wall_of_less_than_1_j_is_dashed_and_said(names):
    deep = panels(*names)
    first = deep[0]
    assert first.crossing is not None
    whole = find_domains(first.map_, 1e6)
    assert len(whole.lowest) == 1
    low = replace(first, crossing=replace(first.crossing, depth=0.5), domains=whole)
    figure = map_figure([low, *deep[1:]], nodal=True)
    check_letters(lambda: figure)
    said = [text.get_text() for text in figure.findobj(Text) if "†" in text.get_text()]
    assert said == ["† a wall of 0.5 J, not 1 J"]
    assert [ax for ax in figure.axes if ax.findobj(lambda one: one.get_gid() == "shallow domains")] == figure.axes[:1]
    assert f"† {low.name} has no wall of 1 J" in map_caption([low, *deep[1:]])
    plain = map_figure(deep, nodal=True)
    assert not plain.findobj(lambda one: one.get_gid() == "shallow domains")
    assert "†" not in map_caption(deep)


def test_planes_are_pairs_times_draws():
    for planes, shape in ((10, (5, 2)), (12, (4, 3)), (9, (3, 3)), (7, (7, 1)), (1, (1, 1))):
        pairs, draws = survey_design(64, planes, 0)
        assert (len(pairs), draws) == shape
        axes = [axis for pair in pairs for axis in pair]
        assert len(set(axes)) == len(axes)
    assert survey_design(64, 10, 0) == survey_design(64, 10, 0) != survey_design(64, 10, 1)
    assert all(a != b for a, b in survey_design(3, 20, 0)[0])
    with pytest.raises(BadInput, match="planes=0"):
        survey_design(64, 0, 0)


def test_a_survey_finds_the_axis_that_matters(tmp_path):
    H = Hamiltonian(D=0.6, B=0.2)
    found = survey(two_worlds, H, 4, planes=4, resolution=9, keep=tmp_path / "map")
    by_pair = found.table("flat_share")
    for pair, values in zip(found.pairs, by_pair, strict=True):
        # with axis 0 in the plane a wall is crossed (its middle column); without it all of a plane is one texture
        assert np.allclose(values, 8 / 9) if 0 in pair else set(np.round(values, 6)) <= {0.0, 1.0}
    assert len(list(tmp_path.glob("map-*-*.safetensors"))) == 4
    again = survey(lambda z: 1 / 0, H, 4, planes=4, resolution=9, keep=tmp_path / "map")  # type: ignore[arg-type]
    assert again == found
    assert found.summary()["flat_share"]["planes"] == 4


def test_axes_against_draws():
    draw = np.random.default_rng(1)
    noise = 0.1 * draw.standard_normal((5, 4))
    by_draws = spread_of_axes(noise + np.array([0.0, 1, 2, 3]))
    assert by_draws["axes_p"] > 0.05
    assert by_draws["draws_p"] < 0.01
    assert by_draws["draws_std"] == pytest.approx(math.sqrt(5 / 3), rel=0.2)
    by_axes = spread_of_axes(noise + np.arange(5)[:, None])
    assert by_axes["axes_p"] < 0.01
    assert by_axes["draws_p"] > 0.05
    assert by_axes["rest_std"] == pytest.approx(0.1, rel=0.5)
    assert spread_of_axes(np.ones((3, 1)))["axes_p"] is None


def test_surveys_are_compared_plane_by_plane():
    def made(values):
        return Survey(((0, 1), (2, 3)), 2, tuple({"flat_share": v} for v in values))

    found = compare_surveys(made([1.0, 2.0, 3.0, None]), made([0.5, 1.0, 1.5, 9.0]), "flat_share")
    assert found == {"mean": 1.0, "error": pytest.approx(0.5 / math.sqrt(3)), "planes": 3}
