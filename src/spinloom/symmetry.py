"""The exact symmetries of a Hamiltonian on its periodic box, which are also the augmentations it allows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch

from spinloom.hamiltonian import Hamiltonian, as_size, as_spins
from spinloom.topology import compiled
from spinloom.typing import Spins

Matrix = tuple[tuple[int, ...], ...]

IDENTITY = ((1, 0), (0, 1))
QUARTER_TURN = ((0, -1), (1, 0))
HALF_TURN = ((-1, 0), (0, -1))
MIRROR = ((-1, 0), (0, 1))
KEEP = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
REVERSE = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


@dataclass(frozen=True)
class Symmetry:
    r"""One element (g, R) of the point group: S′(g r) = R S(r), about the middle of the box.

    ``lattice`` is g, a 2 × 2 matrix on (x, y); ``spin`` is R, a 3 × 3 matrix on (S_x, S_y, S_z). Both are
    signed permutations, so a texture's numbers are moved and negated, never rounded. Elements are called on
    spins (…, 3, H, W) and composed with ``@``: (a @ b)(spins) = a(b(spins)).
    """

    lattice: Matrix
    spin: Matrix

    def __call__(self, spins: Any) -> Spins:
        """The transformed texture (…, 3, H, W), a new tensor."""
        spins = as_spins(spins)
        out = torch.stack([spins[..., source, :, :] * sign for source, sign in self._components()], -3)
        transpose, flip_rows, flip_columns = self._moves()
        if transpose:
            out = out.transpose(-2, -1)
        flips = [axis for axis, flip in ((-2, flip_rows), (-1, flip_columns)) if flip]
        return out.flip(flips) if flips else out.contiguous()

    def __matmul__(self, other: Symmetry) -> Symmetry:
        return Symmetry(_product(self.lattice, other.lattice), _product(self.spin, other.spin))

    def inverse(self) -> Symmetry:
        """The element that undoes this one."""
        return Symmetry(tuple(zip(*self.lattice, strict=True)), tuple(zip(*self.spin, strict=True)))

    @property
    def charge_sign(self) -> int:
        """det g · det R: what the topological charge is multiplied by."""
        (a, b), (c, d) = self.lattice
        return (a * d - b * c) * _determinant(self.spin)

    @property
    def mz_sign(self) -> int:
        """What the mean S_z is multiplied by."""
        return self.spin[2][2]

    def _components(self) -> list[tuple[int, int]]:
        """For each component of the answer, the component it comes from and its sign."""
        return [next((j, entry) for j, entry in enumerate(row) if entry) for row in self.spin]

    def _moves(self) -> tuple[bool, bool, bool]:
        """Whether rows and columns are swapped, and then whether each is reversed."""
        (a, b), (c, d) = self.lattice
        return a == 0, c + d < 0, a + b < 0


def symmetries(H: Hamiltonian, size: int | tuple[int, int]) -> tuple[Symmetry, ...]:
    """The point group of the box, the identity first; translations come on top of it.

    - Lattice rotations by 90° (by 180° if H ≠ W), the spins turned about z by the same angle.
    - The mirror x → −x with its spin partner: S_x → −S_x for ``interfacial``, S_y → −S_y for ``bulk``.
    - S → −S, at B = 0 only.

    16 elements on a square box at B = 0, half as many with a field, half as many again if H ≠ W. They hold
    for every J, D, K; at D = 0 the spins could also be turned on their own, which is left out here.

    Raises:
        BadInput: the size is refused.
    """
    height, width = as_size(size)
    generators = [_element(H, QUARTER_TURN if height == width else HALF_TURN), _element(H, MIRROR)]
    if H.B == 0:
        generators.append(Symmetry(IDENTITY, REVERSE))
    group = [Symmetry(IDENTITY, KEEP)]
    for element in group:  # grows while it is walked, until it is closed
        for generator in generators:
            product = generator @ element
            if product not in group:
                group.append(product)
    return tuple(group)


def random_symmetry(spins: Any, H: Hamiltonian | None, generator: np.random.Generator | torch.Generator) -> Spins:
    """Each texture of the batch under its own random element of :func:`symmetries` and random translation.

    Uniform over the group; ``generator`` alone decides, and a texture's draw does not depend on its content.
    Without a Hamiltonian only translations are known to be exact, and they are all that is applied.

    Raises:
        BadInput: the shape is not (…, 3, H, W), or the size is refused.
    """
    spins = as_spins(spins)
    flat = spins.detach().reshape(-1, *spins.shape[-3:]).cpu()
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    textures, _, height, width = flat.shape
    moves = _table(H, (height, width))
    out = torch.empty(flat.shape, dtype=flat.dtype)
    _move(
        flat.numpy(),
        moves[_integers(generator, len(moves), textures)],
        _integers(generator, height, textures),
        _integers(generator, width, textures),
        out.numpy(),
    )
    return out.reshape(spins.shape).to(spins.device, spins.dtype)


@cache
def _table(H: Hamiltonian | None, size: tuple[int, int]) -> np.ndarray:
    """A row an element: transpose, flip rows, flip columns; three sources; whether each is negated."""
    rows = []
    for element in symmetries(H, size) if H is not None else (Symmetry(IDENTITY, KEEP),):
        sources, signs = zip(*element._components(), strict=True)
        rows.append((*element._moves(), *sources, *(sign < 0 for sign in signs)))
    return np.array(rows, np.int64)


@compiled
@no_type_check
def _move(spins, moves, down, along, out):  # pragma: no cover (compiled)
    """Each texture under its element, as in :meth:`Symmetry.__call__`, then rolled by (down, along)."""
    textures, _, height, width = out.shape
    signs = np.array([1, -1], spins.dtype)
    for texture in range(textures):
        transpose, flip_rows, flip_columns = moves[texture, 0], moves[texture, 1], moves[texture, 2]
        # where each row and column of the answer was before the roll and the flips
        rows = (np.arange(height) - down[texture]) % height
        columns = (np.arange(width) - along[texture]) % width
        rows = (height - 1 - rows if flip_rows else rows).astype(np.uint32)
        columns = (width - 1 - columns if flip_columns else columns).astype(np.uint32)
        for component in range(3):
            source = spins[texture, moves[texture, 3 + component]]
            # multiplied in the array's own precision
            sign = signs[moves[texture, 6 + component]]
            for row in range(height):
                target = out[texture, component, row]
                if transpose:
                    for column in range(width):
                        target[column] = sign * source[columns[column], rows[row]]
                else:
                    line = source[rows[row]]
                    for column in range(width):
                        target[column] = sign * line[columns[column]]


def _element(H: Hamiltonian, lattice: Matrix) -> Symmetry:
    """The spin partner that keeps S_z.

    The interfacial D_ij = D ẑ × r_ij is kept by turning or mirroring the spins as polar vectors in the plane:
    R = g ⊕ 1. The bulk model is the interfacial one with all spins turned by −90° about z, so its partner is
    that R conjugated by the turn.
    """
    (a, b), (c, d) = lattice
    if H.dmi == "bulk":
        a, b, c, d = d, -c, -b, a
    return Symmetry(lattice, ((a, b, 0), (c, d, 0), (0, 0, 1)))


def _product(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return tuple(tuple(sum(a * b for a, b in zip(row, column, strict=True)) for column in columns) for row in left)


def _determinant(m: Matrix) -> int:
    (a, b, c), (d, e, f), (g, h, i) = m
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _integers(generator: np.random.Generator | torch.Generator, below: int, count: int) -> np.ndarray:
    if isinstance(generator, np.random.Generator):
        return generator.integers(below, size=count)
    return torch.randint(below, (count,), generator=generator, device=generator.device).cpu().numpy()
