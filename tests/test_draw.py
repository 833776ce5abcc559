"""Colours, panels and charts: what is drawn is where, and as large, as the data say."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from spinloom import draw
from spinloom.draw import Row
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


def rows():
    rng = np.random.default_rng(0)

    def row(name, source, method, relax, energy, spread, coverage, nodal):
        measures = {
            "energy_excess": torch.from_numpy(energy + spread * rng.standard_normal(200)),
            "mz": torch.from_numpy(0.02 * rng.standard_normal(200)),
            "nodal_points": torch.full((200,), nodal, dtype=torch.int64),
            "nodal_points_75": torch.full((200,), 2 * nodal, dtype=torch.int64),
            "nodal_points_60": torch.full((200,), 3 * nodal, dtype=torch.int64),
        }
        return Row(name, source, method, relax, measures, {"features": coverage, "spins": 0.94})

    return [
        row("test data", "data", "data", 0, -0.164, 0.002, 0.95, 0),
        row("untrained", "untrained", "prior", 0, 0.9, 0.05, 0.0, 30),
        row("untrained + relax 20", "untrained", "prior", 20, -0.13, 0.01, 0.7, 0),
        row("random + relax 20", "random", "random", 20, -0.12, 0.01, 0.9, 1),
        row("vae prior", "vae", "prior", 0, -0.11, 0.008, 0.9, 4),
        row("vae prior + relax 20", "vae", "prior", 20, -0.158, 0.002, 0.85, 0),
        row("hybrid prior", "hybrid", "prior", 0, -0.14, 0.004, 0.8, 2),
        row("hybrid ddls", "hybrid", "ddls", 0, -0.15, 0.003, 0.6, 1),
    ]


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
        found = [float(title.removeprefix("ε = ").replace("−", "-")) for title in titles]
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
        assert float(title.removeprefix("ε = ")) == pytest.approx(float(H.energy_excess(spins)), abs=6e-5)

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


class TestScatter:
    def drawn(self, **kwargs):
        ax = axes()
        draw.coverage_energy_scatter(ax, rows(), **kwargs)
        return ax

    def test_markers_are_at_the_data(self):
        ax = self.drawn()
        for row in rows():
            if row.name == "untrained":
                continue
            ((x,), (y,)) = by_gid(ax, row.name).get_data()
            assert x == pytest.approx(row.measures["energy_excess"].mean().item())
            assert y == row.coverage["features"]

    def test_far_off_row_sits_at_the_edge_and_is_named(self):
        ax = self.drawn()
        ((x,), (y,)) = by_gid(ax, "untrained").get_data()
        low, high = ax.get_xlim()
        assert low < x < high < 0.5 and y == 0
        mean = rows()[1].measures["energy_excess"].mean().item()
        assert ax.get_title("left") == f"off scale → untrained ε = {mean:.2f}"

    def test_relaxed_rows_are_hollow_and_joined_to_their_twins(self):
        ax = self.drawn()
        for row in rows():
            hollow = by_gid(ax, row.name).get_markerfacecolor() == "white"
            assert hollow == (row.relax > 0)
        twins = [line.get_xydata().tolist() for line in ax.lines if line.get_gid() == "twin"]
        ends = [
            [by_gid(ax, name).get_xydata()[0].tolist() for name in (source, f"{source} + relax 20")]
            for source in ("untrained", "vae prior")  # random spins have no unrelaxed row
        ]
        assert twins == ends

    def test_trials_are_joined_within_themselves(self):
        ax = axes()
        trials = [
            Row(
                "gan",
                "gan",
                "prior",
                relax,
                {"energy_excess": [-0.1 - relax / 1e4]},
                {"features": height},
                trial,
            )
            for trial, height in enumerate((0.5, 0.6))
            for relax in (0, 20)
        ]
        draw.coverage_energy_scatter(ax, trials)
        twins = [line for line in ax.lines if line.get_gid() == "twin"]
        assert [set(line.get_ydata()) for line in twins] == [{0.5}, {0.6}]

    def test_controls_and_verdict(self):
        ax = self.drawn(controls={"100 repeated": 0.4, "noise": 0.1})
        assert set(by_gid(ax, "control 100 repeated").get_ydata()) == {0.4}
        assert set(by_gid(ax, "control noise").get_ydata()) == {0.1}
        assert "not informative" not in ax.get_title("left")
        ax = self.drawn(space="spins", informative=False)
        assert ax.get_title("left").startswith("not informative")

    def test_rows_without_numbers_are_left_out(self):
        ax = axes()
        draw.coverage_energy_scatter(ax, [Row("nothing", "gan", "prior"), *rows()])
        assert not [line for line in ax.lines if line.get_gid() == "nothing"]

    def test_unknown_sources_and_methods_have_a_look(self):
        row = Row("x", "flow", "langevin")
        assert row.colour.startswith("#") and row.marker


class TestLosses:
    def metrics(self, *keys):
        return [
            {"step": step, "seconds": step / 2, **dict.fromkeys(keys, 1 + step / 10)} for step in range(10, 400, 10)
        ]

    def test_curves_are_drawn_where_they_belong(self):
        runs = {
            "vae": self.metrics("encoder", "generator", "reconstruction", "kl"),
            "gan": self.metrics("discriminator", "generator", "logit_real", "logit_prior"),
        }
        figure = draw.loss_curves(runs)
        drawn = {line.get_gid() for ax in figure.axes for line in ax.lines if " " in (line.get_gid() or "")}
        # a VAE's generator loss is the sum of the two parts that are shown
        gan = {f"gan {key}" for key in ("discriminator", "generator", "logit_real", "logit_prior")}
        assert drawn == {"vae reconstruction", "vae kl"} | gan
        panel = figure.axes[0]
        steps, values = panel.lines[0].get_data()
        assert steps.tolist() == list(range(10, 400, 10))
        assert values.tolist() == [1 + step / 10 for step in range(10, 400, 10)]

    def test_only_panels_that_hold_something(self):
        figure = draw.loss_curves({"vae": self.metrics("reconstruction", "kl")})
        assert len([ax for ax in figure.axes if ax.get_visible()]) == 2
        draw.loss_curves({})  # an empty one is no error

    def test_running_mean_keeps_lines_straight(self):
        line = np.linspace(3, 9, 201)
        assert np.allclose(draw._running_mean(line)[5:-5], line[5:-5])
        assert np.allclose(draw._running_mean(np.full(201, 4.0)), 4)
        assert draw._running_mean(np.array([2.0])).tolist() == [2]


class TestHistograms:
    def test_strips_hold_the_values_and_the_axis_ignores_the_untrained(self):
        figure = draw.histograms(rows())
        ax = figure.axes[0]
        low, high = ax.get_xlim()
        assert -0.2 < low < -0.164 and -0.11 < high < 0
        for row in rows():
            if row.source in ("data", "untrained"):
                continue
            values = row.values("energy_excess")
            counts, edges, base = by_gid(ax, f"{row.name} energy_excess").get_data()
            expected, _ = np.histogram(values, edges)
            assert np.allclose((counts - base) * expected.max() / 0.85, expected)
        assert any(text.get_text() == "100% →" for text in ax.texts)

    def test_data_is_behind_every_strip(self):
        ax = draw.histograms(rows()).axes[0]
        grey = [patch for patch in ax.patches if patch.get_facecolor()[:3] == to_rgb("0.82")]
        assert len(grey) == len(rows())

    def test_one_quantity_alone(self):
        only = [Row(row.name, row.source, row.method, row.relax, {"mz": row.measures["mz"]}) for row in rows()]
        assert len(draw.histograms(only).axes) == 1


class TestNodalChart:
    def test_dots_and_ticks_are_at_the_means(self):
        ax = axes()
        draw.nodal_chart(ax, rows())
        for place, row in enumerate(rows()):
            for name in ("nodal_points", "nodal_points_75", "nodal_points_60"):
                ((x,), (y,)) = by_gid(ax, f"{row.name} {name}").get_data()
                assert (x, y) == (row.values(name).mean(), len(rows()) - 1 - place)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == [row.name for row in rows()]

    def test_all_zero_is_drawn(self):
        ax = axes()
        draw.nodal_chart(ax, rows()[:1])
        FigureCanvasAgg(ax.figure).draw()
        assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def metrics():
    keys = ("reconstruction", "kl", "discriminator", "generator", "logit_real", "logit_prior")
    return [{"step": step, **dict.fromkeys(keys, 0.1 + step / 100)} for step in range(10, 2010, 10)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: draw.texture_panel({"data": random_spins(5, 3, 8, 8), "VAE": random_spins(5, 3, 8, 8)}, Hamiltonian()),
        lambda: draw.coverage_energy(
            [*rows(), replace(rows()[1], name="again", source="random")],
            {space: {"100 repeated": 0.4, "sector dropped": 0.5, "noise": 0} for space in ("features", "spins")},
            {"features": True, "spins": False},
        ),
        lambda: draw.coverage_energy([replace(row, coverage={"features": 0.5}) for row in rows()]),
        lambda: draw.histograms(rows()),
        lambda: draw.nodal_figure(rows()),
        lambda: draw.loss_curves({"vae": metrics(), "gan": metrics(), "hybrid": metrics()}),
    ],
    ids=["textures", "coverage-energy", "one-space", "histograms", "nodal-points", "losses"],
)
def test_letters_are_legible_and_do_not_collide(make):
    figure = make()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {
        label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    boxes = []
    for text in texts:
        if text in hidden:
            continue
        box = text.get_window_extent(canvas.get_renderer())
        inside = text.axes is None or text.axes.get_visible()
        if inside and box.width > 1:
            assert text.get_fontsize() >= 7, text.get_text()
            boxes.append((text.get_text(), box))
    assert len(boxes) > 8
    for (first, a), (second, b) in combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 2 or along < 2, (first, second)
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text
