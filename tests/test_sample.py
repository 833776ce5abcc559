"""Samplers on targets that are known, and samples that do not depend on how many are asked for."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.objectives import OBJECTIVES
from spinloom.run import Run, build_networks
from spinloom.sample import CHUNK, DDLS, TEMPERATURE, drive, effective_slope, prior_latents, reconstruct, sample

NETWORKS = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8)


def make_run(objective: str, hamiltonian: Hamiltonian | None = None) -> Run:
    nets = build_networks(NETWORKS, OBJECTIVES[objective]().players, seed=5)
    for net in nets.values():
        net.eval().requires_grad_(False)
    return Run(Path("somewhere"), 7, {"objective": objective}, NETWORKS, hamiltonian, nets)


def ks_distance(values: np.ndarray, cdf) -> float:
    """Kolmogorov–Smirnov distance of a sample from a law."""
    ordered = np.sort(values)
    exact = np.array([cdf(v) for v in ordered])
    n = len(ordered)
    return float(max((np.arange(1, n + 1) / n - exact).max(), (exact - np.arange(n) / n).max()))


def normal_cdf(mean: float, spread: float):
    return lambda v: 0.5 * (1 + math.erf((v - mean) / (spread * math.sqrt(2))))


def test_prior_latents_are_standard_normal_and_independent():
    z = prior_latents(seed=0, count=4000, latent=5).double()
    n = z.numel()
    assert abs(float(z.mean())) < 4 / math.sqrt(n)
    assert abs(float(z.var()) - 1) < 4 * math.sqrt(2 / n)
    assert ks_distance(z.flatten().numpy(), normal_cdf(0, 1)) < 1.95 / math.sqrt(n)  # p > 0.001
    correlation = np.corrcoef(z.numpy().T) - np.eye(5)
    assert np.abs(correlation).max() < 4 / math.sqrt(4000)
    along = (z[:-1] * z[1:]).mean()
    assert abs(float(along)) < 4 / math.sqrt(n)


def test_a_code_belongs_to_its_seed_and_number():
    many = prior_latents(3, 100, 8)
    assert torch.equal(prior_latents(3, 10, 8, first=40), many[40:50])
    assert not torch.equal(prior_latents(4, 100, 8), many)
    assert len(torch.unique(many)) > 790


@pytest.mark.parametrize("step_size", [0.05, 0.4])
def test_langevin_draws_from_prior_times_odds_at_any_step_size(step_size):
    """decode(z) = z and logit(x) = −(x − a)²/(2 s²) make the target normal: precision 1 + 1/s², mean a/(1 + s²)."""
    a, s = 2.0, 0.8
    n, dimensions = 4000, 2

    def logit(x):
        return -((x - a) ** 2).sum(1) / (2 * s**2)

    z = prior_latents(1, n, dimensions).double()
    z = drive(z, lambda z: z, logit, DDLS("langevin", 120 if step_size < 0.1 else 60, step_size), seed=1)
    precision = 1 + 1 / s**2
    mean, spread = a / s**2 / precision, precision**-0.5
    for dimension in range(dimensions):
        values = z[:, dimension].numpy()
        assert abs(values.mean() - mean) < 4 * spread / math.sqrt(n)
        assert ks_distance(values, normal_cdf(mean, spread)) < 1.95 / math.sqrt(n)  # p > 0.001
    assert abs(np.corrcoef(z.numpy().T)[0, 1]) < 4 / math.sqrt(n)


def test_langevin_on_a_target_that_is_not_normal():
    """logit(x) = 3 cos 2x: the density exp(−x²/2 + 3 cos 2x) by numerical integration."""
    n = 4000
    z = prior_latents(2, n, 1).double()
    z = drive(z, lambda z: z, lambda x: 3 * torch.cos(2 * x).sum(1), DDLS("langevin", 400, 0.15), seed=2)
    grid = np.linspace(-8, 8, 40_001)
    density = np.exp(-(grid**2) / 2 + 3 * np.cos(2 * grid))
    cumulative = np.cumsum(density) / density.sum()
    # three hills behind barriers of 6: the weight of each is the prior's, hardly changed by crossing
    inside = np.abs(z.numpy()) < np.pi / 2
    within = (np.abs(grid) < np.pi / 2) & True
    values = z.numpy()[inside]
    conditional = np.cumsum(np.where(within, density, 0)) / density[within].sum()
    assert ks_distance(values, lambda v: float(np.interp(v, grid, conditional))) < 1.95 / math.sqrt(len(values))
    assert cumulative[-1] == pytest.approx(1)


def test_without_its_accept_step_langevin_would_be_biased():
    """The same chain unadjusted has variance 1/(p(1 − αp/2)) for precision p: the test above can tell."""
    alpha, n = 0.4, 4000
    precision = 1 + 1 / 0.8**2
    unadjusted = 1 / (precision * (1 - alpha * precision / 2))
    assert unadjusted * precision > 1 + 10 * math.sqrt(2 / n)


def test_ascent_climbs_and_ends_where_the_logit_is_highest():
    peak = torch.tensor([1.0, -2.0, 0.5])
    seen = []
    z = drive(
        prior_latents(0, 20, 3),
        lambda z: z,
        lambda x: -((x - peak) ** 2).sum(1),
        DDLS("ascent", 100, 0.1),
        watch=lambda step, z, logits: seen.append(logits),
    )
    logits = torch.stack(seen)
    assert len(seen) == 100
    assert (logits[1:] >= logits[:-1] - 1e-6).all()
    assert torch.allclose(z, peak.expand(20, 3), atol=1e-5)


def test_ascent_raises_a_real_networks_logit():
    run = make_run("hybrid")
    start = prior_latents(0, 16, 8)
    end = drive(start, run.generator, run.discriminator, DDLS("ascent", 20, 0.05))
    before, after = (run.discriminator(run.generator(z)) for z in (start, end))
    assert (after > before).all()


def test_the_effective_slope_is_the_steepest_chord():
    def line(x):
        return x @ torch.tensor([3.0, -4.0])

    assert effective_slope(lambda z: z[:, :1], lambda x: 2.5 * x[:, 0], 1) == pytest.approx(2.5, rel=1e-5)
    assert 4.8 < effective_slope(lambda z: z, line, 2) <= 5 + 1e-5  # |w|, which some of 100 chords run along
    assert effective_slope(lambda z: z, line, 2, seed=1) != effective_slope(lambda z: z, line, 2)


def test_dot_ends_where_the_pull_of_the_start_balances_the_logit():
    """In one dimension, logit −c(x − a)²/2: moving pays while c|x − a|/K > 1, so it stops K/c before a, or stays."""
    a, c = 1.5, 3.0

    def logit(x):
        return -c * (x[:, 0] - a) ** 2 / 2

    short = effective_slope(lambda z: z, logit, 1) / c
    start = torch.linspace(-6, 6, 41)[:, None]
    end = drive(start, lambda z: z, logit, DDLS("dot", 2500, 0.01))
    expected = torch.where((start - a).abs() > short, a + (start - a).sign() * short, start)
    assert (start - a).abs().max() > short  # or nothing would move
    # steps of 0.01 along a gradient of up to 2 rattle about the kink at the start
    assert torch.allclose(end, expected, atol=0.03)


def test_dot_stays_on_its_sphere_and_stops_at_the_angle_of_balance():
    """Logit |x|² x·p, p a direction: at the angle θ from z₀, p at φ, where K cos(θ/2) = R² sin(φ − θ)."""
    radius, phi = 5.0, 2.0
    peak = torch.tensor([math.cos(phi), math.sin(phi)])

    def logit(x):
        return x.square().sum(1) * (x @ peak)

    steepest = effective_slope(lambda z: z, logit, 2)
    end = drive(torch.tensor([[radius, 0.0]]), lambda z: z, logit, DDLS("dot", 1500, 0.1))
    assert float(end.norm()) == pytest.approx(radius, rel=1e-5)
    angle = float(torch.atan2(end[0, 1], end[0, 0]))
    assert 0.3 < angle < phi - 0.2
    assert steepest * math.cos(angle / 2) == pytest.approx(radius**2 * math.sin(phi - angle), rel=1e-3)


def test_dgflow_settles_into_the_law_of_its_recursion():
    """For logit −(x − a)²/(2 s²) its steps are an AR(1) process of variance γ s²/(1 − α/(2 s²)) about a."""
    a, s, alpha, n = 0.7, 0.5, 0.1, 4000
    start = prior_latents(3, n, 2).double()
    end = drive(start, lambda z: z, lambda x: -((x - a) ** 2).sum(1) / (2 * s**2), DDLS("dgflow", 60, alpha), seed=3)
    spread = (TEMPERATURE * s**2 / (1 - alpha / (2 * s**2))) ** 0.5
    for values in end.numpy().T:
        assert ks_distance(values, normal_cdf(a, spread)) < 1.95 / math.sqrt(n)  # p > 0.001
        assert ks_distance(values, normal_cdf(a, TEMPERATURE**0.5 * s)) > 1.95 / math.sqrt(n)  # and not of α → 0
    assert abs(np.corrcoef(end.numpy().T)[0, 1]) < 4 / math.sqrt(n)


@pytest.mark.parametrize(
    ("method", "rule"), [("prior", "ascent"), *(("ddls", rule) for rule in ("ascent", "langevin", "dot", "dgflow"))]
)
def test_a_sample_does_not_depend_on_how_many_are_asked_for(method, rule):
    run = make_run("hybrid")
    few = sample(run, 3, method, rule, steps=4, seed=9)
    many = sample(run, CHUNK + 7, method, rule, steps=4, seed=9)
    assert few.shape == (3, 3, 32, 32)
    assert torch.equal(few, many[:3])
    assert not torch.equal(few, sample(run, 3, method, rule, steps=4, seed=10))
    assert torch.allclose(many.norm(dim=1), torch.ones(len(many), 32, 32), atol=1e-5)


def test_sampling_leaves_the_networks_as_they_were():
    run = make_run("hybrid")
    before = {name: value.clone() for name, value in run.generator.state_dict().items()}
    before |= {name: value.clone() for name, value in run.discriminator.state_dict().items()}
    sample(run, 5, "ddls", steps=3)
    after = run.generator.state_dict() | run.discriminator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_relaxed_samples_lie_lower():
    H = Hamiltonian(D=0.6)
    run = make_run("gan", H)
    plain, relaxed = sample(run, 4, seed=1), sample(run, 4, seed=1, relax=5)
    assert (H.energy(relaxed) < H.energy(plain)).all()


def test_reconstruct_keeps_shapes():
    run = make_run("vae")
    spins = sample(run, 4)
    assert reconstruct(run, spins).shape == spins.shape
    with pytest.raises(BadInput, match="lattice"):
        reconstruct(run, torch.zeros(1, 3, 40, 32))


@pytest.mark.parametrize(
    ("objective", "arguments", "says"),
    [
        ("vae", {"method": "ddls"}, "no discriminator"),
        ("gan", {"count": 0}, "count=0"),
        ("gan", {"relax": 3}, "unknown Hamiltonian"),
        ("gan", {"method": "ddls", "step_size": math.nan}, "step_size=nan"),
        ("gan", {"method": "ddls", "steps": 0}, "steps=0"),
        ("gan", {"seed": -1}, "seed=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(objective, arguments, says):
    with pytest.raises(BadInput, match=says):
        sample(make_run(objective), **{"count": 2, **arguments})


def test_a_gan_has_no_encoder():
    with pytest.raises(BadInput, match="no encoder"):
        reconstruct(make_run("gan"), torch.zeros(1, 3, 32, 32))
