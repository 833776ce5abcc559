"""The only shape vocabulary of the package.

``Spins``     (*batch, 3, H, W): unit vectors; component (x, y, z), row (y), column (x).
``SiteMap``   (*batch, H, W): one number a lattice site.
``PerTexture``(*batch): one number a texture.
``Counts``    (*batch): one whole number a texture.
``Latents``   (n, latent): latent codes z.
``Logits``    (n,): the discriminator's answer before the sigmoid; positive means real.

Type checkers read them as tensors; where jaxtyping is installed (it is not on a bare GPU machine), a run under
its import hook checks the shapes of every call.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    Spins: TypeAlias = Tensor
    SiteMap: TypeAlias = Tensor
    PerTexture: TypeAlias = Tensor
    Counts: TypeAlias = Tensor
    Latents: TypeAlias = Tensor
    Logits: TypeAlias = Tensor
else:
    try:
        from jaxtyping import Float, Int

        Spins = Float[Tensor, "*batch 3 H W"]
        SiteMap = Float[Tensor, "*batch H W"]
        PerTexture = Float[Tensor, "*batch"]
        Counts = Int[Tensor, "*batch"]
        Latents = Float[Tensor, "n latent"]
        Logits = Float[Tensor, " n"]
    except ImportError:
        Spins = SiteMap = PerTexture = Counts = Latents = Logits = Tensor

Number = float | int | np.floating | np.integer
"""A real number, NumPy's scalars included."""

WholeNumber = int | np.integer
