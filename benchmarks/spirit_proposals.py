"""Spirit's equilibrium energy by how its Metropolis proposes: an equilibrium would not depend on it.  As JSON.

    python benchmarks/spirit_proposals.py [--D 0]

64 × 64, J = 1, T = 0.5, each from one texture in equilibrium, 2,000 sweeps to settle and 4 × 1,000 to average.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile

import numpy as np

from spinloom.anneal import anneal
from spinloom.hamiltonian import Hamiltonian
from spinloom.peers import Spirit
from spinloom.schedule import Schedule

PROPOSALS = {
    "cone, adaptive": (True, 40.0, True),
    "cone of 40°": (True, 40.0, False),
    "cone of 20°": (True, 20.0, False),
    "whole sphere": (False, 180.0, False),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--D", type=float, default=0.0)
    D = parser.parse_args().D
    H = Hamiltonian(D=D)
    chains = anneal(H, 64, 8, schedule=Schedule.constant(0.5, 3000), seed=1)
    found = {"spinloom, heat bath (8 chains)": [float(energy) for energy in H.energy(chains)]}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        np.save("texture.npy", chains[0].numpy())
        spirit = Spirit(1.0, D, (64, 64))
        for name, (cone, angle, adaptive) in PROPOSALS.items():
            spirit._parameters.set_metropolis_cone(spirit._state, cone, angle, adaptive, 0.5)
            found[name] = spirit.energies("texture.npy", 0.5, 2000, 4, 1000)
    rows = {
        name: {"mean": statistics.fmean(values), "standard_error": statistics.stdev(values) / len(values) ** 0.5}
        for name, values in found.items()
    }
    print(json.dumps(rows, indent=1, ensure_ascii=False))
