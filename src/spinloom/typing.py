"""The only shape vocabulary of the package."""

from __future__ import annotations

from torch import Tensor

try:
    from jaxtyping import Float, Int
except ImportError:  # a bare GPU machine: the annotations stay readable, nothing checks them

    class Float:  # type: ignore[no-redef]
        def __class_getitem__(cls, item):
            return Tensor

    class Int:  # type: ignore[no-redef]
        def __class_getitem__(cls, item):
            return Tensor


Spins = Float[Tensor, "*batch 3 H W"]
"""Unit vectors on an H × W lattice: component (x, y, z), row (y), column (x)."""

SiteMap = Float[Tensor, "*batch H W"]
"""One number a lattice site."""

PerTexture = Float[Tensor, "*batch"]
"""One number a texture."""

Counts = Int[Tensor, "*batch"]
"""One whole number a texture."""

Latents = Float[Tensor, "n latent"]
"""Latent codes z."""

Logits = Float[Tensor, " n"]
"""The discriminator's answer before the sigmoid: positive means real."""
