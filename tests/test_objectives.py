"""Every player's applied gradient is the gradient of its own loss alone, and the losses are the paper's."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spinloom as sl
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.networks import NetworkConfig
from spinloom.objectives import (
    GAN,
    VAE,
    Draw,
    EnergyLevel,
    Hybrid,
    Rest,
    fake_loss,
    kl_divergence,
    r1_penalty,
    real_loss,
    reconstruction_error,
    separate_gradients,
    spectral_distance,
)
from spinloom.run import build_networks
from spinloom.train import update

CONFIG = NetworkConfig(size=(32, 32), latent=6, generator=4, discriminator=4, encoder=4, widest=8)
BATCH = 4


def scene(objective, dtype=torch.float64):
    nets = build_networks(CONFIG, objective.players, seed=3)
    for net in nets.values():
        net.to(dtype)
    torch.manual_seed(0)
    spins = F.normalize(torch.randn(BATCH, 3, 32, 32, dtype=dtype), dim=1)
    return nets, spins, Draw(*torch.randn(2, BATCH, 6, dtype=dtype))


def log_sigmoid(x):
    return torch.log(torch.sigmoid(x))


H = Hamiltonian(D=0.6)
LEVEL, SCALE = -0.5, 0.3


def own_loss(
    name,
    player,
    nets,
    spins,
    draw,
    r1=0.0,
    instance_noise=0.0,
    energy=0.0,
    above=None,
    rest=0.0,
    still=None,
    spectrum=0.0,
):
    """Eqs. (1)–(3) written out again for one player, from networks called anew."""
    beta, gamma = 0.03, 0.2

    def judge(*shown):
        x = torch.cat(shown)
        generator = torch.Generator().manual_seed(draw.seed)
        return nets["discriminator"](x + instance_noise * torch.randn(x.shape, generator=generator, dtype=x.dtype))

    def physics(x):
        """The energies of sites, half of every bond's at either end, above the level, in units of the scale."""
        right, up = torch.roll(x, -1, 3), torch.roll(x, -1, 2)
        along = -(x * right).sum(1) - H.D * torch.linalg.cross(x, right, dim=1)[:, 1]
        upward = -(x * up).sum(1) + H.D * torch.linalg.cross(x, up, dim=1)[:, 0]
        sites = (along + along.roll(1, 2) + upward + upward.roll(1, 1)) / 2
        loss = energy * ((sites - LEVEL) * (sites > LEVEL)).mean() / SCALE
        if rest:
            led = sl.relax(x.detach(), H, still.sweeps).double()
            loss = loss + rest * ((x - led) ** 2).sum((1, 2, 3)).mean() / x[0].numel()
        return loss

    def spread(fakes):
        """The energy distance, pair by pair."""

        def amplitudes(x):
            power = torch.fft.fft2(x).abs().square().sum(0).flatten()
            return (power / power.sum()).sqrt()

        f, g = [amplitudes(x) for x in fakes], [amplitudes(x) for x in spins]
        between = sum((a - b).norm() for a in f for b in g) / len(f) / len(g)
        inner = [sum((a - b).norm() for i, a in enumerate(s) for b in s[:i]) / math.comb(len(s), 2) for s in (f, g)]
        return spectrum * (2 * between - sum(inner))

    def roughness():
        x = spins.clone().requires_grad_()
        logits = nets["discriminator"](x)
        each = [torch.autograd.grad(logits[i], x, create_graph=True)[0][i] for i in range(len(x))]
        return r1 / 2 * torch.stack([(slope**2).sum() for slope in each]).mean()

    if name != "gan":
        mu, logvar = nets["encoder"](spins)
        z = mu + torch.exp(logvar / 2) * draw.noise
    if name == "vae":
        x = nets["generator"](z)
    elif name == "gan":
        fake = nets["generator"](draw.prior)
    else:
        both = nets["generator"](torch.cat((z, draw.prior)))
        x, fake = both[:BATCH], both[BATCH:]
    if name != "gan":
        n = spins[0].numel()
        vae = ((spins - x) ** 2).sum((1, 2, 3)).mean() / n
        vae = vae + beta * (-0.5 * (1 + logvar - mu**2 - torch.exp(logvar))).sum(1).mean()
        if name == "vae" or player == "encoder":
            return vae
    if name == "gan":
        judged = judge(spins, fake)
        real, p = judged[:BATCH], judged[BATCH:]
        if player == "discriminator":
            return -log_sigmoid(real).mean() - log_sigmoid(-p).mean() + (roughness() if r1 else 0)
        return -log_sigmoid(p).mean() + physics(fake) + spread(fake)
    judged = judge(spins, x, fake)
    real, r, p = judged[:BATCH], judged[BATCH : 2 * BATCH], judged[2 * BATCH :]
    if player == "discriminator":
        loss = -log_sigmoid(real).mean() - 0.5 * log_sigmoid(-p).mean() - 0.5 * log_sigmoid(-r).mean()
        return loss + (roughness() if r1 else 0)
    return vae + gamma * (-0.5 * log_sigmoid(p).mean() - 0.5 * log_sigmoid(r).mean()) + physics(both) + spread(fake)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"r1": 0.7},
        {"instance_noise": 0.3},
        {"energy": 0.5, "above": EnergyLevel(H, LEVEL, SCALE)},
        {"rest": 0.7, "still": Rest(H, 3)},
        {"spectrum": 0.4},
        {"rest": 0.7, "still": Rest(H, 3), "spectrum": 0.4},
        {"r1": 0.7, "instance_noise": 0.3, "energy": 0.5, "above": EnergyLevel(H, LEVEL, SCALE), "spectrum": 0.4},
    ],
    ids=["paper", "r1", "noise", "energy", "rest", "spectrum", "rest and spectrum", "four together"],
)
@pytest.mark.parametrize(
    ("name", "kind", "player"),
    [
        ("vae", VAE, "encoder"),
        ("vae", VAE, "generator"),
        ("gan", GAN, "discriminator"),
        ("gan", GAN, "generator"),
        ("hybrid", Hybrid, "discriminator"),
        ("hybrid", Hybrid, "encoder"),
        ("hybrid", Hybrid, "generator"),
    ],
)
def test_the_applied_gradient_is_that_of_the_players_own_loss(name, kind, player, more):
    objective = kind(beta=0.03, gamma=0.2, **more)
    nets, spins, draw = scene(objective)
    state = {p: {k: v.clone() for k, v in net.state_dict().items()} for p, net in nets.items()}

    applied = {}

    class Recorder(torch.optim.SGD):
        """Keeps what it is handed."""

        def step(self, closure=None):
            name = self.param_groups[0]["name"]
            applied[name] = [p.grad.clone() for p in self.param_groups[0]["params"]]

    optimisers = {p: Recorder([{"params": list(net.parameters()), "name": p}], lr=1.0) for p, net in nets.items()}
    update(nets, optimisers, objective, spins, draw)

    for p, net in nets.items():  # the same state, batch and spectral norm's vectors included
        net.load_state_dict(state[p])
    loss = own_loss(name, player, nets, spins, draw, **more)
    expected = torch.autograd.grad(loss, list(nets[player].parameters()))
    if more:  # both ways of this package too
        for p, net in nets.items():
            net.load_state_dict(state[p])
        slow = separate_gradients(nets, objective.players, objective.losses(nets, spins, draw))
        for one, other in zip(slow[player], expected, strict=True):
            assert torch.allclose(one, other, atol=1e-9)
    assert any(g.abs().max() > 1e-4 for g in expected)
    for got, want in zip(applied[player], expected, strict=True):
        assert (got - want).abs().max() <= 1e-6 * max(1.0, float(want.abs().max()))


def test_energy_is_felt_at_sites_above_the_level_alone():
    up = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    up[:, 2] = 1.0  # −2 a site
    up[1, 2, 3, 3] = -1.0  # four bonds of +1 for −1: its energy is +2, each neighbour's −1
    assert float(EnergyLevel(H, -2.0).excess(up[:1])) == 0.0
    assert float(EnergyLevel(H, -1.5).excess(up)) == pytest.approx((3.5 + 4 * 0.5) / 64 / 2, rel=1e-12)
    assert float(EnergyLevel(H, -1.0, 0.1).excess(up)) == pytest.approx(3 / 64 / 2 / 0.1, rel=1e-12)
    assert float(EnergyLevel(H, 2.0).excess(up)) == 0.0


def test_data_at_rest_are_at_no_distance_and_others_are():
    """A spiral on a lattice that it fits is a stationary state; one site turned around is 4/N away, and comes back."""
    at_rest = sl.ground_state(H, 32).spins[None].double()
    assert float(Rest(H, 20).distance(at_rest)) < 1e-9
    flipped = at_rest.clone()
    flipped[..., 5, 7] *= -1
    flipped.requires_grad_()
    distance = Rest(H, 1).distance(flipped)
    assert distance.item() == pytest.approx(4 / flipped.numel(), rel=0.05)
    (slope,) = torch.autograd.grad(distance, flipped)
    led = sl.relax(flipped.detach(), H, 1).double()
    assert torch.allclose(slope, 2 * (flipped.detach() - led) / flipped.numel(), atol=1e-12)  # and none through it
    assert torch.isnan(Rest(H).distance(torch.full((1, 3, 8, 8), torch.nan)))


def test_the_spectral_distance_tells_distributions_apart_and_not_places():
    cooled = sl.Schedule.geometric(1, 0.1, steps=20).then_relax(20)
    labyrinths = sl.anneal(H, 16, 960, seed=0, schedule=cooled).double()
    # the mean over independent halves of one distribution is 0 within its standard error
    found = torch.stack([spectral_distance(*part.chunk(2)) for part in labyrinths.split(24)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / len(found) ** 0.5 < 0.1
    # one direction out of the four that the symmetry makes alike
    up = torch.stack([sl.ground_state(H, 16).spins.roll((k, 3 * k), (1, 2)) for k in range(16)]).double()
    across = torch.stack([turned(x) for x in up])
    both, again = torch.cat((up[:8], across[:8])), torch.cat((up[8:], across[8:]))
    assert float(spectral_distance(up, labyrinths[:16])) > 0.1
    assert float(spectral_distance(up, both)) > 0.1 > float(spectral_distance(again, both))
    # neither the place of a texture nor their order matters
    moved = torch.stack([x.roll((k, 5 * k), (1, 2)) for k, x in enumerate(labyrinths[:12])]).flip(0)
    there, here = spectral_distance(moved, up), spectral_distance(labyrinths[:12], up)
    assert float(there) == pytest.approx(float(here), abs=1e-6)


def turned(spins):
    """A quarter turn of lattice and spins about z, one of the Hamiltonian's symmetries."""
    x, y, z = spins.rot90(1, (2, 1))
    return torch.stack((-y, x, z))


def test_r1_of_a_linear_discriminator_is_its_weights_square():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 32 * 32, dtype=torch.float64).reshape(3, 32, 32))

        def forward(self, spins):
            return (self.weight * spins).sum((1, 2, 3))

    judge = Linear()
    penalty = r1_penalty(judge, scene(GAN())[1])
    assert float(penalty.detach()) == pytest.approx(float(judge.weight.detach().square().sum()), rel=1e-12)
    (slope,) = torch.autograd.grad(penalty, [judge.weight])
    assert torch.allclose(slope, 2 * judge.weight.detach())


def test_the_encoder_does_not_feel_the_discriminator():
    nets, spins, draw = scene(Hybrid())
    weak, strong = Hybrid(gamma=0.0), Hybrid(gamma=50.0)
    saved = {p: {k: v.clone() for k, v in net.state_dict().items()} for p, net in nets.items()}
    found = []
    for objective in (weak, strong):
        for p, net in nets.items():
            net.load_state_dict(saved[p])
        found.append(separate_gradients(nets, objective.players, objective.losses(nets, spins, draw)))
    for a, b in zip(found[0]["encoder"], found[1]["encoder"], strict=True):
        assert torch.equal(a, b)
    assert any(not torch.allclose(a, b) for a, b in zip(found[0]["generator"], found[1]["generator"], strict=True))


def test_all_players_move_from_one_state():
    objective = Hybrid()
    nets, spins, draw = scene(objective)
    before = {p: [q.clone() for q in net.parameters()] for p, net in nets.items()}
    expected = separate_gradients(nets, objective.players, objective.losses(nets, spins, draw))
    nets, spins, draw = scene(objective)
    update(
        nets,
        {p: torch.optim.SGD(net.parameters(), lr=0.5) for p, net in nets.items()},
        objective,
        spins,
        draw,
    )
    for player, net in nets.items():
        for now, then, gradient in zip(net.parameters(), before[player], expected[player], strict=True):
            assert torch.allclose(now, then - 0.5 * gradient, atol=1e-10)


@pytest.mark.parametrize("kind", [VAE, GAN, Hybrid])
def test_in_bfloat16_a_player_enters_autocast_once_and_one_pass_is_the_separate_ones(kind, monkeypatch):
    objective = kind(gamma=0.2, precision="bfloat16")
    nets, spins, draw = scene(objective, torch.float32)
    together, _ = objective.gradients(nets, spins, draw)
    entered = []

    class Counted(torch.autocast):
        def __enter__(self):
            entered.append(self._enabled)
            return super().__enter__()

    nets, spins, draw = scene(objective, torch.float32)  # an own pass moves the spectral norms
    monkeypatch.setattr(torch, "autocast", Counted)
    losses = objective.losses(nets, spins, draw)
    assert sum(entered) == len(objective.players)
    apart = separate_gradients(nets, objective.players, losses)
    for player, gradients in together.items():
        one, other = (torch.cat([g.flatten() for g in every]) for every in (gradients, apart[player]))
        assert one.dtype == torch.float32
        assert float((one - other).norm()) < 0.02 * float(other.norm())


@pytest.mark.parametrize("kind", [GAN, Hybrid])
@pytest.mark.parametrize("shift", [-30.0, -120.0])
def test_one_pass_holds_for_fakes_found_out_beyond_doubt(kind, shift):
    """Where σ(logit)/n is next to nothing in float32, or nothing at all, the generator's pull is still 1/n a fake."""
    objective = kind(gamma=0.2)
    found = []
    for way in (lambda *seen: objective.gradients(*seen)[0], None):
        nets, spins, draw = scene(objective, torch.float32)
        with torch.no_grad():
            nets["discriminator"].last.bias += shift
        if way is None:
            found.append(separate_gradients(nets, objective.players, objective.losses(nets, spins, draw)))
        else:
            found.append(way(nets, spins, draw))
    for player in objective.players:
        one, other = (torch.cat([g.flatten() for g in gradients[player]]) for gradients in found)
        assert float(other.norm()) > 1e-3
        assert float((one - other).norm()) < 1e-4 * float(other.norm())


def test_kl_is_the_closed_form_and_the_integral():
    torch.manual_seed(0)
    mu, logvar = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    q = torch.distributions.Normal(mu, (logvar / 2).exp())
    closed = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert kl_divergence(mu, logvar) == pytest.approx(float(closed), rel=1e-12)
    x = torch.linspace(-30, 30, 200_001, dtype=torch.float64)[:, None, None]
    p = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    integrand = q.log_prob(x).exp() * (q.log_prob(x) - p.log_prob(x))
    assert kl_divergence(mu, logvar) == pytest.approx(
        float(torch.trapezoid(integrand, x, dim=0).sum(1).mean()), rel=1e-6
    )
    assert kl_divergence(torch.zeros(4, 7), torch.zeros(4, 7)) == 0


def test_logistic_losses_at_ordinary_and_extreme_logits():
    logits = torch.linspace(-15, 15, 31, dtype=torch.float64)
    assert real_loss(logits) == pytest.approx(float(-torch.log(torch.sigmoid(logits)).mean()), rel=1e-9)
    assert fake_loss(logits) == pytest.approx(float(-torch.log(1 - torch.sigmoid(logits)).mean()), rel=1e-6)
    for big in (1e4, 1e30):
        wrong = torch.tensor([-big], requires_grad=True)
        loss = real_loss(wrong)
        (slope,) = torch.autograd.grad(loss, wrong)
        assert float(loss.detach()) == pytest.approx(big)
        assert float(slope) == -1.0
        assert real_loss(-wrong).item() == 0.0
        assert fake_loss(wrong).item() == 0.0
        assert float(fake_loss(-wrong)) == pytest.approx(big)
    assert float(real_loss(torch.zeros(3))) == pytest.approx(math.log(2))


def test_the_reconstruction_error_of_unrelated_spins_is_two_thirds():
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(40, 3, 32, 32), dim=1) for _ in range(2))
    assert reconstruction_error(a, b) == pytest.approx(2 / 3, abs=0.01)
    assert reconstruction_error(a, a) == 0
    assert reconstruction_error(a, -a) == pytest.approx(4 / 3, rel=1e-5)


def test_a_loss_that_is_not_finite_moves_nothing():
    objective = VAE()
    nets, spins, draw = scene(objective, torch.float32)
    with torch.no_grad():
        next(nets["encoder"].parameters()).fill_(float("inf"))
    before = [p.clone() for p in nets["generator"].parameters()]
    optimisers = {p: torch.optim.Adam(net.parameters()) for p, net in nets.items()}
    with pytest.raises(FloatingPointError, match="not finite"):
        update(nets, optimisers, objective, spins, draw)
    assert all(torch.equal(a, b) for a, b in zip(before, nets["generator"].parameters(), strict=True))


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"gamma": float("nan")}])
def test_weights_without_meaning_are_refused(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Hybrid(**wrong)


def test_players_without_the_others_start_alike():
    alone = build_networks(CONFIG, ("generator",), seed=1)["generator"]
    together = build_networks(CONFIG, ("discriminator", "encoder", "generator"), seed=1)["generator"]
    assert isinstance(alone, nn.Module)
    for a, b in zip(alone.parameters(), together.parameters(), strict=True):
        assert torch.equal(a, b)
