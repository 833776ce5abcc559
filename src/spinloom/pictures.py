"""Pictures of M_z: read, made of textures, cleaned; and the spins that the Hamiltonian alone puts behind one.

A picture is p = blur(S_z) + noise, (…, H, W), in units in which S_z runs from −1 to 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.spectrum import wave_vectors
from spinloom.typing import SiteMap, Spins

SHARP = 0.02
"""Noise that stands for none, so that nothing is divided by zero."""

QUENCHED = 1e-4
"""T/J in :func:`relax_held`. Annealed textures are at rest, so the picture counts little as soon as it is noisy:
tuned on training textures (32², D = 0.6 J)."""

FAR = 10
"""Root mean square beyond which a picture's values are no M_z: noise goes beyond ±1; a grey scale to 255 is another
thing."""

HELD_STEPS = 1000
"""Gradient steps in :func:`relax_held`. At strong noise 400 leave a quarter more error than 1000 (32², noise 0.8)."""


def read_picture(path: Path | str) -> SiteMap:
    """A picture (H, W) of M_z from a file; row r + 1 lies at +y.

    ``.npy``: an array (H, W) with values from −1 to 1, row 0 at the bottom. Any image Pillow reads, its top at +y:
    grey levels, the darkest possible −1, the brightest 1; an image of floats (32-bit TIFF) holds M_z as it is.

    Raises:
        BadInput: no such file, an array of another shape or range, or no picture.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a .npy array or an image")
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BadInput(f"{path}: cannot be read as an array ({error}); save it with numpy.save") from error
        if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
            raise BadInput(f"{path}: holds {array.dtype} of shape {array.shape}; need numbers (H, W)")
        _check_range(array, str(path))
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            exact, deep = image.mode == "F", image.mode.startswith("I")
            grey = np.asarray(image if exact or deep else image.convert("L"), np.float64)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise BadInput(f"{path}: is no picture that can be read ({error}); use PNG or npy") from error
    mz = grey if exact else 2 * grey / (65535 if deep else 255) - 1
    _check_range(mz, str(path))
    return torch.from_numpy(np.ascontiguousarray(mz[::-1], np.float32))


def _check_range(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all() or np.sqrt(np.mean(np.square(array, dtype=np.float64))) > FAR:
        raise BadInput(f"{name}: NaN, infinity or values far beyond ±1; scale it so that M_z is −1 to 1")


def checked_pictures(mz: Any, size: tuple[int, int]) -> SiteMap:
    """Pictures (n, H, W), float32, of a lattice.

    Raises:
        BadInput: of another lattice, or one of them not finite or far outside [−1, 1] (:data:`FAR`).
    """
    picture = torch.as_tensor(np.asarray(mz)) if not isinstance(mz, Tensor) else mz.detach()
    picture = picture.cpu().float()
    picture = picture[None] if picture.ndim == 2 else picture
    if picture.ndim != 3 or tuple(picture.shape[1:]) != tuple(size) or not len(picture):
        found = " × ".join(map(str, picture.shape))
        raise BadInput(
            f"picture of {found}: the generator's lattice is {size[0]} × {size[1]}; cut or rescale it to that"
        )
    for number, one in enumerate(picture.numpy()):
        _check_range(one, "picture" if len(picture) == 1 else f"picture {number}")
    return picture


def blurred(maps: SiteMap, width: float | int) -> SiteMap:
    r"""Maps (…, H, W) under a periodic Gaussian of standard deviation ``width`` sites: × exp(−q²·width²/2)."""
    if width == 0:
        return maps
    return _filtered(maps, torch.exp(-_square_q(maps) * (width**2 / 2)))


def picture_of(spins: Spins, noise: float | int = 0.0, blur: float | int = 0.0, seed: int = 0) -> SiteMap:
    r"""The picture (n, H, W) of textures (n, 3, H, W), as a microscope sees M_z: blurred, with white noise.

    .. math:: p = g_{\rm blur} * S_z + {\rm noise}\cdot\xi, \qquad \xi_i \sim N(0, 1)

    in units in which S_z runs from −1 to 1; g is a periodic Gaussian of standard deviation ``blur`` sites, and the
    ξ of picture k depend on (seed, k) alone.

    Raises:
        BadInput: a seed that is none.
    """
    check_seed(seed)
    found = blurred(spins[:, 2], blur)
    if noise == 0:
        return found.clone()
    shape = tuple(found.shape[1:])
    drawn = [
        np.random.Generator(np.random.Philox(key=np.array([seed, k], np.uint64))).standard_normal(shape)
        for k in range(len(found))
    ]
    return found + noise * torch.from_numpy(np.stack(drawn)).to(found)


def check_seed(seed: int) -> None:
    """Seeds of noise and codes are words of 64 bits.

    Raises:
        BadInput: it is none.
    """
    if not 0 <= seed < 2**64:
        raise BadInput(f"seed={seed}: use a whole number from 0 to 2⁶⁴ − 1")


def denoised(picture: SiteMap, H: Hamiltonian, noise: float | int = 0.0, blur: float | int = 0.0) -> SiteMap:
    r"""The Wiener filter of a picture, which also undoes its blur.

    .. math:: \hat m(q) = \frac{P(q)\,b(q)}{P(q)\,b(q)^2 + \sigma^2}\,p(q), \qquad b(q) = e^{-q^2 w^2/2}

    with the power of S_z taken to lie on a ring about the spiral's |q₀| = arctan(D/J): four fifths of it in a
    ring of relative width 0.2, one fifth in one of 0.6, ⟨S_z²⟩ = ½. The mean (q = 0) is kept. Annealed textures
    have 85% of their power within 0.3…0.7 at q₀ = 0.54 (D = 0.6 J).
    """
    square = _square_q(picture)
    q, ring = square.sqrt(), math.atan2(abs(H.D), H.J)
    power = torch.zeros_like(q)
    for share, width in ((0.8, 0.2), (0.2, 0.6)):
        here = torch.exp(-((q - ring) ** 2) / (2 * (width * ring) ** 2))
        power += share * here / here.mean()
    power = power / 2
    spread = torch.exp(-square * (blur**2 / 2))
    noise = max(noise, SHARP) if blur else noise
    gain = power * spread / (power * spread**2 + noise**2).clamp(min=1e-30)
    gain[..., 0, 0] = 1
    return _filtered(picture, gain if noise else torch.ones_like(gain))


def analytic_guess(picture: SiteMap, H: Hamiltonian, noise: float | int = 0.0, blur: float | int = 0.0) -> Spins:
    r"""Spins (n, 3, H, W) that turn with the chirality the DMI wants.

    .. math:: m_{xy} = -\mathrm{sign}(D)\,\sqrt{1 - m_z^2}\;\frac{\nabla m_z}{|\nabla m_z|}

    for interfacial DMI; turned by −90° about z for bulk DMI. m_z is the picture :func:`denoised`; the gradient is
    taken of it once more smoothed, by 0.8/q₀ sites, since its direction is lost where m_z is flat.

    Raises:
        BadInput: D = 0, where nothing tells the in-plane direction.
    """
    if H.D == 0:
        raise BadInput("D=0: without DMI both in-plane directions are alike; a picture of M_z cannot tell them")
    m = denoised(picture, H, noise, blur)
    smooth = blurred(m, 0.8 / math.atan2(abs(H.D), H.J))
    m = m.clamp(-1, 1)
    along_x = smooth.roll(-1, -1) - smooth.roll(1, -1)
    along_y = smooth.roll(-1, -2) - smooth.roll(1, -2)
    # where the gradient is zero any direction will do
    flat = along_x.square() + along_y.square() < 1e-20
    along_x = torch.where(flat, torch.ones_like(m), along_x)
    length = (1 - m * m).clamp(min=0).sqrt() / torch.hypot(along_x, along_y) * -math.copysign(1, H.D)
    x, y = length * along_x, length * along_y
    return torch.stack((x, y, m) if H.dmi == "interfacial" else (y, -x, m), 1)


def relax_held(
    spins: Spins,
    picture: SiteMap,
    H: Hamiltonian,
    noise: float | int = 0.0,
    blur: float | int = 0.0,
    steps: int = HELD_STEPS,
) -> Spins:
    r"""Textures at rest with their S_z held near the picture: needs no network.

    .. math:: \min_S\; E(S) + \frac{T}{2\sigma^2}\sum_i \bigl((bS_z)_i - p_i\bigr)^2

    by ``steps`` gradient steps on unit spins, S ← (S + τ h)/|…|, with h the local field and the picture's pull
    along z, T = :data:`QUENCHED` · J. As the noise grows the pull goes to zero.
    """
    spins = spins.clone()  # none of the caller's, even after no step
    pull = QUENCHED * H.J / max(noise, SHARP) ** 2
    step = 4 / (8 * math.hypot(H.J, H.D) + 2 * abs(H.K) + pull)
    for _ in range(steps):
        x, y, z = H.local_field(spins).unbind(1)
        z = z + pull * blurred(picture - blurred(spins[:, 2], blur), blur)
        spins = _unit(spins + step * torch.stack((x, y, z), 1))
    return spins


def _square_q(maps: Tensor) -> Tensor:
    """q² of each Fourier component of maps (…, H, W), in (radians a site)²."""
    q_x, q_y = wave_vectors(maps.shape[-2], maps.shape[-1])
    return (q_x.square() + q_y.square()).to(maps)


def _filtered(maps: Tensor, gain: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(maps) * gain).real


def _unit(vectors: Tensor) -> Tensor:
    # sums of three planes: a reduction over so short an axis is slow on CPUs
    x, y, z = vectors.unbind(1)
    return vectors * (x * x + y * y + z * z).clamp(min=1e-24).rsqrt().unsqueeze(1)
