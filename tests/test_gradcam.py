"""Where a discriminator sees a fake, on networks whose answer is known, and the overlap with nodal points."""

import pytest
import torch
from torch import nn

from spinloom.errors import BadInput
from spinloom.gradcam import LAYERS, fake_map, layers, overlap
from spinloom.networks import Discriminator, NetworkConfig, PeriodicConv2d, periodic_upsampling
from spinloom.topology import nodal_centres, nodal_points


class Known(nn.Module):
    """−Σ w_ij A_ij over the cells of one stride-2 convolution's features A."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        convolution = PeriodicConv2d(3, 2, 4, 2)
        nn.init.constant_(convolution.weight, 1 / 16)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        self.blocks = nn.Sequential(convolution)
        self.weight = weight
        self.requires_grad_(False)

    def forward(self, spins: torch.Tensor) -> torch.Tensor:
        return -(self.weight * self.blocks(spins)).sum((1, 2, 3))


def textures(count: int = 3, height: int = 8, width: int = 12) -> torch.Tensor:
    spins = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))
    return spins / spins.norm(dim=1, keepdim=True)


def to_lattice(coarse: torch.Tensor) -> torch.Tensor:
    return periodic_upsampling(4, 2) @ coarse @ periodic_upsampling(6, 2).T


def test_with_one_weight_for_all_cells_both_methods_give_the_features():
    net, spins = Known(torch.full((4, 6), 2.0)), textures()
    expected = to_lattice((2 * net.blocks(spins).sum(1)).clamp(min=0))
    for method in ("grad-cam", "hirescam"):
        assert torch.allclose(fake_map(net, spins, 0, method), expected, atol=1e-6)
    assert expected.min() >= 0
    assert expected.std() > 0


def test_with_a_weight_a_cell_hirescam_keeps_the_place_and_grad_cam_takes_the_mean():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)) + 0.3
    net, spins = Known(weight), textures()
    features = net.blocks(spins).sum(1)
    assert torch.allclose(fake_map(net, spins, 0), to_lattice((weight.mean() * features).clamp(min=0)), atol=1e-6)
    by_cell = to_lattice((weight * features).clamp(min=0))
    assert torch.allclose(fake_map(net, spins, 0, "hirescam"), by_cell, atol=1e-6)


def test_a_map_moves_with_its_texture_and_stands_where_the_spot_is():
    net = Known(torch.ones(4, 6))
    spins = torch.zeros(1, 3, 8, 12)
    spins[:, 2, 4:6, 6:8] = 1
    found = fake_map(net, spins, 0)[0]
    assert torch.allclose(found, found.flip(0).roll(2, 0), atol=1e-6)  # symmetric about the spot: rows 4 and 5
    assert (found > 0.999 * found.max()).nonzero().tolist() == [[4, 6], [4, 7], [5, 6], [5, 7]]
    moved = fake_map(net, spins.roll((4, 6), (-2, -1)), 0)[0]
    assert torch.allclose(moved, found.roll((4, 6), (-2, -1)), atol=1e-6)


def test_a_real_discriminator_is_left_as_it_was_and_chunks_do_not_matter():
    net = Discriminator(NetworkConfig(size=(32, 40), discriminator=4, widest=8)).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    spins = textures(53, 32, 40)
    for layer in range(len(layers(net))):
        maps = fake_map(net, spins, layer)
        assert maps.shape == (53, 32, 40)
        assert maps.min() >= 0
        assert torch.allclose(maps[51:], fake_map(net, spins[51:], layer), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert torch.equal(fake_map(net, spins[:2]), fake_map(net, spins[:2], LAYERS["grad-cam"]))


def test_what_cannot_be_explained_is_refused():
    net = Known(torch.ones(4, 6))
    with pytest.raises(BadInput, match=r"layers 0 \(finest\) to 0"):
        fake_map(net, textures(), 1)
    with pytest.raises(BadInput, match="no convolutional blocks"):
        layers(nn.Linear(2, 2))


def broken(count: int = 40, side: int = 32) -> torch.Tensor:
    """Uniform textures with three flipped spins each, at random."""
    draw = torch.Generator().manual_seed(4)
    spins = torch.zeros(count, 3, side, side)
    spins[:, 2] = 1
    for texture in spins:
        for row, column in torch.randint(side, (3, 2), generator=draw).tolist():
            texture[2, row, column] = -1
    return spins


def test_a_map_that_points_at_nodal_points_holds_them_all_and_chance_holds_its_share():
    spins = broken()
    pointing = torch.zeros(len(spins), 32, 32)
    for number, found in enumerate(nodal_centres(spins)):
        for row, column in found.floor().long().tolist():
            pointing[number, row % 32, column % 32] = 1
    pointing += 1e-3 * torch.rand(pointing.shape, generator=torch.Generator().manual_seed(5))
    found = overlap(pointing, spins)
    assert found is not None
    assert found.share == 1
    assert found.points == int(nodal_points(spins).sum())
    assert found.textures == 40
    assert abs(found.chance - 0.05) < 0.002
    assert abs(found.shifted - 0.05) < 0.01
    assert found.error == pytest.approx((0.05 * 0.95 / found.points) ** 0.5, rel=0.3)
    blind = overlap(torch.rand(pointing.shape, generator=torch.Generator().manual_seed(6)), spins)
    assert blind is not None
    assert abs(blind.share - blind.shifted) < 4 * blind.error
    assert blind == overlap(torch.rand(pointing.shape, generator=torch.Generator().manual_seed(6)), spins)


def test_the_overlap_does_not_change_when_textures_and_maps_move_together():
    spins = broken()
    maps = torch.rand(40, 32, 32, generator=torch.Generator().manual_seed(7))
    maps = (maps + maps.roll(1, -1) + maps.roll(1, -2)) / 3
    one, other = overlap(maps, spins), overlap(maps.roll((5, -9), (-2, -1)), spins.roll((5, -9), (-2, -1)))
    assert one is not None
    assert other is not None
    assert one.share == other.share


def test_a_map_without_structure_claims_nothing():
    spins = broken(4)
    found = overlap(torch.zeros(4, 32, 32), spins)
    assert found is not None
    assert (found.share, found.chance) == (0, 0)
    assert overlap(torch.rand(1, 32, 32), torch.tensor([0.0, 0, 1])[None, :, None, None].expand(1, 3, 32, 32)) is None
