"""Discriminator-driven sampling, watched: the path of latent codes (Fig. 4), and its rules compared at equal cost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spinloom.coverage import CoverageReference
from spinloom.errors import BadInput
from spinloom.files import write_bytes
from spinloom.hamiltonian import Hamiltonian
from spinloom.measure import measure, wavelength
from spinloom.progress import progress
from spinloom.sample import CHUNK, DDLS, PAIRS, Decode, Rule, Score, drive, prior_latents
from spinloom.topology import nodal_centres, nodal_points
from spinloom.typing import Latents, Spins

AT = (0, 1, 2, 5, 10, 20, 50, 100)
"""Steps whose textures are shown, as far as there are so many."""

STEP_SIZES = (0.03, 0.1, 0.3)
"""The grid from which :func:`compare_rules` takes every rule's step size."""

PILOT = 1 << 32
"""Number of the first code the step sizes are tried on, out of the reach of those that are judged."""


# paths


@dataclass(frozen=True, eq=False)
class DrivenPaths:
    """n codes on their way through latent space; row s of a table is before step s, the last row the end.

    Attributes:
        settings: rule, steps, step size.
        energy_excess, logits, norm: ε, the logit and |z|, each (steps + 1, n).
        nodal_points: (steps + 1, n).
        at: chosen steps, and the codes there, (len(at), n, latent).
    """

    settings: DDLS
    energy_excess: Tensor
    logits: Tensor
    nodal_points: Tensor
    norm: Tensor
    at: tuple[int, ...]
    codes: Tensor

    @property
    def shown(self) -> int:
        """The code for a picture: the first whose texture has at least as many nodal points as half of those with
        any; the first of all if none has. What becomes of them has no part in the choice."""
        count = self.nodal_points[0]
        if not (count > 0).any():
            return 0
        return int((count >= count[count > 0].median()).nonzero()[0, 0])

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Mean, lower and upper quartile over the codes, a step each; |z| as a share of √latent."""
        tables = {
            "energy_excess": self.energy_excess,
            "logits": self.logits,
            "nodal_points": self.nodal_points,
            "norm": self.norm / self.codes.shape[-1] ** 0.5,
        }
        found = {}
        for name, table in tables.items():
            table = table.double()
            low, high = (table.quantile(q, dim=1).tolist() for q in (0.25, 0.75))
            found[name] = {"mean": table.mean(1).tolist(), "low": low, "high": high}
        return found

    def story(self, number: int | None = None) -> list[dict[str, float | int]]:
        """ε, logit, nodal points and |z|/√latent of one code (that :attr:`shown`) at the chosen steps."""
        number = self.shown if number is None else number
        root = self.codes.shape[-1] ** 0.5
        return [
            {
                "step": step,
                "energy_excess": float(self.energy_excess[step, number]),
                "logit": float(self.logits[step, number]),
                "nodal_points": int(self.nodal_points[step, number]),
                "norm": float(self.norm[step, number]) / root,
            }
            for step in self.at
        ]


def steps_shown(steps: int) -> tuple[int, ...]:
    """Those of :data:`AT` that come before ``steps``, and ``steps`` itself."""
    return (*(step for step in AT if step < steps), steps)


def watch_paths(
    decode: Decode,
    score: Score,
    H: Hamiltonian,
    latent: int,
    settings: DDLS,
    count: int = 100,
    seed: int = 0,
    keep: Path | None = None,
    label: str = "",
    show: bool = False,
) -> DrivenPaths:
    """The paths of the prior's codes 0 … ``count`` − 1 of ``seed``, the same that sampling by ``settings`` takes.

    Args:
        keep: a file a chunk is kept in, ``<keep>-<number>.safetensors``, so that a call that is stopped goes on.
        label: what ``keep`` belongs to beside the arguments (say, a checksum of the networks).

    Raises:
        BadInput: a count below 1, steps so large that codes or logits leave the finite numbers (at the first such
            step), or ``keep`` belongs to other arguments.
    """
    if count < 1:
        raise BadInput(f"textures={count}: watch at least 1")
    at = steps_shown(settings.steps)
    asked = (asdict(settings), seed, latent, H.as_dict(), label)
    names = ("energy_excess", "logits", "nodal_points", "norm")
    parts: list[dict[str, Tensor]] = []
    with progress(f"watching {settings.rule}", -(-count // CHUNK) * settings.steps, "steps", show) as advance:
        for first in range(0, count, CHUNK):
            file = keep and keep.with_name(f"{keep.name}-{first // CHUNK}.safetensors")
            part = _kept(file, (*asked, first))
            if part is None:
                part = _watch_chunk(decode, score, H, latent, settings, seed, first, at, advance)
                _keep(file, (*asked, first), part)
            else:
                advance(settings.steps)
            parts.append(part)
    joined = {name: torch.cat([part[name] for part in parts], 1)[:, :count] for name in (*names, "codes")}
    return DrivenPaths(settings, *(joined[name] for name in names), at=at, codes=joined["codes"])


def _watch_chunk(
    decode: Decode,
    score: Score,
    H: Hamiltonian,
    latent: int,
    settings: DDLS,
    seed: int,
    first: int,
    at: Sequence[int],
    advance: Callable[[int], None],
) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {name: [] for name in ("energy_excess", "logits", "nodal_points", "norm")}
    codes: list[Tensor] = []

    def look(step: int, z: Tensor, logits: Tensor) -> None:
        with torch.no_grad():
            spins = decode(z)
        rows["energy_excess"].append(H.energy_excess(spins.double()).cpu())
        rows["logits"].append(logits.float().cpu())
        rows["norm"].append(z.norm(dim=1).cpu())
        if not all(rows[name][-1].isfinite().all() for name in ("energy_excess", "logits", "norm")):
            raise BadInput(_ran_away(settings, step))
        rows["nodal_points"].append(nodal_points(spins.cpu()))
        if step in at:
            codes.append(z.cpu())
        if step < settings.steps:
            advance(1)

    z = drive(prior_latents(seed, CHUNK, latent, first), decode, score, settings, seed, first, look)
    with torch.no_grad():
        look(settings.steps, z, score(decode(z)))
    return {name: torch.stack(values) for name, values in rows.items()} | {"codes": torch.stack(codes)}


def _ran_away(settings: DDLS, step: int) -> str:
    if step == 0:
        return "decode, score: NaN or infinity for codes of the prior, before any step; use another run"
    size = settings.step_size
    return f"step_size={size:g}: codes, logits or ε are infinite at step {step}; use less, e.g. {size / 10:g}"


def _mark(asked: Any) -> str:
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def _keep(file: Path | None, asked: Any, tensors: dict[str, Tensor]) -> None:
    if file:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_bytes(file, save(contiguous, {"asked": _mark(asked)}))


def _kept(file: Path | None, asked: Any) -> dict[str, Tensor] | None:
    if file is None or not file.exists():
        return None
    try:
        with safe_open(file, "pt") as handle:
            if (handle.metadata() or {}).get("asked") != _mark(asked):
                raise BadInput(f"{file}: was made with other settings or another run; use another folder")
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file}: cannot be read ({error}); delete it and try again") from error


@dataclass(frozen=True)
class Box:
    """A square of ``side`` sites whose lower left one is (row, column); it may run over the boundary."""

    row: int
    column: int
    side: int

    def cut(self, sites: Tensor) -> Tensor:
        """The square out of (…, H, W)."""
        return sites.roll((-self.row, -self.column), (-2, -1))[..., : self.side, : self.side]

    def inside(self, centres: Tensor, sites: Sequence[int]) -> Tensor:
        """Those of the (row, column) centres (m, 2) on a lattice of (H, W) sites that it holds, from its corner."""
        moved = (centres - centres.new_tensor([self.row, self.column])).remainder(centres.new_tensor(list(sites)))
        return moved[(moved <= self.side - 0.5).all(1)]


def nodal_box(spins: Spins) -> Box:
    """The square, about a wavelength wide, that holds the most nodal points of a texture (3, H, W), centred at one of
    them (the first such); of a texture without any, the square in the middle (the paper's red box, Fig. 4a)."""
    height, width = spins.shape[-2:]
    side = min(height, width, max(8, round(float(wavelength(spins[None])[0]))))
    (centres,) = nodal_centres(spins[None])
    middle = torch.tensor([height / 2, width / 2], dtype=torch.float64)
    if len(centres):
        box = torch.tensor([height, width], dtype=torch.float64)
        apart = (centres[:, None] - centres[None] + box / 2).remainder(box) - box / 2
        middle = centres[int((apart.abs() <= side / 2).all(-1).sum(1).argmax())]
    row, column = (round(float(x)) - side // 2 for x in middle)
    return Box(row % height, column % width, side)


# rules


@dataclass(frozen=True)
class RuleRow:
    """What one way of sampling gives.

    Attributes:
        name: "prior" or the rule; "+ relax k" where k zero-temperature sweeps followed.
        step_size: of the rule, taken from the grid; None for the prior.
        calls: of the decoder (with the gradient, where there is one) a code.
        measures: mean and standard deviation of the quantities of :func:`spinloom.measure.measure`.
        norm: mean and standard deviation of |z|/√latent; the prior's is 1 and 1/√(2·latent).
        coverage: :meth:`spinloom.coverage.Coverage.as_dict`, or None without a reference.
        pilot: of every step size tried, the mean nodal points and ε of 50 further codes.
    """

    name: str
    step_size: float | None
    calls: int
    measures: dict[str, dict[str, float]]
    norm: dict[str, float]
    coverage: dict[str, Any] | None = None
    pilot: dict[str, dict[str, float]] | None = None


def settings_for(rule: Rule, calls: int, step_size: float) -> DDLS:
    """The steps that ``calls`` decoder calls a code allow, the last of them for the texture itself.

    Langevin decodes its start before the first proposal; DOT first looks at 100 pairs of codes for K_eff, shared by
    the 50 of a chunk.

    Raises:
        BadInput: too few calls.
    """
    steps = calls - 1 - {"langevin": 1, "dot": 2 * PAIRS // CHUNK}.get(rule, 0)
    if steps < 1:
        raise BadInput(f"steps={calls}: too few decoder calls to compare rules by; use 10 or more")
    return DDLS(rule, steps, step_size)


def compare_rules(
    decode: Decode,
    score: Score,
    H: Hamiltonian,
    latent: int,
    count: int = 100,
    calls: int = 101,
    reference: CoverageReference | None = None,
    step_sizes: Sequence[float] = STEP_SIZES,
    relax: int = 20,
    seed: int = 0,
    keep: Path | None = None,
    label: str = "",
    show: bool = False,
) -> list[RuleRow]:
    """The prior and the rules of :class:`spinloom.sample.DDLS` at ``calls`` decoder calls a code, each also relaxed.

    Every rule's step size is the one of ``step_sizes`` with the fewest nodal points, then the lowest ε, on 50 codes
    that are not judged afterwards. The rows with ``relax`` zero-temperature sweeps are the baseline: sweeps alone
    take nodal points away too, and only where textures are relaxed does a coverage by energies mean much.

    Raises:
        BadInput: too few calls, a rule whose codes run away at every step size, or ``keep`` (as in
            :func:`watch_paths`) belongs to other arguments.
    """
    from spinloom.anneal import relax as align

    rules: tuple[Rule, ...] = get_args(Rule)
    for rule in rules:
        settings_for(rule, calls, 1.0)
    asked = (seed, latent, H.as_dict(), label)
    rows: list[RuleRow] = []
    chunks = -(-count // CHUNK)
    with progress("comparing rules", len(rules) * (len(step_sizes) + chunks), "chunks", show) as advance:

        def driven(settings: DDLS | None, first: int) -> Latents:
            """The codes first … first + CHUNK − 1 at their end."""
            start = prior_latents(seed, CHUNK, latent, first)
            if settings is None:
                return start
            file = None
            if keep:
                name = f"{keep.name}-{settings.rule}-{settings.step_size:g}-{first}.safetensors"
                file = keep.with_name(name)
            part = _kept(file, (*asked, asdict(settings), first))
            if part is None:
                part = {"z": drive(start, decode, score, settings, seed, first).cpu()}
                _keep(file, (*asked, asdict(settings), first), part)
            advance(1)
            return part["z"]

        def textures(codes: Latents) -> Spins:
            with torch.no_grad():
                return torch.cat([decode(part).float().cpu() for part in codes.split(CHUNK)])

        def judge(name: str, settings: DDLS | None, pilot: dict[str, dict[str, float]] | None) -> None:
            codes = torch.cat([driven(settings, first) for first in range(0, chunks * CHUNK, CHUNK)])[:count]
            spins, size = textures(codes), codes.double().norm(dim=1) / latent**0.5
            if not (size.isfinite().all() and spins.isfinite().all()):
                at = f"step_size={settings.step_size:g}" if settings else "decode"
                raise BadInput(f"{at}: codes or textures of {name} are not finite; use smaller step_sizes, fewer steps")
            norm = {"mean": float(size.mean()), "std": float(size.std()) if count > 1 else 0.0}
            for sweeps in (0, relax) if relax else (0,):
                judged = align(spins, H, sweeps=sweeps) if sweeps else spins
                rows.append(
                    RuleRow(
                        name + (f" + relax {sweeps}" if sweeps else ""),
                        settings.step_size if settings else None,
                        calls if settings else 1,
                        measure(judged, H).summary(),
                        norm,
                        reference(judged).as_dict() if reference else None,
                        pilot,
                    )
                )

        judge("prior", None, None)
        for rule in rules:
            pilot, ranks = {}, {}
            for step_size in step_sizes:
                codes = driven(settings_for(rule, calls, step_size), PILOT)
                found = textures(codes)
                points = float(nodal_points(found).double().mean())
                energy = float(H.energy_excess(found.double()).mean())
                if math.isfinite(energy) and codes.isfinite().all():  # else they ran away, so large is the step
                    pilot[f"{step_size:g}"] = {"nodal_points": points, "energy_excess": energy}
                    ranks[points, energy, step_size] = step_size
            best = ranks[min(ranks)] if ranks else min(step_sizes)
            judge(rule, settings_for(rule, calls, best), pilot)
    return rows
