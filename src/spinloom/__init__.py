"""spinloom weaves magnetic textures: anneal, learn, generate and judge topological spin structures.

The verbs below are imported when first used, so ``import spinloom`` and the command line's help stay quick.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spinloom.version import __version__

if TYPE_CHECKING:
    from spinloom.anneal import anneal, relax
    from spinloom.coverage import coverage
    from spinloom.dataset import Dataset, open_dataset, repair_dataset, simulate, verify_dataset, write_dataset
    from spinloom.domains import find_crossing, find_domains, map_numbers, survey
    from spinloom.errors import BadInput
    from spinloom.explain import compare_rules, watch_paths
    from spinloom.gradcam import fake_map, overlap
    from spinloom.hamiltonian import Hamiltonian
    from spinloom.interchange import export_dataset, import_dataset
    from spinloom.invert import invert
    from spinloom.latent import Plane, latent_map
    from spinloom.measure import Table, measure
    from spinloom.micromagnetic import Micromagnetic
    from spinloom.networks import NetworkConfig
    from spinloom.novelty import novelty
    from spinloom.ovf import OvfField, read_ovf, write_ovf
    from spinloom.paths import interpolate, relax_path
    from spinloom.pattern import pattern
    from spinloom.pictures import analytic_guess, picture_of, read_picture
    from spinloom.run import Run, load
    from spinloom.sample import reconstruct, sample
    from spinloom.scaleout import simulate_on
    from spinloom.schedule import Schedule
    from spinloom.search import search
    from spinloom.spectrum import structure_factor
    from spinloom.spiral import ground_state
    from spinloom.topology import bond_share, charge, nodal_points
    from spinloom.train import train
    from spinloom.training_config import TrainingConfig

_ROOMS = {
    "anneal": ("anneal", "relax"),
    "coverage": ("coverage",),
    "dataset": ("Dataset", "open_dataset", "repair_dataset", "simulate", "verify_dataset", "write_dataset"),
    "domains": ("find_crossing", "find_domains", "map_numbers", "survey"),
    "errors": ("BadInput",),
    "explain": ("compare_rules", "watch_paths"),
    "gradcam": ("fake_map", "overlap"),
    "hamiltonian": ("Hamiltonian",),
    "interchange": ("export_dataset", "import_dataset"),
    "invert": ("invert",),
    "latent": ("Plane", "latent_map"),
    "measure": ("Table", "measure"),
    "spectrum": ("structure_factor",),
    "micromagnetic": ("Micromagnetic",),
    "networks": ("NetworkConfig",),
    "novelty": ("novelty",),
    "ovf": ("OvfField", "read_ovf", "write_ovf"),
    "paths": ("interpolate", "relax_path"),
    "pattern": ("pattern",),
    "pictures": ("analytic_guess", "picture_of", "read_picture"),
    "run": ("Run", "load"),
    "sample": ("reconstruct", "sample"),
    "scaleout": ("simulate_on",),
    "schedule": ("Schedule",),
    "search": ("search",),
    "spiral": ("ground_state",),
    "topology": ("bond_share", "charge", "nodal_points"),
    "train": ("train",),
    "training_config": ("TrainingConfig",),
}
_HOME = {verb: room for room, verbs in _ROOMS.items() for verb in verbs}

__all__ = [
    "BadInput",
    "Dataset",
    "Hamiltonian",
    "Micromagnetic",
    "NetworkConfig",
    "OvfField",
    "Plane",
    "Run",
    "Schedule",
    "Table",
    "TrainingConfig",
    "__version__",
    "analytic_guess",
    "anneal",
    "bond_share",
    "charge",
    "compare_rules",
    "coverage",
    "export_dataset",
    "fake_map",
    "find_crossing",
    "find_domains",
    "ground_state",
    "import_dataset",
    "interpolate",
    "invert",
    "latent_map",
    "load",
    "map_numbers",
    "measure",
    "nodal_points",
    "novelty",
    "open_dataset",
    "overlap",
    "pattern",
    "picture_of",
    "read_ovf",
    "read_picture",
    "reconstruct",
    "relax",
    "relax_path",
    "repair_dataset",
    "sample",
    "search",
    "simulate",
    "simulate_on",
    "structure_factor",
    "survey",
    "train",
    "verify_dataset",
    "watch_paths",
    "write_dataset",
    "write_ovf",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spinloom' has no attribute {name!r}")
    return getattr(importlib.import_module(f"spinloom.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps a verb in the place of the room that bears its name: importing ``spinloom.anneal`` would else put
    the module where users expect the function ``spinloom.anneal``. ``from spinloom.anneal import …`` is
    untouched by this."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
