"""How a run is trained: everything a training depends on besides data and networks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from spinloom.errors import BadInput, whole
from spinloom.objectives import OBJECTIVES, EnergyLevel, Objective, Rest

QUIET = frozenset(f"training.{name}" for name in ("checkpoint_every", "log_every", "watch_every", "tensorboard"))
"""Settings that do not change what comes out."""

FURTHER = ("energy", "rest", "spectrum", "r1", "instance_noise")
"""Weights that the paper does not have, of what a discriminator sees or a generator beside one loses."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a run is trained; the defaults are the paper's (section "Hyperparameters").

    A VAE is Eq. (1) as it stands: it has no discriminator and draws no samples in training, so that ``r1``,
    ``instance_noise``, ``energy``, ``rest``, ``spectrum`` and ``gamma`` do nothing to it (:attr:`idle`).

    Attributes:
        objective: "vae", "gan" or "hybrid".
        steps: updates of every player; 0 leaves the networks untrained. The paper says 6,000 and also 100 epochs
            of 600, which are 60,000.
        batch: real textures a step.
        rate: Adam's learning rate.
        momentum: Adam's (β₁, β₂).
        beta: weight of the KL divergence, Eq. (1).
        gamma: weight of the adversarial term in the hybrid's generator loss, Eq. (3).
        r1: the discriminator's loss has r1/2 E[|∂logit/∂x|²] over real textures more; 0 (the paper) has none.
        instance_noise: standard deviation of noise on what the discriminator sees; 0 (the paper) has none.
        energy: weight, in the generator's loss, of the energy by which sites of its fakes lie above the highest
            in the data, a site's mean over the data's |ε|; 0 (the paper) leaves the physics to the discriminator.
        rest: weight, in the same loss, of the mean squared distance of its fakes, over N = 3HW as the reconstruction
            error, from where ``rest_sweeps`` zero-temperature sweeps lead them; 0 (the paper) has none.
        rest_sweeps: of alignment; annealed data hardly move under them.
        spectrum: weight, in the same loss, of the energy distance between the structure factors of its prior samples
            and those of the batch's real textures, as distributions over q; 0 (the paper) has none. It tells
            labyrinths that all run one way, or too straight, from the data's.
        energy_rise: steps over which energy, rest and spectrum grow from 0, in proportion; 0 has all of them at once.
            Textures that bend as little as possible have no defects either: they set in once the encoder holds the
            data.
        halving: steps in which the learning rates halve, rate · 2^(−step/halving); 0 (the paper) keeps them.
        discriminator_rate: the discriminator's learning rate in units of ``rate``; 1 (the paper) is the same.
        fraction: share of the data set, from its start, that is trained on; the rest is held out.
        average: decay a step of the running average of the generator's parameters, which then is the generator
            that is sampled; 0 (the paper) keeps none.
        augment: whether every texture is turned by a random exact symmetry of its Hamiltonian.
        precision: "float32", or "bfloat16" for the networks' layers (torch's autocast), for GPUs and CPUs that multiply
            it. float32 in both: weights, moments, batch statistics, spectral norms, codes, logits, the last steps to
            unit spins, losses and energies, and all of sampling.
        seed: of weights, data order, latent codes.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
        tensorboard: whether metrics, looks and pictures are written for TensorBoard too, into the run's folder.
        watch_every: steps between looks at what the generator draws (``watch.jsonl``); 0 for none.

    Raises:
        BadInput: a value outside its range.
    """

    objective: str = "hybrid"
    steps: int = 6000
    batch: int = 50
    rate: float = 2e-4
    halving: int = 0
    momentum: tuple[float, float] = (0.0, 0.9)
    beta: float = 0.001
    gamma: float = 0.001
    r1: float | int = 0.0
    instance_noise: float | int = 0.0
    energy: float | int = 0.0
    rest: float | int = 0.0
    rest_sweeps: int = 20
    spectrum: float | int = 0.0
    energy_rise: int = 0
    discriminator_rate: float | int = 1.0
    fraction: float = 0.75
    average: float | int = 0.0
    augment: bool = False
    precision: str = "float32"
    seed: int = 0
    checkpoint_every: int = 200
    log_every: int = 5
    watch_every: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", tuple(self.momentum))
        if self.objective not in OBJECTIVES:
            raise BadInput(f"objective={self.objective!r}: unknown; use one of {', '.join(OBJECTIVES)}")
        for name in (
            "steps",
            "batch",
            "seed",
            "checkpoint_every",
            "log_every",
            "watch_every",
            "halving",
            "energy_rise",
            "rest_sweeps",
        ):
            object.__setattr__(self, name, whole(f"training.{name}", getattr(self, name)))
        if self.steps < 0:
            raise BadInput(f"training.steps={self.steps}: use 0 (untrained) or more")
        if self.watch_every < 0:
            raise BadInput(f"training.watch_every={self.watch_every}: use 0 (never) or more")
        if self.halving < 0:
            raise BadInput(f"training.halving={self.halving}: use 0 (never) or a number of steps, e.g. 1000")
        if self.energy_rise < 0:
            raise BadInput(f"training.energy_rise={self.energy_rise}: use 0 (at once) or a number of steps, e.g. 500")
        for name in ("batch", "checkpoint_every", "log_every", "rest_sweeps"):
            if getattr(self, name) < 1:
                raise BadInput(f"training.{name}={getattr(self, name)}: must be a positive whole number")
        if self.batch < 2:
            raise BadInput(f"training.batch={self.batch}: batch normalisation needs at least 2; use e.g. 50")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise BadInput(f"training.rate={self.rate}: the learning rate is finite and positive, e.g. 2e-4")
        if not (math.isfinite(self.discriminator_rate) and self.discriminator_rate > 0):
            raise BadInput(
                f"training.discriminator_rate={self.discriminator_rate}: a factor that is finite and positive, e.g. 1"
            )
        if len(self.momentum) != 2 or not all(0 <= value < 1 for value in self.momentum):
            raise BadInput(f"training.momentum={self.momentum}: Adam's β₁ and β₂ lie in [0, 1), e.g. 0.0 0.9")
        if not 0 < self.fraction < 1:
            raise BadInput(f"training.fraction={self.fraction}: the share trained on lies in (0, 1), e.g. 0.75")
        if not 0 <= self.average < 1:
            raise BadInput(f"training.average={self.average}: the decay lies in [0, 1), e.g. 0.999; 0 keeps none")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"training.seed={self.seed}: use a whole number from 0 to 2⁶³ − 1")
        self.losses()

    def losses(self, above: EnergyLevel | None = None, still: Rest | None = None, step: int | None = None) -> Objective:
        """The objective: its weights after ``step`` steps (else in the end), and what the Hamiltonian's refer to."""
        names = ("beta", "gamma", "r1", "instance_noise", "energy", "rest", "spectrum")
        weights = {name: getattr(self, name) for name in names}
        if step is not None and step < self.energy_rise:
            for name in ("energy", "rest", "spectrum"):
                weights[name] *= step / self.energy_rise
        return OBJECTIVES[self.objective](**weights, above=above, still=still, precision=self.precision)

    @property
    def idle(self) -> tuple[str, ...]:
        """The losses beyond the paper's that have a weight here and do nothing: a VAE's, which is Eq. (1) alone."""
        if self.objective != "vae":
            return ()
        return tuple(name for name in FURTHER if getattr(self, name))

    def rate_of(self, player: str, step: int = 0) -> float:
        """The learning rate of a player after ``step`` steps."""
        rate = self.rate * (self.discriminator_rate if player == "discriminator" else 1)
        return rate * 2 ** (-step / self.halving) if self.halving else rate

    @property
    def kept(self) -> tuple[str, ...]:
        """The networks of a run: the objective's players and, if one is kept, the averaged generator."""
        return self.losses().players + (("averaged",) if self.average else ())

    def as_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self) | {"momentum": list(self.momentum)}
