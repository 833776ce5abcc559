"""Searches on decoders whose optimum is known, resumption to the same bits, and what is said of the answer."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import spinloom as sl
from pretend_gpu import pretend_gpu
from spinloom import bench_search as bench
from spinloom import cli, findings, search_methods
from spinloom import optimise as optimising
from spinloom.anneal import anneal, relax
from spinloom.dataset import open_dataset, write_dataset
from spinloom.errors import BadInput
from spinloom.findings import Found, Front, settle
from spinloom.goals import Goal, goals
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.novelty import nearest_texture, novelty
from spinloom.objectives import OBJECTIVES
from spinloom.optimise import SearchConfig, Tape, optimise, resolved, spread_of
from spinloom.pattern import Pattern, cores, pattern
from spinloom.run import Run, build_networks, write_config, write_weights
from spinloom.sample import prior_latents
from spinloom.schedule import Schedule
from spinloom.search import SEARCH, STATE, _beside_data, search, unbeaten
from spinloom.search_charts import found_figure, front_figure
from spinloom.spiral import ground_state, spiral
from spinloom.symmetry import random_symmetry, symmetries
from spinloom.topology import charge, whole_charge

novelties = sys.modules["spinloom.novelty"]  # the package's own attribute is the function

H = Hamiltonian(D=0.6)
NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8)


def make_run(objective: str = "hybrid", hamiltonian: Hamiltonian | None = H) -> Run:
    nets = build_networks(NETWORKS, OBJECTIVES[objective]().players, seed=5)
    for net in nets.values():
        net.eval().requires_grad_(False)
    return Run(Path("somewhere"), 7, {"objective": objective}, NETWORKS, hamiltonian, nets)


PEAK = torch.tensor([0.5, -1.0, 1.5, 0.2])


def tilted(z: torch.Tensor) -> torch.Tensor:
    """Uniform textures tilted against z by the distance of the code from PEAK: M_z is largest there, and 1."""
    angle = (z - PEAK.to(z)).norm(dim=1) / 3
    spins = torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), 1)
    return spins[:, :, None, None].expand(-1, -1, 4, 4)


def plain(config: SearchConfig, wanted: tuple[Goal, ...], decode=tilted) -> SearchConfig:
    return resolved(replace(config, norm_weight=0.0), wanted, decode, 4, None)


@pytest.mark.parametrize(
    ("settings", "within"),
    [
        ({"method": "ga", "head_start": 0}, 0.3),
        ({"method": "ga", "generations": 20, "head_start": 60}, 0.1),
        ({"method": "cma", "generations": 60}, 1e-2),
        ({"method": "gradient", "generations": 150}, 0.1),
    ],
)
def test_each_method_finds_the_known_optimum(settings, within):
    run = make_run(hamiltonian=None)
    wanted = goals("max-mz", run, None)
    config = plain(SearchConfig(**settings), wanted)
    (codes, values), history = optimise(tilted, wanted, config, 4, None, Tape(None))
    best = codes[values[:, 0].argmin()]
    assert np.linalg.norm(best - PEAK.numpy()) < within
    assert history["best"][-1] == pytest.approx(-values.min())
    assert (np.diff(history["best"]) >= 0).all()
    assert history["evaluations"][-1] == len(codes)


def test_the_front_of_two_goals_is_the_known_arc():
    """M_z and M_x of a unit vector: the least of both lie on the quarter circle M_z² + M_x² = 1, both ≤ 0."""

    def decode(z):
        spins = torch.nn.functional.normalize(z[:, :3], dim=1)
        return spins[:, :, None, None].expand(-1, -1, 4, 4)

    def mx(spins):
        return spins[:, 0].mean((-2, -1))

    wanted = goals(("min-mz", mx), make_run(hamiltonian=None), None)
    config = plain(SearchConfig("nsga2", 32, 30), wanted, decode)
    (_, values), history = optimise(decode, wanted, config, 4, None, Tape(None))
    front = values[unbeaten(values)]
    assert history["best"].shape == (30, 2)
    assert (np.hypot(*front.T) > 0.98).all()
    assert (front < 0.05).all()
    assert np.ptp(front, axis=0).min() > 0.95
    assert np.diff(np.sort(front[:, 0])).max() < 0.25


def test_unbeaten_rows():
    rows = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0], [0.0, 5.0]])
    assert unbeaten(rows).tolist() == [True, True, False, False, True]


def test_a_norm_that_the_prior_hardly_draws_costs():
    """M_z grows along z₀ for ever; the penalty holds the code at the √n shell."""

    def decode(z):
        angle = math.pi / 2 - torch.atan(z[:, 0] / 4)
        return torch.stack((angle.sin(), 0 * angle, angle.cos()), 1)[:, :, None, None].expand(-1, -1, 4, 4)

    wanted = goals("max-mz", make_run(hamiltonian=None), None)
    norms = []
    for weight in (0.0, 30.0):
        config = resolved(SearchConfig("cma", generations=60, norm_weight=weight), wanted, decode, 4, None)
        (codes, values), _ = optimise(decode, wanted, config, 4, None, Tape(None))
        norms.append(np.linalg.norm(codes[values[:, 0].argmin()]))
    assert norms[0] > 3.5
    assert 1.9 < norms[1] < 2.4


def test_nodal_points_cost():
    """Codes with z₀ > 0 decode to up spins with one reversed, the others to a lower M_z without."""

    def decode(z):
        angle = (z[:, 0] > 0).float() * -0.5 + 1
        spins = torch.stack((angle.sin(), 0 * angle, angle.cos()), 1)[:, :, None, None].repeat(1, 1, 8, 8)
        spins[z[:, 0] > 0, :, 0, 0] *= -1
        return spins

    wanted = (replace(goals("max-mz", make_run(hamiltonian=None), None)[0], smooth=False),)
    signs = []
    for weight in (0, 3):
        config = replace(plain(SearchConfig(generations=3, population=20), wanted, decode), nodal_weight=weight)
        (codes, values), _ = optimise(decode, wanted, config, 4, None, Tape(None))
        signs.append(codes[values[:, 0].argmin(), 0] > 0)
    assert signs == [True, False]


def test_nodal_points_cost_where_the_prior_knows_nothing_of_the_goal():
    """M_z is 0 but where z₀ > 2, near 1 with a nodal point there; none of the codes that are drawn lies there."""

    def decode(z):
        there = z[:, 0] > 2
        angle = torch.where(there, 0.0, math.pi / 2)
        spins = torch.stack((angle.sin(), 0 * angle, angle.cos()), 1)[:, :, None, None].repeat(1, 1, 8, 8)
        spins[there, :, 0, 0] *= -1
        return spins

    def is_up(spins):
        return -(spins[:, 2].mean((-2, -1)) > 0.2).float()

    start = prior_latents(11, 64, 2)
    assert not (start[:, 0] > 2).any()
    wanted = goals(is_up, make_run(hamiltonian=None), None)
    there = []
    for weight in (0, 1):
        config = SearchConfig(generations=40, population=12, seed=11, nodal_weight=weight, norm_weight=0)
        config = resolved(config, wanted, decode, 2, None)
        (codes, values), _ = optimise(decode, wanted, config, 2, None, Tape(None))
        there.append(codes[values[:, 0].argmin(), 0] > 2)
        assert (codes[:, 0] > 2).any()
    assert there == [True, False]


def test_the_unit_of_the_penalties():
    few, none, rounding, normal = np.zeros(64), np.full(64, -3.0), np.full(64, 0.5), np.random.default_rng(0)
    few[7] = -1
    rounding[::2] += 1e-8
    drawn = normal.normal(0, 0.01, 64)
    units = spread_of(np.stack((few, none, rounding, drawn, drawn + 5), 1))
    assert units == pytest.approx([1.1, 3.3, 1.1, drawn.std(), drawn.std()])


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    monkeypatch.setattr(optimising, "HEAD_START", 3)
    monkeypatch.setattr(findings, "MOST_BLOCKS", 1)


QUICK = {"population": 6, "generations": 4, "inner_relax": 3, "relax": 5}


def test_what_is_found_fits_together():
    run = make_run()
    found = search(
        run, objective="min-energy", seed=3, reference=anneal(H, 32, 6, schedule=Schedule.relaxation(9)), **QUICK
    )
    assert isinstance(found, Found)
    assert found.z.shape == (8,)
    assert float(found.z.abs().max()) <= 4
    assert found.value == pytest.approx(float(H.energy_excess(found.spins.double())), abs=1e-12)
    with torch.no_grad():
        assert float((run.generator(found.z[None])[0] - found.decoded).abs().mean()) < 1e-5
    assert torch.equal(relax(found.decoded, H, 5), found.spins)
    energies = [float(H.energy(spins.double())) for spins in (found.decoded, found.spins, found.settled)]
    assert energies[0] > energies[1] > energies[2] - 1e-7
    stages = found.report["stages"]
    assert stages["relaxed"]["energy_excess"] == pytest.approx(found.value, abs=1e-12)
    assert found.report["norm"]["ratio"] == pytest.approx(float(found.z.norm()) / 8**0.5)
    gap = found.report["ground_state"]["above"]["relaxed"]
    assert gap == pytest.approx(found.value - ground_state(H, 32).energy_excess)
    assert found.report["novelty"]["searched"] == 6
    assert found.report["data"]["textures"] == 6
    json.dumps(found.report, allow_nan=False)


def test_opposite_objectives_find_opposite_textures():
    run = make_run()
    bare = {**QUICK, "inner_relax": 0, "relax": 0, "nodal_weight": 0, "norm_weight": 0}
    low, high = (search(run, objective=f"{way}-mz", seed=1, **bare).value for way in ("min", "max"))
    middle = run.generator(prior_latents(1, 6, 8))[:, 2].mean((-2, -1))
    assert low < float(middle.min())
    assert high > float(middle.max())


def test_a_field_in_the_hamiltonian_is_looked_for_too():
    """Lowest energy in a strong field is up."""
    found = search(make_run(), Hamiltonian(D=0.6, B=1.0), seed=0, **QUICK)
    assert found.report["stages"]["settled"]["mz"] > 0.9
    assert found.report["ground_state"] is None


def test_a_seed_decides_and_nothing_else_does():
    run = make_run()
    for method in ("ga", "cma"):
        np.random.seed(0)  # noqa: NPY002
        first = search(run, objective="min-energy", method=method, seed=4, **QUICK)
        np.random.seed(1)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        again = search(run, objective="min-energy", method=method, seed=4, **QUICK)
        assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
        assert torch.equal(first.z, again.z)
        assert torch.equal(first.spins, again.spins)
        other = search(run, objective="min-energy", method=method, seed=5, **QUICK)
        assert not torch.equal(first.z, other.z)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("method", "objective"),
    [("ga", "max-mz"), ("cma", "min-energy"), ("gradient", "max-logit"), ("nsga2", ("min-energy", "max-mz"))],
)
def test_an_interrupted_search_ends_with_the_same_bits(method, objective, tmp_path, monkeypatch):
    run = make_run()
    settings = {**QUICK, "objective": objective, "method": method, "seed": 2}
    settings |= {"head_start": 3} if method == "ga" else {}
    whole = search(run, out=tmp_path / "whole", **settings)
    assert torch.equal(search(run, **settings).z, whole.z)

    calls = 0
    judged = optimising.Judge.__call__

    def cut(self, codes, want_slopes):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return judged(self, codes, want_slopes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optimising.Judge, "__call__", cut)
        search(run, out=tmp_path / "cut", **settings)
    kept = load_file(tmp_path / "cut" / STATE)
    assert {name.split("/")[1] for name in kept} == {"000000", "000001"}
    assert contents(tmp_path / "cut") != contents(tmp_path / "whole")
    search(run, out=tmp_path / "cut", **settings)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # finished: nothing is judged again but the spread and the end
    calls = 0
    monkeypatch.setattr(optimising.Judge, "__call__", cut)
    search(run, out=tmp_path / "cut", **settings)
    assert calls == 2
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_folder_keeps_one_search(tmp_path):
    run = make_run()
    search(run, out=tmp_path / "out", **QUICK)
    before = contents(tmp_path / "out")
    with pytest.raises(BadInput, match="seed: 0 there, 1 asked"):
        search(run, out=tmp_path / "out", seed=1, **QUICK)
    with pytest.raises(BadInput, match="another search"):
        search(make_run("gan"), Hamiltonian(D=0.5), out=tmp_path / "out", **QUICK)
    assert contents(tmp_path / "out") == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(BadInput, match="holds no search"):
        search(run, out=tmp_path / "thesis", **QUICK)


def test_a_state_that_another_library_made_is_refused(tmp_path):
    run = make_run()
    search(run, out=tmp_path, **QUICK)
    tensors = load_file(tmp_path / STATE)
    tensors["codes/000001"] += 1
    save_file(tensors, tmp_path / STATE)
    with pytest.raises(BadInput, match="other versions"):
        search(run, out=tmp_path, **QUICK)


def half_nan(spins):
    return spins.flatten(1).sum(1) / 0 * 0


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("vae", {"objective": "max-logit"}, "no discriminator"),
        ("gan", {"objective": "min-beauty"}, "min-beauty"),
        ("gan", {"objective": ()}, "nothing to search for"),
        ("gan", {"objective": ("max-mz", "max-mz")}, "named twice"),
        ("gan", {"objective": ("max-mz", "min-mz"), "method": "cma"}, "nsga2"),
        ("gan", {"method": "nsga2"}, "several objectives"),
        ("gan", {"objective": "max-charge", "method": "gradient"}, "no gradient"),
        ("gan", {"objective": "max-charge", "head_start": 3}, "head_start=3"),
        ("gan", {"population": 1}, "population=1"),
        ("gan", {"relax": -1}, "relax=-1"),
        ("gan", {"bound": math.nan}, "bound=nan"),
        ("gan", {"norm_weight": -1.0}, "norm_weight=-1.0"),
        ("gan", {"seed": -1}, "seed=-1"),
        ("gan", {"objective": half_nan}, "half_nan: gave NaN"),
        ("gan", {"objective": lambda spins: spins.mean()}, "one number a texture"),
        ("unknown", {"objective": "min-energy"}, "no Hamiltonian"),
        ("unknown", {"objective": "max-mz", "relax": 3}, "relax=3"),
    ],
)
def test_what_makes_no_sense_is_refused(kind, arguments, says):
    run = make_run("gan", None) if kind == "unknown" else make_run(kind)
    with pytest.raises(BadInput, match=says):
        search(run, **{**QUICK, **arguments} if "relax" not in arguments else {**QUICK, "inner_relax": 0, **arguments})


def test_callables_are_minimised_and_their_gradient_is_used():
    run = make_run(hamiltonian=None)

    def mx(spins):
        return spins[:, 0].mean((-2, -1))

    by_gradient = search(run, None, mx, "gradient", population=4, generations=10)
    assert by_gradient.value < float(mx(run.generator(prior_latents(0, 4, 8))).min())
    assert by_gradient.report["sweeps"] == 0
    assert torch.equal(by_gradient.spins, by_gradient.decoded)

    def counted(spins):
        return torch.from_numpy(spins.numpy()[:, 0].mean((1, 2)))

    with pytest.raises(BadInput, match="counted has no gradient"):
        search(run, None, counted, "gradient", population=4, generations=2)
    assert search(run, None, counted, population=4, generations=2).value < 1


def test_a_decoder_of_ones_own_is_searched():
    found = search(tilted, None, "max-mz", "cma", generations=60, norm_weight=0.0, latent=4)
    assert np.linalg.norm(found.z.numpy() - PEAK.numpy()) < 1e-2
    assert found.value == pytest.approx(1)
    assert found.report["novelty"] == {"new": None, "reason": "not compared with training data"}
    assert found.report["sweeps"] == 0
    assert "energy_excess" not in found.report["stages"]["decoded"]
    data = tilted(prior_latents(7, 5, 4)).contiguous()
    beside = search(tilted, None, "max-mz", population=6, generations=3, latent=4, reference=data)
    assert beside.report["novelty"]["given"] == 5
    logit = search(tilted, None, "max-logit", "cma", generations=40, norm_weight=0.0, latent=4, score=score)
    assert np.linalg.norm(logit.z.numpy() - PEAK.numpy()) < 1e-2


def score(spins):
    return 3 * spins[:, 2].mean((-2, -1)) - 1


def test_a_decoder_without_a_gradient_is_searched_without():
    def decode(z):
        return torch.from_numpy(tilted(z).numpy())

    assert search(decode, None, "max-mz", population=6, generations=3, latent=4).value > 0
    with pytest.raises(BadInput, match="no gradient"):
        search(decode, None, "max-mz", "gradient", latent=4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "latent=None"),
        ({"latent": 0}, "latent=0"),
        ({"latent": 4, "objective": "max-logit"}, "give score"),
        ({"latent": 4, "objective": "min-energy"}, "give H"),
        ({"latent": 4, "relax": 3}, "relax=3"),
        ({"latent": 4, "source": lambda z: z}, r"gave shape \(2, 4\)"),
        ({"latent": 8, "source": make_run()}, "latent=8"),
        ({"latent": 4, "reference": torch.zeros(1, 3, 4, 4)}, "reference of 1 textures"),
        ({"latent": 4, "reference": torch.zeros(3, 3, 6, 4)}, "lattice"),
        ({"latent": 4, "reference": torch.zeros(3, 3, 4, 4), "compared": 1}, "compared=1"),
    ],
)
def test_what_a_decoder_lacks_is_named_before_any_work(arguments, says, tmp_path):
    asked = {"source": tilted, "objective": "max-mz", "out": tmp_path / "out", **arguments}
    with pytest.raises(BadInput, match=says):
        search(**asked)
    assert not (tmp_path / "out").exists()


def test_a_folder_knows_its_callables(tmp_path):
    run, few = make_run(hamiltonian=None), {"population": 4, "generations": 2}

    def along(axis):
        return lambda spins: spins[:, axis].mean((-2, -1))

    search(run, None, along(0), out=tmp_path / "one", **few)
    before = contents(tmp_path / "one")
    search(run, None, along(0), out=tmp_path / "one", **few)
    with pytest.raises(BadInput, match="another <lambda> "):
        search(run, None, along(1), out=tmp_path / "one", **few)
    assert contents(tmp_path / "one") == before
    front = search(run, None, (along(0), along(1)), out=tmp_path / "two", **few)
    assert front.goals == ("<lambda>", "<lambda> 2")
    with pytest.raises(BadInput, match="another <lambda> "):
        search(run, None, (along(1), along(0)), out=tmp_path / "two", **few)
    with pytest.raises(BadInput, match="another <lambda> 2 "):
        search(run, None, (along(0), along(2)), out=tmp_path / "two", **few)
    same = along(0)
    with pytest.raises(BadInput, match="named twice"):
        search(run, None, (same, same), **few)
    search(tilted, None, "max-mz", out=tmp_path / "decoder", latent=4, **few)
    search(tilted, None, "max-mz", out=tmp_path / "decoder", latent=4, **few)
    with pytest.raises(BadInput, match="another z → spins "):
        search(lambda z: tilted(z + 0.01), None, "max-mz", out=tmp_path / "decoder", latent=4, **few)
    search(tilted, None, "max-logit", out=tmp_path / "score", latent=4, score=score, **few)
    with pytest.raises(BadInput, match="another max-logit "):
        search(tilted, None, "max-logit", out=tmp_path / "score", latent=4, score=lambda s: score(s).exp(), **few)
    old = json.loads((tmp_path / "one" / SEARCH).read_text())
    del old["callables"]
    (tmp_path / "one" / SEARCH).write_text(json.dumps(old))
    with pytest.raises(BadInput, match="does not say what its <lambda> was"):
        search(run, None, along(0), out=tmp_path / "one", **few)


@pytest.mark.parametrize(
    ("objective", "method"),
    [
        ("max-mz", "ga"),
        ("max-logit", "gradient"),
        (("min-energy", "min-wavelength"), "nsga2"),
        ("min-nodal", "cma"),
        ("max-charge", "ga"),
    ],
)
def test_a_search_on_a_gpu_finds_what_one_on_the_cpu_does(objective, method):
    data = anneal(H, 32, 3, schedule=Schedule.relaxation(9))
    asked = {"population": 4, "generations": 2, "inner_relax": 2, "relax": 3, "reference": data}
    asked |= {"inner_relax": 0, "relax": 0} if objective == "min-nodal" else {}
    here = search(make_run(), H, objective, method, **asked)
    with pretend_gpu():
        run = make_run()
        for net in run.nets.values():
            net.to("cuda")
        assert run.decode(torch.zeros(1, 8)).device.type == "cuda"
        there = search(run, H, objective, method, **asked)
    for name in ("z", "spins", "decoded", "settled", "data"):
        assert type(getattr(there, name)) is torch.Tensor
        assert torch.equal(getattr(there, name), getattr(here, name))


def test_goals_of_every_name():
    spins = relax(torch.stack([disc(24, [(12, 12)]), disc(24, [])]), H, 0)
    expected = {"mz": (0.5, 1), "charge": (-1, 0), "skyrmions": (1, 0), "nodal": (0, 0)}
    run = make_run("gan")
    for name, values in expected.items():
        least, most = goals((f"min-{name}", f"max-{name}"), run, H)
        assert torch.equal(least(spins), -most(spins))
        if name != "mz":
            assert least(spins).round().tolist() == list(values)


def test_the_default_methods_leave_defects_unrelaxed():
    config = resolved(SearchConfig(), goals("min-nodal", make_run(), H), tilted, 4, H)
    assert (config.inner_relax, config.relax) == (0, 0)
    config = resolved(SearchConfig(), goals("max-mz", make_run(), H), tilted, 4, H)
    assert (config.inner_relax, config.relax) == (20, 2000)


# what a texture is


def disc(size: int, centres: list, radius: float = 8.0, turns: int = 1, vorticity: int = 1) -> torch.Tensor:
    """Néel skyrmions in an up background: the polar angle falls evenly from turns·π to 0 at the radius."""
    spins = torch.zeros(3, size, size)
    spins[2] = 1
    at = torch.arange(size, dtype=torch.float32)
    for row, column in centres:
        y = ((at - row + size / 2) % size - size / 2)[:, None].expand(size, size)
        x = ((at - column + size / 2) % size - size / 2)[None].expand(size, size)
        r = torch.hypot(x, y)
        polar = turns * math.pi * (1 - r / radius)
        azimuth = vorticity * torch.atan2(y, x)
        new = torch.stack((polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()))
        spins = torch.where(r < radius, new, spins)
    return spins


@pytest.mark.parametrize(("n", "m"), [(2, 1), (1, -2), (0, 3), (4, 0)])
def test_a_spiral_is_stripes_of_its_wave_vector(n, m):
    found = pattern(spiral(H, 32, n, m, phase=0.4))
    assert found.kind == "stripes"
    assert found.wave_vector == (n, m)
    assert found.share == pytest.approx(1)
    assert f"({n}, {m})" in found.words
    assert found.skyrmions == 0


def test_a_lattice_of_skyrmions_is_counted():
    centres = [(8, 8), (8, 24), (8, 40), (24, 8), (24, 24), (24, 40), (40, 8), (40, 24), (40, 41)]
    spins = disc(48, centres)
    found = pattern(spins)
    assert (found.kind, found.skyrmions, found.round_skyrmions, found.bands) == ("skyrmion lattice", 9, 9, 0)
    assert found.charge == pytest.approx(-9)
    assert [core.charge for core in cores(spins)] == [-1] * 9
    assert found.distance == pytest.approx((7 * 16 + 15 + 15) / 9, abs=0.1)
    reached = sorted(core.centre for core in cores(spins) if core.centre)
    assert np.allclose(reached, sorted(centres), atol=0.05)
    down = pattern(-spins)
    assert (down.skyrmions, down.charge) == (9, pytest.approx(9))
    assert "9 skyrmions" in found.words


def test_antiskyrmions_and_skyrmioniums_have_their_own_charge():
    assert [core.charge for core in cores(disc(48, [(20, 20)], 12, vorticity=-1))] == [1]
    ring = pattern(disc(48, [(20, 20)], 16, turns=2))
    assert (ring.skyrmions, ring.charge) == (0, pytest.approx(0))


def test_a_stretched_skyrmion_is_not_round_and_a_band_is_none():
    at = torch.arange(64.0)
    inside = ((at[:, None] - 32).abs() < 4).float() * ((at[None] - 32).abs() < 20)
    worm = relax(torch.stack((0 * inside, 0 * inside, 1 - 2 * inside)), H, 60)
    found = pattern(worm)
    assert (found.skyrmions, found.round_skyrmions, found.bands) == (1, 0, 0)
    assert found.kind == "skyrmions among stripes"
    assert abs(found.charge) == pytest.approx(1)
    band = ((at[:, None] - 32).abs() < 4).float().expand(64, 64)
    found = pattern(relax(torch.stack((0 * band, 0 * band, 1 - 2 * band)), H, 60))
    assert (found.skyrmions, found.bands) == (0, 1)


def test_a_stripe_that_ends_is_a_broken_one():
    spins = spiral(H, 32, 4, 0).float()
    filled = spins.clone()
    filled[:, 10:20] = torch.where(spins[2:, 10:20] < 0, torch.tensor([0.0, 0.0, 1.0])[:, None, None], spins[:, 10:20])
    spins[:, :, :8] = filled[:, :, :8]
    found = pattern(relax(spins[None], H, 20)[0])
    assert found.kind == "broken stripes"
    assert found.share > 0.8
    assert "broken stripes" in found.words


def test_charges_of_the_regions_add_up_in_any_texture():
    spins = anneal(H, 32, 8, schedule=Schedule.geometric(1.0, 0.05, 10).then_relax(100))
    for texture in spins:
        assert sum(core.charge for core in cores(texture)) == round(float(charge(texture)))


def test_a_pattern_does_not_depend_on_where_and_how_it_is_looked_at():
    spins = disc(32, [(8, 8), (8, 24), (24, 10)])
    expected = pattern(spins)
    for element in symmetries(H, 32):
        moved = pattern(torch.roll(element(spins), (13, 29), (-2, -1)))
        assert (moved.kind, moved.skyrmions, moved.bands) == (expected.kind, expected.skyrmions, expected.bands)
        assert moved.charge == pytest.approx(element.charge_sign * expected.charge)
        assert moved.distance == pytest.approx(expected.distance)


def test_a_uniform_texture_is_uniform():
    assert pattern(disc(16, [])).kind == "uniform"
    with pytest.raises(BadInput, match="index the batch"):
        pattern(disc(16, [])[None])


# novelty


def test_a_moved_copy_is_found_whatever_the_symmetry():
    data = anneal(H, (16, 16), 6, schedule=Schedule.relaxation(10))
    moved = random_symmetry(data[[4, 1, 1, 3]], H, np.random.default_rng(3))
    distance, nearest = nearest_texture(moved, data, H)
    assert nearest.tolist() == [4, 1, 1, 3]
    assert float(distance.max()) < 2e-3
    # translations alone are not enough for those that were turned
    assert float(nearest_texture(moved, data, None)[0].max()) > 0.3


@pytest.mark.parametrize("size", [(8, 8), (6, 8)])
@pytest.mark.parametrize("model", [H, Hamiltonian(D=0.6, B=0.1)])
def test_the_distance_is_the_least_over_all_moves(size, model):
    spins = torch.nn.functional.normalize(torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1)), dim=1)
    query, references = spins[:1], spins[1:]
    least = min(
        float((query - torch.roll(element(reference), (down, along), (-2, -1))).square().sum(1).mean().sqrt())
        for reference in references
        for element in symmetries(model, size)
        for down in range(size[0])
        for along in range(size[1])
    )
    assert float(nearest_texture(query, references, model)[0]) == pytest.approx(least, abs=1e-5)


def test_novelty_is_judged_by_the_datas_own_distances():
    data = anneal(H, (16, 16), 12, schedule=Schedule.relaxation(10))
    copy, other = novelty(torch.stack((data[5], spiral(H, 16, 3, 0).float())), data, H, own=12)
    assert not copy.new
    assert (copy.nearest, copy.searched, copy.own) == (5, 12, 12)
    assert "near a training texture" in copy.words
    assert other.new
    assert copy.own_least > 0.2  # itself is passed over
    twins = torch.cat((data, random_symmetry(data, H, np.random.default_rng(1))))
    (bent,) = novelty(relax(data[5:6], H, 1), twins, H, count=24, own=24)
    assert bent.own_least < 2e-3 < bent.distance < 0.25
    assert not bent.new
    with pytest.raises(BadInput, match="lattice"):
        novelty(data, anneal(H, (16, 18), 2, schedule=Schedule.relaxation(1)), H)
    with pytest.raises(BadInput, match="at least 2"):
        novelty(data, data[:1], H)


def test_a_copy_of_the_last_training_texture_is_not_new(tmp_path):
    data = anneal(H, (16, 16), 510, schedule=Schedule.relaxation(30))
    moved = random_symmetry(data[-1:], H, np.random.default_rng(5))
    for copy in (data[-1:], moved):

        def decode(z, copy=copy):
            return copy.expand(len(z), -1, -1, -1)

        few = {"population": 4, "generations": 1, "latent": 2, "inner_relax": 0, "relax": 0}
        found = search(decode, H, "max-mz", reference=data, **few).report["novelty"]
        assert (found["new"], found["nearest"], found["searched"], found["given"]) == (False, 509, 510, 510)
        assert found["distance"] < 2e-3
        some = search(decode, H, "max-mz", reference=data, compared=500, **few).report
        assert some["novelty"]["searched"] == 500
        assert some["novelty"]["distance"] > 0.25
        assert "the nearest of the first 500 of 510 training textures" in " ".join(some["words"])
        # a field breaks a symmetry of the search's, not of the data's
        stored = write_dataset(tmp_path / f"data-{int(copy is moved)}", data[-20:], H)
        found = search(lambda z, f=decode: -f(z), Hamiltonian(D=0.6, B=0.3), "max-mz", reference=stored, **few)
        assert (found.report["novelty"]["new"], found.report["novelty"]["nearest"]) == (False, 19)


@pytest.mark.parametrize("size", [(64, 64), (48, 72)])
@pytest.mark.parametrize("model", [Hamiltonian(D=0.3), Hamiltonian(D=0.3, B=0.01)])
def test_the_coarse_grid_misses_nothing(size, model, monkeypatch):
    data = anneal(model, size, 40, seed=3, schedule=Schedule.geometric(1.0, 0.05, 10).then_relax(60))
    moved = random_symmetry(data[[7, 39]], model, np.random.default_rng(2))
    queries, itself = torch.cat((moved, data[:6])), torch.tensor([-1, -1, *range(6)])
    rough = novelties._grid_of(novelties._transform(queries), size)
    assert 2 * math.prod(rough.sides) <= math.prod(size)
    distance, nearest = nearest_texture(queries, data, model, itself=itself)
    monkeypatch.setattr(novelties, "MISSED", -1.0)
    assert novelties._grid_of(novelties._transform(queries), size).sides == size
    exact, which = nearest_texture(queries, data, model, itself=itself)
    assert nearest[:2].tolist() == [7, 39]
    assert torch.equal(nearest, which)
    assert torch.allclose(distance, exact, atol=2e-3)


def test_what_a_grid_may_miss_is_no_less_than_what_it_misses():
    """Textures and others that are as smooth, moved by half a spacing; the bound is not far above the worst of them."""
    size, spacing = (64, 48), 4
    sides = (size[0] // spacing, size[1] // spacing)
    spins = anneal(Hamiltonian(D=0.2), size, 6, schedule=Schedule.geometric(1.0, 0.05, 10).then_relax(60))
    moved = torch.roll(spins, (spacing // 2, spacing // 2), (-2, -1))
    grid = novelties._Grid(size, sides)
    mine, theirs = novelties._transform(spins), novelties._transform(moved)
    low, others = novelties._Coarse.of(mine, grid), novelties._Coarse.of(theirs, grid)
    for k in range(len(spins)):
        exact = novelties._likeness(mine[k], theirs, size, True)
        missed = exact - novelties._likeness(low.low[k], others.low, sides, True)
        allowed = grid.missed(low, others, k)
        assert float(exact[k]) == pytest.approx(1, abs=1e-5)
        assert (missed <= allowed + 1e-5).all()
        assert float(missed[k]) > 0.5 * float(allowed[k])


def test_settling_straightens_a_bent_spiral_that_alignment_leaves(monkeypatch):
    monkeypatch.setattr(findings, "MOST_BLOCKS", 20)
    at = torch.arange(32)
    bend = 0.8 * torch.sin(2 * math.pi * at / 32)[:, None] + 0.5 * torch.sin(2 * math.pi * at / 32 + 1)
    phase = 2 * math.pi * 2 * at / 32 + (2 * math.pi * 2 * at / 32)[:, None] + bend
    axis = 0.5**0.5
    bent = torch.stack((axis * phase.sin(), axis * phase.sin(), phase.cos()))[None]
    exact = ground_state(H, 32)
    if H.energy(bent)[0] > H.energy(bent * torch.tensor([-1, -1, 1])[:, None, None])[0]:
        bent = bent * torch.tensor([-1, -1, 1])[:, None, None]
    done = settle(bent, H)
    assert float(H.energy(done.double())) == pytest.approx(exact.energy, abs=2e-7)
    aligned = relax(bent, H, 60)
    assert float(H.energy(aligned.double())) > exact.energy + 1e-5
    assert torch.equal(done, settle(bent, H))


@pytest.mark.parametrize("K", [0.3, -0.3])
def test_no_step_of_settling_raises_the_energy_with_an_anisotropy(K):
    model = replace(H, K=K)
    spins = anneal(model, 32, 4, seed=1, schedule=Schedule.geometric(1.0, 0.05, steps=5))
    energy = began = model.energy(spins.double())
    for _ in range(25):
        spins = relax(spins, model, 1, over_relax=findings.OVER_RELAX)
        before, energy = energy, model.energy(spins.double())
        assert float((energy - before).max()) < 1e-7  # of float32 spins, in J a site
    assert float((began - energy).min()) > 1e-3


# the command and the bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that was never trained, and its data."""
    there = tmp_path_factory.mktemp("search")
    data = write_dataset(there / "data", anneal(H, 32, 8, schedule=Schedule.relaxation(20)), H)
    run = make_run()
    config = {
        "objective": "hybrid",
        "networks": {**NETWORKS.__dict__, "size": [32, 32]},
        "training": {"fraction": 0.75},
        "data": {"path": str(there / "data"), "checksum": data.checksum, "hamiltonian": H.as_dict()},
    }
    write_config(there / "run", config)
    write_weights(there / "run", run.nets, 0)
    return there


def call(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    return end.value.code or 0


FEW = ["--population", 6, "--generations", 3, "--inner-relax", 3, "--relax", 5, "--json"]


def test_the_command_leaves_numbers_textures_and_a_picture(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("search", folder / "run", out, "--objective", "max-mz", "--seed", 3, *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["objective"] == ["max-mz"]
    (found,) = told["found"]
    assert len(found["z"]) == 8
    assert told["z"] == [found["z"]]
    assert found["novelty"]["searched"] == 6
    for stage in ("decoded", "relaxed", "settled"):
        data = open_dataset(out / "textures" / stage)
        assert len(data) == 1
        assert float(data[0][2].mean()) == pytest.approx(found["stages"][stage]["mz"], abs=1e-4)
    assert found["value"] == pytest.approx(found["stages"]["relaxed"]["mz"], abs=1e-6)
    assert (out / "found.png").read_bytes().startswith(b"\x89PNG")
    before = contents(out)
    assert call("search", folder / "run", out, "--objective", "max-mz", "--seed", 3, *FEW[:-1]) == 0
    assert "max-mz = " in capsys.readouterr().out
    assert contents(out) == before
    assert call("search", folder / "run", out, "--objective", "min-mz", "--seed", 3, *FEW) == 2
    assert "objective" in capsys.readouterr().err
    assert contents(out) == before


def test_another_reference_is_told_and_drawn(folder, tmp_path, capsys):
    out, few = tmp_path / "out", ["--objective", "max-mz", *FEW]
    asked = ("search", folder / "run", out, *few)
    assert call(*asked) == 0
    first, drawn = json.loads(capsys.readouterr().out), (out / "found.png").read_bytes()
    assert first["reference"]["textures"] == 6
    write_dataset(tmp_path / "other", anneal(H, 32, 5, seed=9, schedule=Schedule.relaxation(40)), H)
    assert call(*asked, "--reference", tmp_path / "other") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["reference"]["textures"] == 5
    assert second["reference"]["checksum"] != first["reference"]["checksum"]
    assert (out / "found.png").read_bytes() != drawn
    before = contents(out)
    assert call(*asked, "--reference", tmp_path / "other") == 0
    assert contents(out) == before
    assert call(*asked, "--compared", 4) == 0
    assert (out / "found.png").read_bytes() == drawn
    told = json.loads((out / SEARCH).read_text())["found"][0]["novelty"]
    assert (told["searched"], told["given"]) == (4, 6)


def test_without_training_data_the_command_says_how_to_compare(folder, tmp_path, capsys):
    """The way out is one: the set that the line makes is the one that the model was trained on."""
    schedule = tmp_path / "SCHEDULE.json"
    schedule.write_text(json.dumps(Schedule.relaxation(20).as_dict()))
    data = sl.simulate(tmp_path / "data", H, 32, 8, seed=3, schedule=Schedule.relaxation(20), show=False)
    info = {name: data.info[name] for name in ("size", "samples", "seed", "shard_size", "origin", "schedule")}
    config = json.loads((folder / "run" / "config.json").read_text())
    packed = tmp_path / "packed"
    write_config(packed, {**config, "data": {"checksum": data.checksum, "hamiltonian": H.as_dict(), **info}})
    write_weights(packed, make_run().nets, 0)
    out, front = tmp_path / "out", tmp_path / "front"
    assert call("search", packed, out, *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = told["found"]
    line = "spinloom simulate DATA --samples 8 --size 32 --D 0.6 --schedule SCHEDULE.json --seed 3"
    why = f"not compared with training data; make them with `{line}` and name them by --reference"
    assert found["novelty"] == {"new": None, "reason": why} and found["words"].count(why) == 1
    assert told["reference"] is None
    before = contents(out)
    assert call("search", packed, out, *FEW[:-1]) == 0
    assert capsys.readouterr().out.count(why) == 1
    assert contents(out) == before
    assert call("search", packed, front, "--objective", "min-energy", "max-mz", *FEW[:-1]) == 0
    said = capsys.readouterr().out
    assert why in said and "?" in said

    again = [str(tmp_path / word) if word in ("DATA", "SCHEDULE.json") else word for word in line.split()[1:]]
    assert call(*again, "--quiet") == 0
    capsys.readouterr()
    assert call("search", packed, out, *FEW, "--reference", tmp_path / "DATA") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reference"]["checksum"] == data.checksum
    assert (told["found"][0]["novelty"]["given"], why in told["found"][0]["words"]) == (6, False)  # the trained share

    write_config(tmp_path / "lost", {**config, "data": {**config["data"], "path": str(tmp_path / "moved")}})
    write_weights(tmp_path / "lost", make_run().nets, 0)
    assert call("search", tmp_path / "lost", tmp_path / "other", *FEW[:-1]) == 0
    assert "not compared with training data; name them by --reference" in capsys.readouterr().out


def test_the_command_finds_a_front(folder, tmp_path, capsys):
    out = tmp_path / "front"
    several = ["--objective", "min-energy", "max-mz"]
    assert call("search", folder / "run", out, *several, *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    values = np.array([member["values"] for member in told["found"]])
    assert unbeaten(values * [1, -1]).all()
    assert (np.diff(values[:, 0]) >= 0).all()
    assert len(open_dataset(out / "textures" / "relaxed")) == len(values)
    assert call("search", folder / "run", out, *several, *FEW[:-1]) == 0
    said = capsys.readouterr().out
    assert "Pareto front" in said
    assert "new: compared with 6 training textures" in said


def test_bad_input_leaves_no_folder(folder, tmp_path, capsys):
    assert call("search", folder / "run", tmp_path / "a", "--objective", "min-beauty") == 2
    assert "min-beauty" in capsys.readouterr().err
    assert call("search", folder / "run", tmp_path / "a", "--reference", tmp_path / "nowhere") == 2
    assert call("search", folder / "run", tmp_path / "a", "--method", "nsga2") == 2
    assert call("search", folder / "run", tmp_path / "a", "--seed", -1) == 2
    assert call("search", folder / "run", tmp_path / "a", "--compared", 1) == 2
    if not torch.cuda.is_available():
        capsys.readouterr()
        assert call("search", folder / "run", tmp_path / "a", "--device", "cuda") == 2
        assert "sees no CUDA GPU" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_the_bench_gives_everybody_the_same_time(monkeypatch, capsys):
    """A clock that goes on with what is asked for, whatever the machine's mood: real searches and annealings behind."""
    now, fields, threads = 0.0, [], bench.available_threads()

    def fake_search(run, model, objective, **asked):
        nonlocal now
        method = asked.get("method", "ga")
        start, each, count = {"ga": (2.0, 0.1, 60), "cma": (1.0, 0.02, 320), "gradient": (0.5, 0.3, 80)}[method]
        ahead = 3.0 if method == "ga" and asked.get("head_start") is None else 0.0
        now += start + ahead + each * (asked.get("generations") or count)
        return search(run, model, objective, **{**asked, **QUICK, "generations": 1})

    def fake_anneal(model, size, samples, seed, schedule):
        nonlocal now
        now += 0.002 * math.ceil(samples / threads) * sum(step.heat_bath for step in schedule.steps)
        fields.append(model.B)
        return anneal(model, size, 2, seed=seed, schedule=Schedule.geometric(1.0, 0.01, 40).then_relax(40))

    def fake_timed(work):
        before = now
        work()
        return now - before

    for name, fake in (("search", fake_search), ("anneal", fake_anneal), ("timed", fake_timed), ("SWEEPS", 20)):
        monkeypatch.setattr(bench, name, fake)
    result = bench.bench_search(make_run(), "max-mz", seeds=2)
    assert set(result["rows"]) == {
        *("genetic", "genetic, no head start", "gradient", "cma"),
        *("annealing, many", "annealing, slow", "annealing in a field"),
    }
    for name, row in result["rows"].items():
        assert len(row["values"]) == 2
        assert row["seconds"] == pytest.approx([11.0, 11.0], abs=0.5), name
    assert set(fields) == {0.0, bench.FIELD * H.D**2}
    assert result["summary"]["annealing in a field"]["best"] > result["summary"]["annealing, many"]["best"]
    bench.print_search(result)
    assert "annealing in a field" in capsys.readouterr().out
    with pytest.raises(BadInput, match="nothing to race"):
        bench.bench_search(make_run(), "min-nodal")


def test_pictures_show_what_is_known():
    data = anneal(H, 32, 6, schedule=Schedule.relaxation(9))
    found = search(make_run(), objective="max-mz", reference=data, **QUICK)
    assert found.goal == "max-mz"
    assert torch.allclose(found.data.float(), data[:, 2].mean((-2, -1)), atol=1e-6)
    texts = [text.get_text() for ax in found_figure(found).axes for text in ax.texts]
    assert {"decoded", "after 5 sweeps", "settled"} <= set(texts)
    course = found_figure(found).axes[4]
    low, high = course.get_ylim()
    assert low < found.history["mean"].min() and found.history["mean"].max() < high
    course.figure.canvas.draw()
    assert course.get_legend().get_window_extent().y0 >= course.bbox.y1  # it covers nothing
    unknown = found_figure(search(make_run("gan", None), objective="max-mz", population=4, generations=2))
    assert len(unknown.axes) == 3  # the texture, the wheel, the course
    front = search(make_run(), objective=("min-energy", "max-mz"), reference=data, **QUICK)
    assert front.data.shape == (6, 2)
    drawn = front_figure(front)
    assert len(drawn.axes) == min(6, len(front.z)) + 2
    assert "exact ground state" in [line.get_label() for line in drawn.axes[-2].get_lines()]


def test_gradient_returns_the_best_of_its_way():
    """The slopes point away from the minimum: every step is worse than the start."""
    method = search_methods.gradient(np.array([[0.5, 0.0], [0.0, -0.5]]), 4.0, 5)
    codes, _ = next(method)
    start = codes.copy()
    for _ in range(4):
        codes, _ = method.send(((codes**2).sum(1, keepdims=True), -2 * codes))
    with pytest.raises(StopIteration) as end:
        method.send(((codes**2).sum(1, keepdims=True), -2 * codes))
    assert np.array_equal(end.value.value, start)


def test_what_only_balances_does_not_win():
    """Uniform spins are at rest with the largest M_z, and fall from there when kicked; annealed textures come back."""
    up = torch.zeros(1, 3, 32, 32)
    up[:, 2] = 1
    wanted = goals("max-mz", make_run(), H)
    config = resolved(SearchConfig(nodal_weight=0), wanted, tilted, 4, H)
    judge = optimising.Judge(tilted, wanted, config, H, torch.ones(1))
    assert float(relax(up, H, 20, over_relax=4)[:, 2].mean()) > 0.99
    assert float(judge.of_spins(up, 20)) > -0.3
    rest = anneal(H, 32, 4, seed=3)
    assert torch.allclose(judge.of_spins(rest, 20)[:, 0].float(), -rest[:, 2].mean((-2, -1)), atol=5e-3)


def test_patches_are_exchanged_and_nothing_is_lost():
    parents = np.arange(2 * 3 * 4 * 6).reshape(2, -1)
    for seed in range(20):
        one, other = search_methods.exchange_patches(parents, (4, 6), np.random.default_rng(seed))
        assert sorted([*one, *other]) == list(range(parents.size))
        grids = one.reshape(3, 4, 6), other.reshape(3, 4, 6)
        for grid in grids:  # whole cells: all three numbers of one are from one place of one parent
            assert (np.diff(grid, axis=0) == 24).all()
        kept = one.reshape(3, 4, 6)[0] == parents[0].reshape(3, 4, 6)[0]
        patch = ~kept
        assert patch.sum() == patch.any(1).sum() * patch.any(0).sum()


def test_a_grid_of_codes_is_searched_to_the_same_bits_too():
    grid = replace(NETWORKS, latent=32, grid=True)
    nets = build_networks(grid, OBJECTIVES["hybrid"]().players, seed=5)
    for net in nets.values():
        net.eval().requires_grad_(False)
    run = Run(Path("somewhere"), 7, {"objective": "hybrid"}, grid, H, nets)
    first, second = (search(run, objective="max-mz", seed=3, **QUICK) for _ in range(2))
    assert torch.equal(first.z, second.z)


def test_fitting_counts_what_fits():
    assert bench.fitting(lambda count: 3.0 + 0.5 * count, 20.0) == 34
    assert bench.fitting(lambda count: 3.0 + 0.5 * count, 1.0) == 1
    # a short try that was held up by something else does not make rounds look free
    moods = iter((5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert bench.fitting(lambda count: 0.1 * count + next(moods), 40.0) < 1000


def test_the_methods_ask_the_same_when_told_the_same():
    start = np.random.default_rng(0).normal(size=(6, 3))
    for method in (
        lambda: search_methods.genetic(start, 4.0, 1, 1, 5),
        lambda: search_methods.covariance(start, 4.0, 1, 6, 5),
        lambda: search_methods.gradient(start, 4.0, 5),
        lambda: search_methods.genetic_with_head_start(start, 2, 2, 4.0, 1, 5),
    ):
        first, second = method(), method()
        one, other = next(first), next(second)
        for _ in range(4):
            assert np.array_equal(one[0], other[0])
            told = (one[0].sum(1, keepdims=True), 2 * one[0])
            one, other = first.send(told), second.send(told)


@pytest.mark.parametrize(
    ("objective", "value", "theirs", "words"),
    [
        ("min-energy", -0.1000000004, [-0.1, -0.05], "it lies as low as the lowest of them, "),
        ("max-charge", 3.0000004, [-1.0, 3.0], "it lies as high as the highest of them, "),
        ("min-skyrmions", 1.3e-7, [2e-8, 5.0], "it lies as low as the lowest of them, "),
        ("min-energy", -0.101, [-0.1, -0.05], "it lies beyond them all, "),
        ("min-energy", -0.07, [-0.1, -0.05], "it lies 0."),
        ("max-charge", 2e-7, [0.0, 1e-7], "it lies at their value"),
    ],
)
def test_rounding_does_not_put_a_value_beyond_the_trainings(objective, value, theirs, words):
    (goal,) = goals(objective, None, Hamiltonian(1.0, 0.3))
    report: dict = {"words": []}
    _beside_data(report, goal, value, torch.tensor(theirs, dtype=torch.float64))
    assert words in report["words"][0]
    assert ("beyond" in report["words"][0]) == ("beyond" in words)


def test_words_are_without_zeros_and_means_of_two():
    few = Pattern("skyrmions among stripes", (1, 2), 0.4, -2.0, 2, 0, 0, 11.0, 0.0)
    assert few.words == "skyrmions among stripes: 2 skyrmions, Q = -2"
    many = Pattern("skyrmion lattice", (1, 2), 0.4, -9.0, 9, 9, 1, 11.0, 0.04)
    assert (
        many.words == "a skyrmion lattice: 9 skyrmions (9 round), 1 band around the box, Q = -9, 11.0 ± 0.0 sites apart"
    )
    broken = Pattern("broken stripes", (1, 2), 0.9, 1.0, 1, 0, 0, None, None)
    assert broken.words == "broken stripes: 90.0% of the structure factor in q = ±2π(1, 2)/L, Q = 1"
    assert findings._norm_words(1.0, -0.02) == "‖z‖ = 1.00 √n, as long as the prior's"
    assert findings._norm_words(1.1, 1.26) == "‖z‖ = 1.10 √n, 1.3 standard deviations of the prior above"
    line = findings._line({"energy_excess": -0.1, "mz": -1.5571e-9, "charge": -1e-9, "nodal_points": 0.0})
    assert line == "ε = -0.100000, M_z = 0, Q = 0, no nodal points"


def test_counts_and_means_of_unit_spins_are_whole_up_to_rounding_and_energies_as_they_are():
    spins = torch.zeros(1, 3, 8, 8)
    spins[:, 0] = 1.0
    spins[:, 2, 0, 0] = 1e-7
    H = Hamiltonian(1.0, 0.3)
    (mz,), (energy,) = goals("max-mz", None, H), goals("min-energy", None, H)
    assert str(float(mz.of(spins))) == "0.0" and str(float(mz.of(-spins))) == "0.0"
    assert float(energy.of(spins)) == float(H.energy_excess(spins.double()))
    assert [whole_charge(value) for value in (-2.9999999, 0.4, 3.0)] == [-3.0, 0.4, 3.0]
    assert str(whole_charge(-1e-9)) == "0.0"


def test_what_is_found_and_a_run_are_a_line_to_read():
    run = make_run()
    assert repr(run) == f"Run({str(run.path)!r}: {run.objective}, step {run.step}, 32 × 32)"
    spins = torch.zeros(3, 32, 32)
    report = {"pattern": {"kind": "stripes"}}
    one = Found(torch.zeros(8), spins, -0.1234567, {}, spins, spins, report, "min-energy")
    assert repr(one) == "Found(min-energy = -0.123457: stripes)"
    goals_, many = ("min-energy", "max-mz"), spins[None].repeat(2, 1, 1, 1)
    front = Front(goals_, torch.zeros(2, 8), many, torch.zeros(2, 2), {}, many, many, (report, report))
    assert repr(front) == "Front(min-energy, max-mz, 2 textures: stripes)"
