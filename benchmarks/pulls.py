"""What pulls at a hybrid's generator: the gradient of each term of its loss on its parameters, and how they lie.

    python benchmarks/pulls.py RUN --reference DATA [--gamma 0.2] [--energy 30] [--rest 10] [--spectrum 1] [--batches 4]

Adam sees the sum of the terms alone, and that up to a factor. Of every term, the norm of its mean gradient over the
batches, at the weights given (default: the run's own), and its cosine to the others'.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from spinloom import run as runs
from spinloom.dataset import open_dataset
from spinloom.objectives import Rest, real_loss, reconstruction_error, spectral_distance
from spinloom.train import _level, draw_latents


def pulls(run: runs.Run, reference: Path, weights: dict[str, float], batches: int) -> dict[str, Tensor]:
    """The mean gradient of each term, flattened."""
    data = open_dataset(reference)
    assert data.hamiltonian is not None
    above, still = _level(data), Rest(data.hamiltonian)
    batch, generator = run.config["training"]["batch"], run.nets["generator"].train().requires_grad_(True)
    parameters = list(generator.parameters())
    found: dict[str, list[Tensor]] = {}
    for number in range(batches):
        spins = data[number * batch : (number + 1) * batch]
        draw = draw_latents(7, number, batch, run.networks.latent)
        with torch.no_grad():
            mu, logvar = run.encoder(spins)
        fakes = generator(torch.cat((mu + (0.5 * logvar).exp() * draw.noise, draw.prior)))
        logits = run.discriminator(fakes)
        terms = {
            "reconstruction": reconstruction_error(spins, fakes[:batch]),
            "adversarial, reconstructions": weights["gamma"] * 0.5 * real_loss(logits[:batch]),
            "adversarial, prior": weights["gamma"] * 0.5 * real_loss(logits[batch:]),
            "energy": weights["energy"] * above.excess(fakes),
            "rest": weights["rest"] * still.distance(fakes),
            "spectrum": weights["spectrum"] * spectral_distance(fakes[batch:], spins),
        }
        for name, term in terms.items():
            slopes = torch.autograd.grad(term, parameters, retain_graph=True)
            found.setdefault(name, []).append(torch.cat([slope.flatten() for slope in slopes]))
    return {name: torch.stack(each).mean(0) for name, each in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    for weight in ("gamma", "energy", "rest", "spectrum"):
        parser.add_argument(f"--{weight}", type=float)
    parser.add_argument("--batches", type=int, default=4)
    asked = parser.parse_args()
    trained = runs.load(asked.run)
    own = trained.config["training"]
    chosen = {
        name: own.get(name, 0.0) if getattr(asked, name) is None else getattr(asked, name)
        for name in ("gamma", "energy", "rest", "spectrum")
    }
    means = pulls(trained, asked.reference, chosen, asked.batches)
    told = {
        name: {
            "norm": float(mean.norm()),
            "cosines": {other: float(torch.cosine_similarity(mean, m, 0)) for other, m in means.items()},
        }
        for name, mean in means.items()
    }
    print(json.dumps({"weights": chosen, "terms": told}, indent=1, ensure_ascii=False))
