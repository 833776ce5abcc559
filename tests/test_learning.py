"""A hybrid learns: a few hundred steps beat untrained networks by far on textures never seen."""

import pytest
import torch

import spinloom as sl
from spinloom.objectives import reconstruction_error
from spinloom.presets import PIPELINES, TRAININGS
from spinloom.run import untrained
from spinloom.sample import reconstruct
from spinloom.train import train

STEPS, BATCH, RATE = 450, 20, 6e-4
"""The quick preset's networks at half their width, with small batches and long strides, to keep the tests short."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("learning")
    H = PIPELINES["quick"].hamiltonian
    data = sl.simulate(folder / "data", H, 32, 2400, seed=11, show=False)
    recipe = TRAININGS["quick"]
    config = replace(recipe.training, objective="hybrid", steps=STEPS, batch=BATCH, rate=RATE, watch_every=0)
    networks = replace(recipe.networks, generator=8, discriminator=4, encoder=4)
    return data.split(config.fraction)[1], train(data, folder / "hybrid", networks, config, show=False)


def test_held_out_textures_are_rebuilt(trained):
    held_out, run = trained
    before = float(reconstruction_error(held_out[:200], reconstruct(untrained(run, seed=0), held_out[:200])))
    after = float(reconstruction_error(held_out[:200], reconstruct(run, held_out[:200])))
    assert before == pytest.approx(2 / 3, abs=0.05)  # unrelated unit vectors
    assert after < before / 2


def test_prior_samples_go_most_of_the_way_from_untrained_to_data(trained):
    held_out, run = trained
    H = run.hamiltonian
    assert H is not None
    start, end, data = (
        float(H.energy_excess(spins.double()).mean())
        for spins in (sl.sample(untrained(run, seed=0), 200), sl.sample(run, 200), held_out[:])
    )
    assert (start - end) / (start - data) > 0.8


def test_samples_are_not_all_the_same(trained):
    held_out, run = trained

    def spread(spins: torch.Tensor) -> float:
        nearest = torch.cdist(spins.flatten(1), spins.flatten(1)).fill_diagonal_(float("inf")).min(1).values
        return float(nearest.mean())

    assert spread(sl.sample(run, 200)) > 0.7 * spread(held_out[:200])
