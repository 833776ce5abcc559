"""Where in a texture the discriminator sees a fake: Grad-CAM of −logit, and how well it points at nodal points.

The discriminator ends in a linear layer on all cells of its coarsest feature map, not in an average over them: the
gradient of the logit differs from cell to cell even where it stands for the same thing. Grad-CAM averages that
gradient over cells before it weighs the features with it (the method is made for networks that end in an average) and
so loses place; HiResCAM weighs every cell with its own gradient and is exact for a last layer. Both are here: the
first is what the paper shows, the second shows what the first misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from spinloom.errors import BadInput
from spinloom.networks import periodic_upsampling
from spinloom.sample import CHUNK
from spinloom.topology import nodal_centres
from spinloom.typing import SiteMap, Spins

Method: TypeAlias = Literal["grad-cam", "hirescam"]

LAYERS: dict[str, int] = {"grad-cam": 3, "hirescam": 1}
"""The layer that a method takes if none is named: the second and the first residual block.

Share of the nodal points in the top 5 % of the maps (the quick preset's hybrid, RESULTS.md): 24.0 % for HiResCAM on the
first block, 13.1 % for Grad-CAM on the second, 5.0 ± 1.3 % by chance."""

TOP = 0.05
"""The share of a map that :func:`overlap` calls its top."""


def layers(discriminator: nn.Module) -> list[nn.Module]:
    """The discriminator's convolutional layers, from the finest to the coarsest, each with its skip and bias.

    Raises:
        BadInput: the network has no such list (``blocks``).
    """
    found = getattr(discriminator, "blocks", None)
    if not isinstance(found, nn.Sequential) or not len(found):
        raise BadInput("discriminator: has no convolutional blocks to look at; give a run's discriminator")
    return list(found)


def fake_map(
    discriminator: nn.Module,
    spins: Spins,
    layer: int | None = None,
    method: Method = "grad-cam",
) -> SiteMap:
    r"""Where the discriminator sees a fake, (n, H, W) ≥ 0, in units of the logit (Fig. 4c).

    With A the features (channel k, cell ij) of a layer and s = −logit the score of the fake class,

    .. math:: \text{grad-cam: } \Bigl[\sum_k A^k_{ij}\,\bigl\langle \partial s/\partial A^k\bigr\rangle\Bigr]_+, \qquad
              \text{hirescam: } \Bigl[\sum_k A^k_{ij}\,\partial s/\partial A^k_{ij}\Bigr]_+

    where ⟨·⟩ is the mean over cells. They are brought to the lattice by periodic B-spline blending
    (:func:`spinloom.networks.periodic_upsampling`), cell-centred as the strided convolutions are, and non-negative.

    Sources: Selvaraju et al. 2017 (arXiv:1610.02391), eqs. 1–2; Draelos & Carin 2020 (arXiv:2011.08891), eq. 3; by
    captum's ``LayerGradCam`` and ``LayerGradientXActivation``.

    Args:
        layer: a number in :func:`layers`; default: :data:`LAYERS`.

    Raises:
        BadInput: a layer that is not there, or an unknown method.
    """
    from captum.attr import LayerGradCam, LayerGradientXActivation

    blocks = layers(discriminator)
    if layer is None:
        layer = min(LAYERS.get(method, 0), len(blocks) - 1)
    if not 0 <= layer < len(blocks):
        raise BadInput(f"layer={layer}: the discriminator has layers 0 (finest) to {len(blocks) - 1} (coarsest)")
    if method not in get_args(Method):
        raise BadInput(f"method={method!r}: unknown; use one of {', '.join(get_args(Method))}")
    asked = LayerGradCam if method == "grad-cam" else LayerGradientXActivation
    attribution = asked(lambda x: -discriminator(x), blocks[layer])
    device = next(discriminator.parameters()).device
    coarse = []
    with torch.enable_grad():
        for part in spins.split(CHUNK):
            inputs = part.detach().to(device).requires_grad_()
            found = cast(Tensor, attribution.attribute(inputs)).detach()
            coarse.append(found.sum(1).clamp(min=0).cpu())
    found = torch.cat(coarse)
    rows, columns = (
        periodic_upsampling(cells, side // cells) if side > cells else torch.eye(cells)
        for cells, side in zip(found.shape[-2:], spins.shape[-2:], strict=True)
    )
    return rows @ found @ columns.T


@dataclass(frozen=True)
class Overlap:
    """How often nodal points lie in the top 5 % of their texture's map.

    Attributes:
        share: of the nodal points of all textures.
        chance: what the top covers of the maps on average, 0.05 but for ties.
        shifted: the mean share with every map shifted around the lattice at random, 200 times; and ``error``, the
            standard deviation of that share: what chance gives for maps as blotched and points as clustered.
        points: nodal points in all; in ``textures`` textures.
    """

    share: float
    chance: float
    shifted: float
    error: float
    points: int
    textures: int

    @property
    def times_chance(self) -> float:
        """The share over that of the shifted maps."""
        return self.share / self.shifted if self.shifted else math.nan


def overlap(maps: SiteMap, spins: Spins, top: float = TOP, seed: int = 0, shifts: int = 200) -> Overlap | None:
    """The overlap of maps (n, H, W) with the nodal points of ``spins``; None where there are none.

    A map is taken to plaquettes, where nodal points have their centres, by the mean of the four corners. Its top are
    the plaquettes strictly above its (1 − ``top``) quantile, so that a map without structure has none.

    Raises:
        BadInput: the spins are not (n, 3, H, W).
    """
    height, width = maps.shape[-2:]
    around = (maps + maps.roll(-1, -1) + maps.roll(-1, -2) + maps.roll((-1, -1), (-2, -1))) / 4
    flat = around.flatten(1)
    limit = flat.kthvalue(max(1, round((1 - top) * flat.shape[1])), 1).values
    inside = around > limit[:, None, None]
    centres = nodal_centres(spins)
    texture = torch.cat([torch.full((len(found),), number) for number, found in enumerate(centres)])
    if not len(texture):
        return None
    # plaquette (r, c) reaches from there to (r + 1, c + 1)
    row, column = torch.cat(centres).floor().long().T
    draw = torch.Generator().manual_seed(seed)
    by_chance = []
    for _ in range(shifts):
        down = torch.randint(height, (len(maps),), generator=draw)[texture]
        right = torch.randint(width, (len(maps),), generator=draw)[texture]
        by_chance.append(inside[texture, (row + down) % height, (column + right) % width].double().mean())
    null = torch.stack(by_chance)
    return Overlap(
        share=float(inside[texture, row % height, column % width].double().mean()),
        chance=float(inside.double().mean()),
        shifted=float(null.mean()),
        error=float(null.std()),
        points=len(texture),
        textures=len(maps),
    )
