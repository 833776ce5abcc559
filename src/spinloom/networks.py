"""Encoder, generator and discriminator on a periodic lattice, and the config they are built from.

The building blocks are the paper's (section "Neural network structures", Fig. 6): pre-activation residual
blocks with batch normalisation and LeakyReLU, circular padding before every convolution, 2×2 up-sampling in
the generator, 4×4 stride-2 convolutions for down-sampling, spectral normalisation and no batch normalisation
in the discriminator, and spins normalised at the generator's end. The channel widths, the number of blocks
and the slope are not in the paper's text: they are this package's assumptions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from spinloom.errors import BadInput, whole
from spinloom.typing import Latents, Logits, Spins

SMALLEST_SIDE = 32


@dataclass(frozen=True)
class NetworkConfig:
    """The three networks' shapes.

    Attributes:
        size: the lattice (H, W): multiples of 8 from 32. Sides are halved while both stay even and at least
            ``coarsest``: 32² gives a 4² bottom in three halvings, 128² the same in five, 40×48 a 5×6 one in three.
        latent: dimension n of the latent space with its standard-normal prior.
        generator: the generator's channels at full resolution; they double at every halving up to ``widest``.
        discriminator: the same for the discriminator.
        encoder: the same for the encoder.
        widest: the most channels anywhere.
        head: side of the generator's last, fixed, periodic up-sampling; 1 (the paper) has blocks up to full
            resolution, 2 or 4 ends the blocks at half or a quarter of it (cheap on CPUs: the texture is
            smooth on the lattice).
        patch: stride of the discriminator's and the encoder's first convolution, whose kernel is twice as wide:
            2 (the paper) or 4, which leaves out the blocks at half resolution, the dearest on CPUs.
        coarsest: the least side of the bottom, 4, 8 or 16.
        grid: False (the paper, as its text is read here): dense layers between the code and the bottom. True: the
            code is a grid of the bottom's sides, latent/(h·w) numbers a cell, and all layers are convolutions, so that
            moving the code by a cell moves the texture by as many sites, exactly; a logit is then the sum of the
            cells' over √(h·w).
        whiten: whether the encoder's means are whitened by running statistics, so that its codes have the prior's mean
            and covariance (:class:`Whitening`); the paper has no such layer.
        slope: LeakyReLU's slope for negative inputs.

    Raises:
        BadInput: a side the networks cannot be built for, or a width, latent dimension or head that has no
            meaning.
    """

    size: tuple[int, int] = (128, 128)
    latent: int = 128
    generator: int = 32
    discriminator: int = 32
    encoder: int = 32
    widest: int = 256
    head: int = 1
    patch: int = 2
    coarsest: int = 4
    grid: bool = False
    whiten: bool = False
    slope: float = 0.2

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, (tuple, list)) else (self.size, self.size)
        if len(sides) != 2:
            raise BadInput(f"size={self.size}: need one side or two, (H, W)")
        object.__setattr__(self, "size", tuple(whole("size", side) for side in sides))
        for name in ("latent", "generator", "discriminator", "encoder", "widest", "head"):
            object.__setattr__(self, name, whole(f"networks.{name}", getattr(self, name)))
        for side in self.size:
            if side < SMALLEST_SIDE:
                raise BadInput(f"size={side}: too small for the networks; use a multiple of 8 from {SMALLEST_SIDE}")
            if side % 8:
                below = side // 8 * 8
                raise BadInput(f"size={side}: the networks need multiples of 8; use {below} or {below + 8}")
        for name in ("latent", "generator", "discriminator", "encoder", "widest"):
            if getattr(self, name) < 1:
                raise BadInput(f"networks.{name}={getattr(self, name)}: must be a positive whole number")
        if self.head not in (1, 2, 4):
            raise BadInput(f"networks.head={self.head}: the last up-sampling is 1 (none), 2 or 4")
        if self.patch not in (2, 4):
            raise BadInput(f"networks.patch={self.patch}: the first convolution's stride is 2 or 4")
        if self.coarsest not in (4, 8, 16):
            raise BadInput(f"networks.coarsest={self.coarsest}: the bottom's least side is 4, 8 or 16")
        if self.halvings < 2:
            raise BadInput(f"networks.coarsest={self.coarsest}: leaves size={self.size} no two halvings; use less")
        cells = self.bottom[0] * self.bottom[1]
        if self.grid and self.latent % cells:
            below = self.latent // cells * cells or cells
            raise BadInput(
                f"networks.latent={self.latent}: a grid of {self.bottom[0]} × {self.bottom[1]} cells needs a multiple "
                f"of {cells}; use {below} or {below + cells}"
            )
        if not 0 <= self.slope < 1:
            raise BadInput(f"networks.slope={self.slope}: LeakyReLU's slope lies in [0, 1), e.g. 0.2")

    @property
    def halvings(self) -> int:
        """How often the sides are halved from the lattice to the networks' bottom."""
        height, width = self.size
        count = 0
        while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * self.coarsest:
            height, width, count = height // 2, width // 2, count + 1
        return count

    @property
    def bottom(self) -> tuple[int, int]:
        """(h, w) of the coarsest feature map."""
        return self.size[0] >> self.halvings, self.size[1] >> self.halvings

    @property
    def cell(self) -> int:
        """Numbers of the code a cell of the bottom, with ``grid``."""
        return self.latent // (self.bottom[0] * self.bottom[1])

    def channels(self, base: int, level: int) -> int:
        """Channels ``level`` halvings below full resolution for a network of ``base`` channels there."""
        return min(self.widest, base << level)

    def as_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self) | {"size": list(self.size)}


class _Wrap(torch.autograd.Function):
    """Circular padding by ``w`` sites; forth and back the bulk is copied once and only the margins are touched."""

    @staticmethod
    def forward(ctx, x: Tensor, w: int) -> Tensor:
        ctx.w = w
        height, width = x.shape[-2:]
        out = x.new_empty(*x.shape[:-2], height + 2 * w, width + 2 * w)
        out[..., w:-w, w:-w] = x
        out[..., :w, w:-w] = x[..., -w:, :]
        out[..., -w:, w:-w] = x[..., :w, :]
        out[..., :w] = out[..., width : width + w]  # the rows are whole by now, so the corners come along
        out[..., -w:] = out[..., w : 2 * w]
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (grad,), w = grads, ctx.w
        inner = grad[..., w:-w, w:-w].clone(memory_format=torch.contiguous_format)
        for rows, margin in ((slice(-w, None), slice(None, w)), (slice(None, w), slice(-w, None))):
            inner[..., rows, :] += grad[..., margin, w:-w]
            inner[..., rows] += grad[..., w:-w, margin]
            for columns, other in ((slice(-w, None), slice(None, w)), (slice(None, w), slice(-w, None))):
                inner[..., rows, columns] += grad[..., margin, other]
        return inner, None


class PeriodicConv2d(nn.Conv2d):
    """A convolution on a torus: the input is wrapped around so that the output's sides are the input's / stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.wrap = (kernel - stride + 1) // 2

    def forward(self, input: Tensor) -> Tensor:
        if self.wrap:
            input = cast(Tensor, _Wrap.apply(input, self.wrap))
        return self._conv_forward(input, self.weight, self.bias)


def _plain(layer: nn.Module) -> nn.Module:
    return layer


def _start(network: nn.Module, slope: float) -> None:
    """He-normal weights for LeakyReLU and zero biases."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResBlock(nn.Module):
    """Pre-activation residual block: x + conv(act(conv(act(x)))), act = batch norm then LeakyReLU (Fig. 6a).

    ``norm=False`` leaves the batch normalisation out and ``around`` wraps every convolution (the
    discriminator's spectral norm); ``up`` doubles the sides by repeating sites 2×2 between the convolutions.
    """

    def __init__(
        self, inputs: int, outputs: int, slope: float, *, norm: bool = True, up: bool = False, around=_plain
    ) -> None:
        super().__init__()
        self.slope, self.up = slope, up
        self.norm1 = nn.BatchNorm2d(inputs) if norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.conv1 = around(PeriodicConv2d(inputs, outputs, 3))
        self.conv2 = around(PeriodicConv2d(outputs, outputs, 3))
        self.skip = around(PeriodicConv2d(inputs, outputs, 1)) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.leaky_relu(self.norm1(x), self.slope))
        inner = F.leaky_relu(self.norm2(inner), self.slope)
        across = self.skip(x)  # a 1×1 convolution and the repetition commute; this order is the cheap one
        if self.up:
            inner = F.interpolate(inner, scale_factor=2.0, mode="nearest")
            across = F.interpolate(across, scale_factor=2.0, mode="nearest")
        return across + self.conv2(inner)


PRECISIONS = ("float32", "bfloat16")
"""Of the networks' layers in training."""


def layers_in(precision: str, x: Tensor) -> AbstractContextManager[Any]:
    """Inside, networks called on the likes of ``x`` have layers of this precision; each weight is cast once."""
    return nullcontext() if precision == "float32" else torch.autocast(x.device.type, torch.bfloat16)


def in_float32(x: Tensor) -> AbstractContextManager[Any]:
    """Inside, autocast is off where ``x`` is: for what bfloat16's 8 bits are too few for."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def unit(vectors: Tensor) -> Tensor:
    """Vectors (n, 3, H, W) over their lengths; a reduction over so short an axis is slow on CPUs, a sum is not."""
    x, y, z = vectors.unbind(1)
    square = x * x + y * y + z * z
    return vectors * square.clamp(min=1e-24).rsqrt().unsqueeze(1)


def periodic_upsampling(coarse: int, factor: int) -> Tensor:
    """The matrix (factor·coarse, coarse) that interpolates a periodic row by cubic B-spline blending.

    Fine site i sits at coarse coordinate (i + ½)/factor − ½, so that cells stay centred, as with the 2×2
    repetition it replaces. The weights are the uniform cubic B-spline's: positive, summing to one, twice
    continuously differentiable.
    """
    fine = coarse * factor
    position = (torch.arange(fine, dtype=torch.float64) + 0.5) / factor - 0.5
    left = torch.floor(position)
    t = position - left
    weights = torch.stack(
        ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    ) / 6  # fmt: skip
    matrix = torch.zeros(fine, coarse, dtype=torch.float64)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        matrix[torch.arange(fine), ((left + offset) % coarse).long()] += weight
    return matrix.float()


class Generator(nn.Module):
    """z → unit spins (Fig. 6b)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        top = config.head.bit_length() - 1  # halvings that the fixed up-sampling stands for
        width = config.channels(config.generator, config.halvings)
        cells = config.bottom[0] * config.bottom[1]
        self.first = PeriodicConv2d(config.cell, width, 3) if config.grid else nn.Linear(config.latent, width * cells)
        blocks = []
        for level in reversed(range(top, config.halvings)):
            outputs = config.channels(config.generator, level)
            blocks.append(ResBlock(width, outputs, config.slope, up=True))
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width)
        self.last = PeriodicConv2d(width, 3, 3)
        self.rows: Tensor
        self.columns: Tensor
        for name, side in zip(("rows", "columns"), config.size, strict=True):
            self.register_buffer(name, periodic_upsampling(side // config.head, config.head), persistent=False)
        _start(self, config.slope)

    def forward(self, z: Latents) -> Spins:
        sides = self.config.bottom
        x = self.first(z.unflatten(1, (-1, *sides))) if self.config.grid else self.first(z).unflatten(1, (-1, *sides))
        x = self.last(F.leaky_relu(self.norm(self.blocks(x)), self.config.slope))
        with in_float32(z):
            x = x.to(z.dtype)
            if self.config.head > 1:
                x = self.rows @ x @ self.columns.T
            return unit(x)


def _descent(config: NetworkConfig, base: int, norm: bool, around=_plain) -> tuple[nn.Sequential, int]:
    """Strided convolution, residual block, … from the lattice to the bottom; and the channels there."""
    layers: list[nn.Module] = []
    width, stride = 3, config.patch
    for level in range(config.patch // 2, config.halvings + 1):
        outputs = config.channels(base, level)
        layers.append(around(PeriodicConv2d(width, outputs, 2 * stride, stride)))
        layers.append(ResBlock(outputs, outputs, config.slope, norm=norm, around=around))
        width, stride = outputs, 2
    return nn.Sequential(*layers), width


class Whitening(nn.Module):
    r"""Makes the codes that an encoder gives to all its data have the prior's first two moments.

    The KL divergence of Eq. (1) draws every single posterior towards the prior, but with a small β their mixture,
    the aggregated posterior, keeps variances far from 1 and correlations; prior samples are then decoded from where
    no data lie. With the covariance C and mean c of the raw means u, over data, and the posteriors' mean variances s,

    .. math:: \mu = \mathrm{diag}(1 - s)^{1/2}\, C^{-1/2} (u - c), \qquad
              \mathrm{Cov}(\mu) + \mathrm{diag}(s) = 1 .

    C, c and s are running means over batches, constants to the gradient, as batch normalisation's are when frozen.
    On a grid they are averaged over the translations by cells, which keeps the encoder's exact equivariance.
    """

    MOMENTUM = 0.02
    """Share of a batch in the running means."""
    LEAST = 0.05
    """Of 1 − s, so that no direction is lost while a posterior is as wide as the prior."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.sides = config.bottom if config.grid else (1, 1)
        self.together = False  # whether other processes hold shares of the batch
        self.mean: Tensor
        self.covariance: Tensor
        self.variance: Tensor
        self.matrix: Tensor
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("covariance", torch.eye(config.latent))
        self.register_buffer("variance", torch.zeros(config.latent))
        self.register_buffer("matrix", torch.eye(config.latent))  # diag(1 − s)^½ C^−½

    def forward(self, raw: Tensor, logvar: Tensor) -> Tensor:
        """Means (n, latent) from raw ones; ``logvar`` is what the posteriors have in the end."""
        if self.training:
            self._follow(raw.detach().to(self.mean.dtype), logvar.detach().to(self.mean.dtype))
        return (raw - self.mean) @ self.matrix.T

    @torch.no_grad()
    def _follow(self, raw: Tensor, logvar: Tensor) -> None:
        height, width = self.sides
        grid = raw.unflatten(1, (-1, height, width))
        moved = torch.cat([grid.roll((i, j), (2, 3)).flatten(1) for i in range(height) for j in range(width)])
        wide = logvar.exp().unflatten(1, (-1, height, width)).mean((0, 2, 3), keepdim=True)
        first = moved.mean(0)
        moments = [first, moved.T @ moved / len(moved), wide.repeat(1, 1, height, width).flatten()]
        if self.together:
            for moment in moments:
                torch.distributed.all_reduce(moment)
                moment /= torch.distributed.get_world_size()
        first, second, variance = moments
        away = first - self.mean  # about the running mean; between batches, its own moves count too
        self.covariance.lerp_(second - torch.outer(first, first) + torch.outer(away, away), self.MOMENTUM)
        self.mean.lerp_(first, self.MOMENTUM)
        self.variance.lerp_(variance, self.MOMENTUM)
        if not self.covariance.isfinite().all():
            return  # nor is the loss, which says so
        values, vectors = torch.linalg.eigh(self.covariance.double())
        root = (vectors * values.clamp(min=1e-6 * float(values[-1])).rsqrt()) @ vectors.T
        left = (1 - self.variance).clamp(min=self.LEAST).sqrt()
        self.matrix.copy_(left[:, None] * root.to(self.matrix.dtype))


class Encoder(nn.Module):
    """Spins → mean and log-variance of the posterior p_E(z|x) (Fig. 6d)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.slope = config.slope
        self.blocks, width = _descent(config, config.encoder, norm=True)
        self.norm = nn.BatchNorm2d(width)
        cells = config.bottom[0] * config.bottom[1]
        self.last = (
            PeriodicConv2d(width, 2 * config.cell, 1) if config.grid else nn.Linear(width * cells, 2 * config.latent)
        )
        self.whitening = Whitening(config) if config.whiten else None
        _start(self, config.slope)
        with torch.no_grad():
            self.last.weight *= 0.1  # the posterior starts near the prior's scale, its KL near zero

    def forward(self, spins: Spins) -> tuple[Latents, Latents]:
        x = F.leaky_relu(self.norm(self.blocks(spins)), self.slope)
        if isinstance(self.last, nn.Linear):
            x = x.flatten(1)
        with in_float32(spins):
            mu, logvar = self.last(x.to(spins.dtype)).chunk(2, dim=1)
            mu, logvar = mu.flatten(1), logvar.flatten(1)
            return (mu if self.whitening is None else self.whitening(mu, logvar)), logvar


class Discriminator(nn.Module):
    """Spins → logit of being real, spectrally normalised throughout, without batch norm (Fig. 6c)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.slope = config.slope
        self.blocks, width = _descent(config, config.discriminator, norm=False)
        cells = config.bottom[0] * config.bottom[1]
        self.last = PeriodicConv2d(width, 1, 1) if config.grid else nn.Linear(width * cells, 1)
        _start(self, config.slope)
        for layer in [m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
            parametrizations.spectral_norm(layer, eps=1e-12)

    def forward(self, spins: Spins) -> Logits:
        with parametrize.cached():
            with in_float32(spins):
                self._normalised()
            return self.verdict(self.features(spins).to(spins.dtype))

    def features(self, spins: Spins) -> Tensor:
        """What the last layer sees, (n, channels, h, w)."""
        return F.leaky_relu(self.blocks(spins), self.slope)

    def verdict(self, features: Tensor) -> Logits:
        """The logits of :meth:`features`."""
        with in_float32(features):
            if isinstance(self.last, nn.Linear):
                return self.last(features.flatten(1)).squeeze(1)
            judged = self.last(features).flatten(1)
            return judged.sum(1) / judged.shape[1] ** 0.5  # of unit norm, as the dense layer is

    def _normalised(self) -> list[Tensor]:
        """All weights over their norms: a pass takes them from the cache, whatever the precision of its layers."""
        return [cast(Tensor, layer.weight) for layer in self.modules() if parametrize.is_parametrized(layer)]
