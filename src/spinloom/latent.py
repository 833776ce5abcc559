"""Planes through latent space, and what their codes decode to: ε, nodal points, charge and logits on a grid (Fig. 3).

What the maps say of domains and walls is in :mod:`spinloom.domains`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spinloom.errors import BadInput
from spinloom.files import read_json, write_bytes
from spinloom.hamiltonian import Hamiltonian
from spinloom.progress import progress
from spinloom.sample import CHUNK, Decode, Score, prior_latents
from spinloom.topology import charge, nodal_points
from spinloom.typing import Latents

BLOCK = 2000  # codes between two writes of a map that is being made

# planes


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane z(u, v) = origin + u·first + v·second; ``first`` and ``second`` are orthogonal and of one length.

    Attributes:
        origin, first, second: codes (latent,).
        names: what the two coordinates are called.
        marks: coordinates (u, v) of codes to be marked, with their names.

    Raises:
        BadInput: by :meth:`along` and :meth:`through`, axes or codes that span no plane.
    """

    origin: Tensor
    first: Tensor
    second: Tensor
    names: tuple[str, str] = ("u", "v")
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def along(cls, latent: int, axes: tuple[int, int] = (0, 1), seed: int = 0, draw: int = 0) -> Plane:
        """Two axes of latent space; the other components are those of the prior's code ``draw`` of ``seed``.

        Source: the paper's section "Latent space analysis".

        Raises:
            BadInput: an axis that is not there, or twice the same.
        """
        for axis in axes:
            if not 0 <= axis < latent:
                raise BadInput(f"axes={axes[0]} {axes[1]}: latent space has axes 0 to {latent - 1}; use two of them")
        if axes[0] == axes[1]:
            raise BadInput(f"axes={axes[0]} {axes[1]}: a plane needs two different axes")
        origin = prior_latents(seed, 1, latent, draw)[0]
        unit = torch.eye(latent)[list(axes)]
        origin = torch.where(unit.sum(0) > 0, torch.zeros(latent), origin)
        return cls(origin, unit[0], unit[1], (f"z{_below(axes[0])}", f"z{_below(axes[1])}"))

    @classmethod
    def through(cls, a: Tensor, b: Tensor, c: Tensor) -> Plane:
        """The plane through three codes (latent,). Its coordinates are counted from their mean, ``first`` along
        b − a, in units that put the farthest of the three at 1.5; the three are marked A, B and C.

        Raises:
            BadInput: the codes are of different lengths or on one line.
        """
        if not a.shape == b.shape == c.shape or a.ndim != 1:
            raise BadInput(f"codes of shapes {tuple(a.shape)}, {tuple(b.shape)}, {tuple(c.shape)}: need one (latent,)")
        a, b, c = (code.detach().double().cpu() for code in (a, b, c))
        middle = (a + b + c) / 3
        first = b - a
        second = (c - a) - first * ((c - a) @ first) / (first @ first).clamp(min=1e-300)
        if not first.norm() > 1e-9 or not second.norm() > 1e-6 * first.norm():
            raise BadInput("codes A, B and C lie on one line: no plane is theirs alone; use three that do not")
        scale = max(float((code - middle).norm()) for code in (a, b, c)) / 1.5
        first, second = first * (scale / first.norm()), second * (scale / second.norm())
        marks = {
            name: (float((code - middle) @ first) / scale**2, float((code - middle) @ second) / scale**2)
            for name, code in (("A", a), ("B", b), ("C", c))
        }
        return cls(middle.float(), first.float(), second.float(), ("along B − A", "across"), marks)

    @property
    def unit(self) -> float:
        """How far in latent space one goes for 1 in u or v."""
        return float(self.first.double().norm())

    def codes(self, u: Tensor, v: Tensor) -> Latents:
        """The codes (n, latent) at coordinates (n,) and (n,)."""
        return self.origin + u[:, None].float() * self.first + v[:, None].float() * self.second


def _below(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def read_code(text: str, latent: int) -> Tensor:
    """A code (latent,): ``7`` is the prior's first code of seed 7; ``FILE`` or ``FILE#k`` the k-th (from 0) under
    the key ``z`` of a safetensors or JSON file, such as a search leaves.

    Raises:
        BadInput: no such file, key or code, or one of another latent dimension.
    """
    if text.isdecimal():
        if int(text) >= 2**64:
            raise BadInput(f"{text}: a seed is a whole number from 0 to 2⁶⁴ − 1; use e.g. 3")
        return prior_latents(int(text), 1, latent)[0]
    name, _, number = text.rpartition("#") if "#" in text else (text, "", "0")
    if not number.isdecimal():
        raise BadInput(f"{text}: after # comes the number of the code, from 0, e.g. {name}#0")
    path = Path(name)
    if path.suffix == ".json":
        content = read_json(path)
        found = content.get("z") if isinstance(content, dict) else None
        z = None if found is None else _numbers(found)
    else:
        try:
            with safe_open(path, "pt") as file:
                z = file.get_tensor("z").float() if "z" in file.keys() else None  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{text}: neither a seed nor a file of codes that can be read ({error})") from error
    if z is None:
        raise BadInput(f"{path}: holds nothing under the key z; give a file of latent codes")
    if not z.numel():
        raise BadInput(f"{path}: holds no codes under the key z; give a file of latent codes")
    z = z.reshape(-1, z.shape[-1]) if z.ndim else z.reshape(1, 1)
    if z.shape[1] != latent:
        raise BadInput(f"{path}: codes of {z.shape[1]} numbers, but the run's latent space has {latent}")
    if int(number) >= len(z):
        raise BadInput(f"{text}: the file has {len(z)} codes, from #0 to #{len(z) - 1}")
    if not z[int(number)].isfinite().all():
        raise BadInput(f"{text}: the code holds NaN or infinity; use another")
    return z[int(number)]


def _numbers(found: Any) -> Tensor | None:
    try:
        return torch.tensor(found, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # torch's words for what is no array of numbers
        return None


# maps


@dataclass(frozen=True, eq=False)
class LatentMap:
    """What a plane's codes decode to, on a square grid; row = second coordinate, column = first.

    Attributes:
        energy_excess: ε (R, R) in the unit of J, float64.
        nodal_points, charge: of the textures, (R, R).
        logits: of the discriminator, (R, R), or None.
        sites: of a texture, N: N·ε is its energy above the ferromagnet.
        J: the Hamiltonian's exchange.
    """

    plane: Plane
    span: tuple[float, float]
    energy_excess: Tensor
    nodal_points: Tensor
    charge: Tensor
    logits: Tensor | None
    sites: int
    J: float

    @property
    def ticks(self) -> Tensor:
        """The grid's coordinates (R,), for columns and rows alike, float64."""
        return _ticks(self.span, len(self.energy_excess))

    @property
    def pixel(self) -> float:
        """How far neighbouring pixels lie apart in latent space."""
        return (self.span[1] - self.span[0]) / (len(self.energy_excess) - 1) * self.plane.unit

    def code(self, row: int, column: int) -> Latents:
        """The code (1, latent) of a pixel."""
        return self.plane.codes(self.ticks[[column]], self.ticks[[row]])

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name, to be kept."""
        found = {"energy_excess": self.energy_excess, "nodal_points": self.nodal_points, "charge": self.charge}
        return found if self.logits is None else found | {"logits": self.logits}


def _ticks(span: tuple[float, float], resolution: int) -> Tensor:
    return torch.linspace(span[0], span[1], resolution, dtype=torch.float64)


def checked_grid(span: tuple[float | int, float | int], resolution: int) -> tuple[float, float]:
    """The span as floats.

    Raises:
        BadInput: a span or resolution without meaning.
    """
    low, high = float(span[0]), float(span[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"range={span[0]:g} {span[1]:g}: from a smaller to a larger number, e.g. -2 2")
    if not 8 <= resolution <= 4096:
        raise BadInput(f"resolution={resolution}: pixels a side, from 8 to 4096, e.g. 256")
    return low, high


@torch.no_grad()
def latent_map(
    decode: Decode,
    H: Hamiltonian,
    plane: Plane,
    span: tuple[float | int, float | int] = (-2, 2),
    resolution: int = 256,
    score: Score | None = None,
    keep: Path | None = None,
    label: str = "",
    show: bool = False,
) -> LatentMap:
    """ε, nodal points, charge and (with ``score``) logits on the grid (``span`` × ``span``) of a plane (Fig. 3a–b).

    Args:
        decode: z → spins, with codes from the CPU (:meth:`spinloom.run.Run.decode` takes them to a GPU).
        resolution: pixels a side. Pixels lie (span's length)/(resolution − 1) apart: a wall narrower than that is
            not resolved.
        keep: a safetensors file that the map is kept in. It grows by rows while the map is made, and a call that
            finds it goes on from there, to the same bits.
        label: what ``keep`` belongs to beside the plane (say, a checksum of the networks).

    Raises:
        BadInput: a span or resolution without meaning, or ``keep`` belongs to another map.
    """
    low, high = checked_grid(span, resolution)
    names = ("energy_excess", "nodal_points", "charge") + (("logits",) if score else ())
    mark = _fingerprint(plane, (low, high), resolution, H, names, label)
    rows = _read_rows(keep, mark) if keep else {}
    done = len(rows["charge"]) if rows else 0
    sites = int(rows.pop("sites")) if rows else 0
    ticks = _ticks((low, high), resolution)
    step = max(1, BLOCK // resolution)
    with progress("mapping", resolution, "rows", show) as advance:
        advance(done)
        for first in range(done, resolution, step):
            v = ticks[first : first + step]
            z = plane.codes(ticks.repeat(len(v)), v.repeat_interleave(resolution))
            block, sites = _decoded(decode, H, z, score)
            for name, values in block.items():
                values = values.reshape(len(v), resolution)
                rows[name] = torch.cat((rows[name], values)) if name in rows else values
            if keep:
                write_bytes(keep, save(rows | {"sites": torch.tensor(sites)}, {"map": mark}))
            advance(len(v))
    logits = rows.pop("logits", None)
    return LatentMap(plane, (low, high), **rows, logits=logits, sites=sites, J=float(H.J))


def _decoded(decode: Decode, H: Hamiltonian, z: Tensor, score: Score | None) -> tuple[dict[str, Tensor], int]:
    """The quantities of codes, decoded by chunks of one length, the last one filled up."""
    found: dict[str, list[Tensor]] = {}
    sites = 0
    for part in z.split(CHUNK):
        missing = CHUNK - len(part)
        spins = decode(torch.cat((part, part[-1:].expand(missing, -1))) if missing else part)
        sites = spins.shape[-1] * spins.shape[-2]
        values = {
            "energy_excess": H.energy_excess(spins.double()),
            "nodal_points": nodal_points(spins.cpu()).int(),
            "charge": charge(spins).round().int(),
        }
        if score:
            values["logits"] = score(spins).float()
        for name, value in values.items():
            found.setdefault(name, []).append(value.cpu()[: len(part)])
    return {name: torch.cat(parts) for name, parts in found.items()}, sites


def _fingerprint(plane: Plane, span: tuple[float, float], resolution: int, H: Hamiltonian, names, label: str) -> str:
    digest = hashlib.sha256()
    for vector in (plane.origin, plane.first, plane.second):
        digest.update(vector.float().numpy().tobytes())
    digest.update(repr((span, resolution, H.as_dict(), names, label)).encode())
    return digest.hexdigest()


def _read_rows(keep: Path, mark: str) -> dict[str, Tensor]:
    if not keep.exists():
        return {}
    try:
        with safe_open(keep, "pt") as file:
            if (file.metadata() or {}).get("map") != mark:
                raise BadInput(f"{keep}: is a map of another plane, range, resolution or run; use another folder")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{keep}: cannot be read ({error}); delete it and map again") from error
