"""Charts: what is drawn is where, and as large, as the rows say; every figure is legible."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from spinloom import charts, draw
from spinloom.hamiltonian import Hamiltonian
from spinloom.rows import Row, shown_name


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


class TestScatter:
    def drawn(self, **kwargs):
        ax = axes()
        charts.coverage_energy_scatter(ax, rows(), **kwargs)
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
        marker = by_gid(ax, "untrained")
        ((x,), (y,)) = marker.get_data()
        high = ax.get_xlim()[1]
        assert x == high < 0.5 and y == 0
        assert marker.get_marker() == ">" and by_gid(ax, "vae prior").get_marker() == "o"
        mean = rows()[1].measures["energy_excess"].mean().item()
        assert [text.get_text() for text in ax.texts] == [f"untrained ε = {mean:.2f} J →"]

    def test_relaxed_rows_are_hollow_and_joined_to_their_twins(self):
        ax = self.drawn()
        for row in rows():
            hollow = by_gid(ax, row.name).get_markerfacecolor() == "white"
            assert hollow == (row.relax > 0)
        twins = [line.get_xydata().tolist() for line in ax.lines if line.get_gid() == "twin"]
        place = {row.name: [row.values("energy_excess").mean(), row.coverage["features"]] for row in rows()}
        # random spins have no unrelaxed row; the line to a far one leads to where it is
        assert twins == [[place[name], place[f"{name} + relax 20"]] for name in ("untrained", "vae prior")]

    def test_rows_without_a_claim_are_faded(self):
        ax = axes()
        some = [replace(row, broad=["features"] if row.source == "vae" else ["spins"]) for row in rows()]
        charts.coverage_energy_scatter(ax, some)
        for row in some[1:]:
            assert (by_gid(ax, row.name).get_alpha() == charts.FADED) == (row.source == "vae")

    def test_a_space_that_tells_nothing_is_drawn_only_if_none_does(self):
        def labels(**informative):
            return [ax.get_ylabel() for ax in charts.coverage_energy(rows(), informative=informative).axes]

        assert labels(features=True, spins=False) == ["coverage (features)"]
        assert labels(features=False, spins=False) == ["coverage (features)", "coverage (spins)"]

    def test_the_legend_tells_of_faded_rows_that_are_drawn(self):
        def told(**informative):
            figure = charts.coverage_energy([replace(row, broad=["spins"]) for row in rows()], informative=informative)
            return any("no claim" in text.get_text() for text in figure.legends[0].get_texts())

        assert told(features=True, spins=True) and not told(features=True, spins=False)

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
        charts.coverage_energy_scatter(ax, trials)
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
        charts.coverage_energy_scatter(ax, [Row("nothing", "gan", "prior"), *rows()])
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
        figure = charts.loss_curves(runs)
        drawn = {line.get_gid() for ax in figure.axes for line in ax.lines if " " in (line.get_gid() or "")}
        # a VAE's generator loss is the sum of the two parts that are shown
        gan = {f"gan {key}" for key in ("discriminator", "generator", "logit_real", "logit_prior")}
        assert drawn == {"vae reconstruction", "vae kl"} | gan
        panel = figure.axes[0]
        steps, values = panel.lines[0].get_data()
        assert steps.tolist() == list(range(10, 400, 10))
        assert values.tolist() == [1 + step / 10 for step in range(10, 400, 10)]

    def test_only_panels_that_hold_something(self):
        figure = charts.loss_curves({"vae": self.metrics("reconstruction", "kl")})
        assert len([ax for ax in figure.axes if ax.get_visible()]) == 2
        charts.loss_curves({})  # an empty one is no error

    def test_running_mean_keeps_lines_straight(self):
        line = np.linspace(3, 9, 201)
        assert np.allclose(charts._running_mean(line)[5:-5], line[5:-5])
        assert np.allclose(charts._running_mean(np.full(201, 4.0)), 4)
        assert charts._running_mean(np.array([2.0])).tolist() == [2]

    def test_running_mean_begins_where_the_run_did(self):
        steep = np.exp(-np.arange(200.0))
        smooth = charts._running_mean(steep)
        assert smooth[0] == 1 and smooth[1] == pytest.approx(steep[:3].mean())
        tail = np.tile([0.0, 1.0], 100)
        assert charts._running_mean(tail)[-1] == pytest.approx(0.5, abs=0.1)

    def test_only_a_divergence_is_in_nats(self):
        figure = charts.loss_curves({"hybrid": metrics()})
        labels = [ax.get_ylabel() for ax in figure.axes]
        assert [label for label in labels if "nats" in label] == ["KL divergence (nats)"]
        assert "player's loss" in labels


class TestHistograms:
    def test_strips_hold_the_values_and_the_axis_ignores_the_untrained(self):
        figure = charts.histograms(rows())
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

    def test_strips_are_scaled_to_the_peak_off_the_axis_too(self):
        data = Row("test data", "data", "data", measures={"mz": np.linspace(0, 1, 500)})
        far = Row("far", "random", "random", measures={"mz": np.array([0.5] + 999 * [7.0])})
        ax = charts.histograms([data, far], {"mz": "M"}).axes[0]
        heights, _, base = by_gid(ax, "far mz").get_data()
        assert (heights - base).max() == pytest.approx(0.85 / 999)
        (note,) = ax.texts
        assert note.get_text() == "> 99% →"

    def test_labels_are_beside_the_curves(self):
        figure = charts.histograms(rows())
        FigureCanvasAgg(figure).draw()
        ax = figure.axes[0]
        strips = [patch.get_data().edges[-1] for patch in ax.patches]
        right = ax.transData.transform((max(strips), 0))[0]
        assert ax.texts and all(text.get_window_extent().x0 > right for text in ax.texts if "→" in text.get_text())
        assert max(ax.get_xticks()) <= max(strips)

    @pytest.mark.parametrize(("share", "text"), [(1.0, "100%"), (0.9996, "> 99%"), (0.28, "28%"), (0.005, "0%")])
    def test_a_share_is_never_rounded_to_all(self, share, text):
        assert charts._percent(share) == text

    def test_a_share_of_nothing_is_not_written_and_the_key_names_the_data(self):
        data = Row("test data", "data", "data", measures={"mz": np.linspace(0, 1, 500)})
        few = Row("vae prior", "vae", "prior", measures={"mz": np.array([-7.0] + 199 * [0.5])})
        figure = charts.histograms([data, few], {"mz": "M"})
        assert not figure.axes[0].texts
        said = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "test data" in said
        assert any("height" in text for text in said)
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["test data", "VAE prior"]

    def test_data_is_behind_every_strip(self):
        ax = charts.histograms(rows()).axes[0]
        grey = [patch for patch in ax.patches if patch.get_facecolor()[:3] == to_rgb("0.82")]
        assert len(grey) == len(rows())

    def test_one_quantity_alone(self):
        only = [Row(row.name, row.source, row.method, row.relax, {"mz": row.measures["mz"]}) for row in rows()]
        assert len(charts.histograms(only).axes) == 1


class TestNodalChart:
    def test_dots_and_ticks_are_at_the_means(self):
        ax = axes()
        charts.nodal_chart(ax, rows())
        for place, row in enumerate(rows()):
            for name in ("nodal_points", "nodal_points_75", "nodal_points_60"):
                ((x,), (y,)) = by_gid(ax, f"{row.name} {name}").get_data()
                assert (x, y) == (row.values(name).mean(), len(rows()) - 1 - place)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == [shown_name(row.name) for row in rows()]

    def test_all_zero_is_drawn(self):
        ax = axes()
        charts.nodal_chart(ax, rows()[:1])
        FigureCanvasAgg(ax.figure).draw()
        assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def metrics():
    keys = ("reconstruction", "kl", "discriminator", "generator", "logit_real", "logit_prior")
    return [{"step": step, **dict.fromkeys(keys, 0.1 + step / 100)} for step in range(10, 2010, 10)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: draw.texture_panel({"data": random_spins(5, 3, 8, 8), "VAE": random_spins(5, 3, 8, 8)}, Hamiltonian()),
        lambda: charts.coverage_energy(
            [*rows(), replace(rows()[1], name="again", source="random")],
            {space: {"100 repeated": 0.4, "sector dropped": 0.5, "noise": 0} for space in ("features", "spins")},
            {"features": True, "spins": False},
        ),
        lambda: charts.coverage_energy([replace(row, coverage={"features": 0.5}) for row in rows()]),
        lambda: charts.histograms(rows()),
        lambda: charts.nodal_figure(rows()),
        lambda: charts.loss_curves({"vae": metrics(), "gan": metrics(), "hybrid": metrics()}),
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
