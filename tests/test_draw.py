"""Colours and pictures: what is drawn is where, and as large, as the spins say."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spinloom import draw
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.topology import nodal_centres


def uniform(direction, size=(8, 8)):
    spins = torch.tensor(direction, dtype=torch.float64)[:, None, None]
    return spins.expand(3, *size).clone()


def random_spins(*shape, seed=0):
    spins = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=-3, keepdim=True)


def axes(width=3.0, height=3.0):
    return Figure(figsize=(width, height), dpi=100).subplots()


def by_gid(ax, gid):
    found = [artist for artist in ax.get_children() if artist.get_gid() == gid]
    assert len(found) == 1, (gid, len(found))
    return found[0]


class TestSpinColours:
    @pytest.mark.parametrize(
        ("direction", "colour"),
        [
            ((1, 0, 0), (1, 0, 0)),
            ((-1, 0, 0), (0, 1, 1)),
            ((0, 1, 0), (0.5, 1, 0)),
            ((0, -1, 0), (0.5, 0, 1)),
            ((0, 0, 1), (1, 1, 1)),
            ((0, 0, -1), (0, 0, 0)),
            ((0, 0, 0), (0.5, 0.5, 0.5)),  # no spin at all
        ],
    )
    def test_axes(self, direction, colour):
        assert draw.spin_colours(uniform(direction))[0, 0] == pytest.approx(colour, abs=1e-12)

    def test_is_hsl(self):
        spins = random_spins(2, 3, 5, 7)
        colours = draw.spin_colours(spins)
        assert colours.shape == (2, 5, 7, 3)
        for b, r, c in np.ndindex(2, 5, 7):
            x, y, z = spins[b, :, r, c].tolist()
            hue = np.arctan2(y, x) / (2 * np.pi) % 1
            assert colours[b, r, c] == pytest.approx(colorsys.hls_to_rgb(hue, (1 + z) / 2, 1), abs=1e-12)

    def test_a_third_of_a_turn_permutes_the_channels(self):
        spins = random_spins(3, 6, 6)
        angle = 2 * np.pi / 3
        turned = spins.clone()
        turned[0] = np.cos(angle) * spins[0] - np.sin(angle) * spins[1]
        turned[1] = np.sin(angle) * spins[0] + np.cos(angle) * spins[1]
        red, green, blue = np.moveaxis(draw.spin_colours(spins), -1, 0)
        assert np.allclose(draw.spin_colours(turned), np.stack((blue, red, green), -1), atol=1e-12)

    def test_reversed_spins_have_the_negative_colours(self):
        spins = random_spins(3, 6, 6)
        assert np.allclose(draw.spin_colours(-spins), 1 - draw.spin_colours(spins), atol=1e-12)

    def test_takes_numpy_and_integers_only_in_shape(self):
        array = random_spins(3, 4, 6).numpy().astype(np.float32)
        assert np.array_equal(draw.spin_colours(array), draw.spin_colours(torch.from_numpy(array)))
        with pytest.raises(BadInput, match="components"):
            draw.spin_colours(np.zeros((4, 6, 3)))


class TestTexture:
    def test_row_zero_is_at_the_bottom(self):
        ax = axes()
        spins = random_spins(3, 4, 6)
        image = draw.draw_texture(ax, spins)
        assert np.array_equal(image.get_array(), draw.spin_colours(spins))
        # pixel (0, 0) is drawn left of column 1 and below row 1
        assert image.get_extent() == [-0.5, 5.5, -0.5, 3.5]
        assert ax.get_ylim()[0] < ax.get_ylim()[1] and ax.get_xlim()[0] < ax.get_xlim()[1]
        assert ax.get_aspect() == 1
        assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0

    def test_circle_is_drawn_around_the_defect(self):
        spins = uniform((0, 0, 1), (16, 24))
        spins[2, 5, 17] = -1
        (centres,) = nodal_centres(spins)
        assert centres.tolist() == [[5, 17]]
        figure = Figure(figsize=(3, 2), dpi=200)
        ax = figure.add_axes((0, 0, 1, 1))
        draw.draw_texture(ax, spins, centres, radius=2.5)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)
        red = (np.abs(pixels - np.round(255 * np.array(to_rgb(draw.RED)))) < 40).all(-1)
        rows_, columns = np.nonzero(red)
        x, y = ax.transData.inverted().transform((columns.mean() + 0.5, pixels.shape[0] - rows_.mean() - 0.5))
        assert (x, y) == pytest.approx((17, 5), abs=0.1)
        across = ax.transData.inverted().transform([(columns.min(), 0), (columns.max() + 1, 0)])
        assert np.diff(across[:, 0]) == pytest.approx(5, rel=0.1)

    @pytest.mark.parametrize(
        ("centre", "expected"),
        [
            ((8, 8), {(8, 8)}),
            ((0, 7), {(0, 7), (16, 7)}),
            ((7, 23), {(7, 23), (7, -1)}),
            ((15.5, 0), {(-0.5, 0), (-0.5, 24), (15.5, 0), (15.5, 24)}),
        ],
    )
    def test_circle_at_the_boundary_is_whole(self, centre, expected):
        ax = axes()
        draw.draw_texture(ax, uniform((0, 0, 1), (16, 24)), torch.tensor([centre]), radius=2)
        offsets = by_gid(ax, "nodal points").get_offsets()
        assert {(y, x) for x, y in np.asarray(offsets).tolist()} == expected

    def test_no_circles_no_collection(self):
        ax = axes()
        draw.draw_texture(ax, uniform((1, 0, 0)), torch.empty(0, 2))
        assert len(ax.collections) == 0

    def test_refuses_a_batch(self):
        with pytest.raises(BadInput, match="index the batch"):
            draw.draw_texture(axes(), random_spins(2, 3, 4, 4))

    def test_wheel_shows_the_sphere(self):
        image = draw.colour_wheel(axes())
        pixels = np.asarray(image.get_array())
        n = len(pixels)
        assert image.origin == "lower" and image.get_extent() == [-1, 1, -1, 1]

        def at(x, y):
            return pixels[int((y + 1) / 2 * n), int((x + 1) / 2 * n)]

        assert at(0, 0) == pytest.approx((1, 1, 1, 1), abs=0.02)
        assert at(0.5, 0) == pytest.approx((1, 0, 0, 1), abs=0.02)
        assert at(-0.5, 0) == pytest.approx((0, 1, 1, 1), abs=0.02)
        assert at(0, 0.5) == pytest.approx((0.5, 1, 0, 1), abs=0.02)
        assert at(0, -0.5) == pytest.approx((0.5, 0, 1, 1), abs=0.02)
        assert at(0.6, 0.79) == pytest.approx((0, 0, 0, 1), abs=0.05)
        assert at(0.8, 0.8)[3] == 0


class TestPanel:
    def test_maps_share_a_scale_and_titles_tell_energy_and_nodal_points(self):
        H = Hamiltonian(D=0.6)
        textures = {"data": random_spins(2, 3, 8, 12), "VAE": random_spins(3, 3, 8, 12, seed=1)}
        figure = draw.texture_panel(textures, H)
        titles = [ax.get_title("left") for ax in figure.axes if ax.get_title("left")]
        expected = torch.cat([H.energy_excess(spins) for spins in textures.values()])
        found = [float(title.removeprefix("ε = ").removesuffix(" J").replace("−", "-")) for title in titles]
        assert found == pytest.approx(expected.tolist(), abs=6e-5)
        circles = [int(ax.get_title("right").split()[0]) for ax in figure.axes if ax.get_title("right")]
        assert circles == [len(c) for spins in textures.values() for c in nodal_centres(spins)]
        maps = [ax.images[0] for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 2]
        scales = {image.get_clim() for image in maps if image.get_array().shape == (8, 12)}
        assert len(scales) == 1
        energies = torch.cat([H.energy_density(spins) + 2 for spins in textures.values()])
        drawn = np.stack([image.get_array() for image in maps if image.get_array().shape == (8, 12)])
        assert np.allclose(drawn, energies, atol=1e-12)
        assert {text.get_text() for text in figure.texts} == set(textures)

    def test_field_and_anisotropy_leave_the_title_the_energy_excess(self):
        H = Hamiltonian(D=0.4, B=-0.2, K=0.3)
        spins = random_spins(1, 3, 8, 8)
        title = draw.texture_panel({"data": spins}, H).axes[0].get_title("left")
        assert float(title.removeprefix("ε = ").removesuffix(" J")) == pytest.approx(
            float(H.energy_excess(spins)), abs=6e-5
        )

    def test_refuses_mixed_lattices(self):
        with pytest.raises(BadInput, match="one size"):
            draw.texture_panel({"a": random_spins(1, 3, 8, 8), "b": random_spins(1, 3, 8, 10)}, Hamiltonian())

    def test_limits_hold_for_uniform_maps(self):
        low, high = draw.energy_limits([torch.zeros(4, 4)])
        assert low < high

    def test_hero_draws_all_textures(self):
        spins = random_spins(4, 3, 8, 8)
        images = [ax.images[0].get_array() for ax in draw.hero(spins).axes]
        assert np.array_equal(np.stack(images[:4]), draw.spin_colours(spins))
        assert all(ax.images[0].get_interpolation() == "nearest" for ax in draw.hero(spins).axes[:4])
