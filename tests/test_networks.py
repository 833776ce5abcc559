"""The networks respect the torus, the sphere and the configured shapes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from spinloom import networks as rooms
from spinloom.errors import BadInput
from spinloom.networks import (
    Discriminator,
    Encoder,
    Generator,
    NetworkConfig,
    PeriodicConv2d,
    periodic_upsampling,
)
from spinloom.run import build_networks

SMALL = {"latent": 12, "generator": 4, "discriminator": 4, "encoder": 4, "widest": 16}


def unit(*shape: int) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(*shape), dim=1)


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (48, 32), (128, 32)])
@pytest.mark.parametrize("head", [1, 2, 4])
def test_shapes_follow_the_lattice(size, head):
    config = NetworkConfig(size=size, head=head, **SMALL)
    spins = Generator(config)(torch.randn(3, 12))
    assert spins.shape == (3, 3, *size)
    assert torch.allclose(spins.norm(dim=1), torch.ones(3, *size), atol=1e-5)
    mu, logvar = Encoder(config)(spins)
    assert mu.shape == logvar.shape == (3, 12)
    assert Discriminator(config)(spins).shape == (3,)


def test_the_bottom_is_reached_by_halving():
    for size, bottom in {(32, 32): (4, 4), (128, 128): (4, 4), (40, 48): (5, 6), (64, 128): (4, 8)}.items():
        assert NetworkConfig(size=size).bottom == bottom


def test_circular_padding_makes_convolutions_commute_with_translations():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    plain = PeriodicConv2d(3, 5, 3).double()
    turned = torch.roll(x, (3, 5), (2, 3))
    assert torch.allclose(plain(turned), torch.roll(plain(x), (3, 5), (2, 3)), atol=1e-12)
    halving = PeriodicConv2d(3, 5, 4, stride=2).double()
    turned = torch.roll(x, (2, 4), (2, 3))
    assert halving(x).shape == (2, 5, 4, 6)
    assert torch.allclose(halving(turned), torch.roll(halving(x), (1, 2), (2, 3)), atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
def test_circular_padding_has_the_right_gradient(kernel, stride):
    torch.manual_seed(0)
    layer = PeriodicConv2d(2, 3, kernel, stride).double()
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_a_single_layer_of_padding_is_torch_circular_padding():
    layer = PeriodicConv2d(2, 3, 3)
    x = torch.randn(2, 2, 6, 8)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    assert torch.equal(layer(x), nn.functional.conv2d(padded, layer.weight, layer.bias))


def test_upsampling_keeps_constants_and_slow_waves_and_commutes_with_translations():
    for factor in (1, 2, 4):
        matrix = periodic_upsampling(16, factor).double()
        assert torch.allclose(matrix.sum(1), torch.ones(16 * factor, dtype=torch.float64), atol=1e-6)
        assert (matrix >= 0).all()
        rolled = torch.roll(torch.roll(matrix, factor, 0), 1, 1)
        assert torch.allclose(matrix, rolled)
    factor, coarse = 4, 32
    centres = torch.arange(coarse, dtype=torch.float64) * factor + (factor - 1) / 2
    fine = torch.arange(coarse * factor, dtype=torch.float64)
    wave = 2 * math.pi / (coarse * factor)
    matrix = periodic_upsampling(coarse, factor).double()
    assert torch.allclose(matrix @ torch.cos(wave * centres), torch.cos(wave * fine), atol=0.01)


def test_every_discriminator_layer_is_spectrally_normalised_and_none_is_batch_normalised():
    torch.manual_seed(1)
    net = Discriminator(NetworkConfig(size=(32, 32), **SMALL))
    for _ in range(30):  # power iterations
        net(unit(2, 3, 32, 32))
    net.eval()
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 3 * 3 + 1
    for layer in layers:
        top = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        assert top == pytest.approx(1.0, abs=0.02)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    for network in (Generator, Encoder):
        assert any(isinstance(m, nn.BatchNorm2d) for m in network(NetworkConfig(size=(32, 32), **SMALL)).modules())


def test_the_discriminator_judges_a_texture_alone():
    net = Discriminator(NetworkConfig(size=(32, 32), **SMALL)).eval()
    spins = unit(6, 3, 32, 32)
    alone = torch.cat([net(one[None]) for one in spins])
    assert torch.allclose(net(spins), alone, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (24, 24)}, "size=24"),
        ({"size": (36, 32)}, "size=36"),
        ({"latent": 0}, "latent=0"),
        ({"head": 3}, "head=3"),
        ({"slope": 1.5}, "slope=1.5"),
    ],
)
def test_impossible_networks_are_refused(wrong, says):
    with pytest.raises(BadInput, match=says):
        NetworkConfig(**wrong)


def test_a_wider_first_stride_spares_a_level_and_keeps_translations_by_it():
    """Strides of 4, then 2, …: the discriminator is invariant under translations by its coarsest cell, 8 sites."""
    config = NetworkConfig(size=(32, 32), latent=8, generator=4, discriminator=4, encoder=4, widest=8, patch=4)
    net = build_networks(config, ("discriminator",), seed=0)["discriminator"].eval()
    plain = build_networks(replace(config, patch=2), ("discriminator",), seed=0)["discriminator"]
    strided = [
        [m.stride[0] for m in n.modules() if isinstance(m, PeriodicConv2d) and m.stride[0] > 1] for n in (net, plain)
    ]
    assert strided == [[4, 2], [2, 2, 2]]
    spins = unit(2, 3, 32, 32)
    features = [block(spins) for block in (net.blocks, lambda x: net.blocks(torch.roll(x, (8, 16), (-2, -1))))]
    assert torch.allclose(torch.roll(features[0], (1, 2), (-2, -1)), features[1], atol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-3)


@pytest.mark.parametrize("kernel,stride", [(1, 1), (3, 1), (4, 2), (8, 4)])
def test_a_convolution_on_a_torus_is_a_cyclic_correlation(kernel, stride):
    """Against the sum over wrapped neighbours; the gradient of the padding against autograd's of index arithmetic."""
    torch.manual_seed(0)
    layer = PeriodicConv2d(2, 3, kernel, stride).double()
    x = torch.randn(2, 2, 8, 16, dtype=torch.float64, requires_grad=True)
    begin = -((kernel - stride + 1) // 2)
    rows = (torch.arange(0, 8, stride)[:, None] + begin + torch.arange(kernel)) % 8
    columns = (torch.arange(0, 16, stride)[:, None] + begin + torch.arange(kernel)) % 16
    patches = x[:, :, rows][..., columns]  # n, c, row, kernel row, column, kernel column
    expected = torch.einsum("ncriqj,ocij->norq", patches, layer.weight) + layer.bias[:, None, None]
    found = layer(x)
    assert torch.allclose(found, expected, atol=1e-12)
    push = torch.randn_like(found)
    (got,), (want,) = (torch.autograd.grad(y, x, push, retain_graph=True) for y in (found, expected))
    assert torch.allclose(got, want, atol=1e-12)


def test_unit_is_the_vector_over_its_length():
    x = torch.randn(2, 3, 4, 6)
    assert torch.allclose(rooms.unit(x), torch.nn.functional.normalize(x, dim=1), atol=1e-6)
    assert torch.equal(rooms.unit(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))


GRID = NetworkConfig(
    size=(32, 40), latent=40, generator=4, discriminator=4, encoder=4, widest=16, grid=True, whiten=True
)


def test_on_a_grid_a_cell_of_the_code_is_eight_sites_of_the_texture():
    """32 × 40 has a bottom of 4 × 5: all three networks commute with its translations."""
    torch.manual_seed(0)
    nets = build_networks(GRID, ("generator", "encoder", "discriminator"), seed=1)
    generator, encoder, discriminator = (
        nets[name].double().eval() for name in ("generator", "encoder", "discriminator")
    )
    encoder.train()
    encoder(unit(6, 3, 32, 40).double())  # running means that are not those of the beginning
    encoder.eval()
    z = torch.randn(3, 40, dtype=torch.float64)

    def moved(codes: torch.Tensor) -> torch.Tensor:
        return codes.unflatten(1, (2, 4, 5)).roll((1, 2), (2, 3)).flatten(1)

    spins = generator(z)
    turned = spins.roll((8, 16), (2, 3))
    assert torch.allclose(generator(moved(z)), turned, atol=1e-10)
    for one, other in zip(encoder(spins), encoder(turned), strict=True):
        assert torch.allclose(moved(one), other, atol=1e-6)  # C^−½ is kept in float32
    assert torch.allclose(discriminator(spins), discriminator(turned), atol=1e-10)
    assert float((moved(z) - z).abs().max()) > 1


def test_a_grid_needs_as_many_numbers_in_every_cell():
    with pytest.raises(BadInput, match=r"networks\.latent=42: a grid of 4 × 5 cells .*; use 40 or 60"):
        replace(GRID, latent=42)


@pytest.mark.parametrize("grid", [False, True])
def test_whitened_codes_have_the_priors_mean_and_covariance(grid):
    """Correlated raw means, posteriors of variance e^−1: after a while Cov(mu) + e^−1 = 1, and the mean is 0."""
    layer = rooms.Whitening(NetworkConfig(size=(32, 32), latent=16, grid=grid))
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 16, generator=generator)

    def batch(count: int) -> torch.Tensor:
        raw = torch.randn(count, 16, generator=generator)
        if grid:  # all cells alike, neighbours correlated
            cells = raw.unflatten(1, (1, 4, 4))
            return (cells + 0.7 * cells.roll(1, 3)).flatten(1) - 2
        return raw @ mixing.T + 3

    narrow = torch.full((1, 16), -1.0)
    layer.train()
    for _ in range(300):
        layer(batch(100), narrow.expand(100, -1))
    layer.eval()
    kept = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    mu = layer(batch(20_000), narrow.expand(20_000, -1))
    assert all(torch.equal(kept[name], tensor) for name, tensor in layer.state_dict().items())
    expected = (1 - math.exp(-1)) * torch.eye(16)
    assert float((torch.cov(mu.T) - expected).abs().max()) < 0.12
    assert float(mu.mean(0).abs().max()) < 0.15


def test_whitening_begins_as_nothing_and_passes_gradients():
    layer = rooms.Whitening(NetworkConfig(size=(32, 32), latent=16)).eval()
    raw = torch.randn(5, 16, requires_grad=True)
    assert torch.equal(layer(raw, torch.zeros(5, 16)), raw)
    (slope,) = torch.autograd.grad(layer(raw, torch.zeros(5, 16)).sum(), raw)
    assert torch.equal(slope, torch.ones(5, 16))
