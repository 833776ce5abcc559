"""Other programs on the lattice of :class:`~spinloom.hamiltonian.Hamiltonian`: Spirit, spinmc, magnum.np; and pythae.

Each runs in a process of its own (:class:`Worker`): one of them changes PyTorch's default dtype on import, another
writes to the terminal from C++, none has this process's settings and none can bring it down. All are optional.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEERS = {"spirit": "Spirit", "spinmc": "spinmc", "magnumnp": "magnum.np"}
"""Name of the module, which is what pip installs too: name of the program."""

BOLTZMANN = 0.08617333262
"""meV a kelvin: Spirit's units."""

FILM = {"cell": 1e-9, "thickness": 1e-9, "J": 1e-21, "Ms": 1e6}
"""The film in SI units that the lattice stands for in magnum.np: J = 2 A t; all but J sets units of time alone."""

LIMIT = 300.0
"""Seconds a worker may take for one answer."""

SEARCH = 60.0
"""Seconds of one core within which a relaxation has to reach its goal."""


def version(name: str) -> str | None:
    """A peer's version as pip knows it, without importing it; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


class Worker:
    """A peer in its own process: ``ask("energy")`` calls that method there, of its adapter, made with ``settings``.

    Textures are handed over as files in :attr:`folder`.

    Raises:
        RuntimeError: the peer failed, died or did not answer in :data:`LIMIT` seconds; one line says which.
    """

    def __init__(self, name: str, threads: int = 1, **settings: Any) -> None:
        self.name = name
        self._room = tempfile.TemporaryDirectory()
        self.folder = Path(self._room.name)
        pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        alone = dict.fromkeys(pools, str(threads))
        alone |= {"CUDA_DEVICE": "-1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # magnum.np would take a GPU
        what = json.dumps({"name": name, "settings": settings})
        with (self.folder / "errors.txt").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spinloom.peers", what],
                cwd=self.folder,
                env={**os.environ, **alone},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._room.cleanup()

    def save(self, spins: Any) -> str:
        """Textures (…, 3, H, W) as a file that the adapter can open; its name."""
        np.save(self.folder / "texture.npy", np.asarray(spins, np.float32), allow_pickle=False)
        return "texture.npy"

    def ask(self, method: str, /, **arguments: Any) -> Any:
        """What the adapter's method returns."""
        assert self._process.stdin and self._process.stdout
        alarm = threading.Timer(LIMIT, self._process.kill)
        alarm.start()
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            said = (self.folder / "errors.txt").read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"ended with code {self._process.wait(LIMIT)}: {said[-1] if said else 'no message'}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]


class Spirit:
    """Spirit: Metropolis sweeps, each spin turned within a cone whose angle adapts to half of all being taken.

    Its energies are in meV and its temperatures in kelvin: J = 1 stands for 1 meV.
    """

    def __init__(self, J: float, D: float, size: tuple[int, int]) -> None:
        height, width = size
        settings = {
            "log_to_file": 0,
            "log_to_console": 0,
            "mc_output_any": 0,
            "hamiltonian": "heisenberg_neighbours",
            "bravais_lattice": "sc",
            "n_basis_cells": f"{width} {height} 1",
            "boundary_conditions": "1 1 0",
            "external_field_magnitude": 0,
            "anisotropy_magnitude": 0,
            "n_shells_exchange": 1,
            "jij": J,
            "n_shells_dmi": 1,
            "dij": D,
            "dm_chirality": -2,  # Néel, D ŷ for a bond along +x
            "ddi_method": "none",
        }
        Path("spirit.cfg").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._simulation = importlib.import_module("spirit.simulation")
        self._system = importlib.import_module("spirit.system")
        self._parameters = importlib.import_module("spirit.parameters.mc")
        self._sites = height * width
        self._state = importlib.import_module("spirit.state").setup("spirit.cfg", quiet=True)

    def energy(self, texture: str) -> float:
        """E/N of a texture in the unit J is given in."""
        self._system.get_spin_directions(self._state)[:] = np.load(texture).reshape(3, -1).T
        return self._energy()

    def rate(self, temperature: float, sweeps: int) -> float:
        """Million site updates a second, from the state that it is in."""
        self._parameters.set_temperature(self._state, temperature / BOLTZMANN)
        began = time.process_time()
        self._sweep(sweeps)
        return 1e-6 * sweeps * self._sites / (time.process_time() - began)

    def energies(self, texture: str, temperature: float, settle: int, blocks: int, sweeps: int) -> list[float]:
        """Means of E/N over ``blocks`` stretches of ``sweeps`` sweeps, looked at every tenth sweep."""
        self.energy(texture)
        self._parameters.set_temperature(self._state, temperature / BOLTZMANN)
        self._sweep(settle)
        means = []
        for _ in range(blocks):
            total = 0.0
            for _ in range(sweeps // 10):
                self._sweep(10)
                total += self._energy()
            means.append(total / (sweeps // 10))
        return means

    def _energy(self) -> float:
        self._system.update_data(self._state)
        return self._system.get_energy(self._state) / self._sites

    def _sweep(self, sweeps: int) -> None:
        never = 10**9  # no log lines
        self._simulation.start(self._state, self._simulation.METHOD_MC, n_iterations=sweeps, n_iterations_log=never)


class Spinmc:
    """spinmc: Metropolis sweeps of the exchange alone (D = 0; it has neither DMI nor field)."""

    def __init__(self, J: float, D: float, size: tuple[int, int]) -> None:
        if D:
            raise ValueError(f"D={D}: spinmc has no DMI; use D=0")
        self._J, self._size = J, size
        self._spinmc = importlib.import_module("spinmc")

    def rate(self, temperature: float, sweeps: int) -> float:
        """Million site updates a second; making the start is in the time and small."""
        began = time.process_time()
        self._run(temperature, sweeps - 1, 1, "random")
        return 1e-6 * sweeps * self._size[0] * self._size[1] / (time.process_time() - began)

    def energies(self, temperature: float, settle: int, blocks: int, sweeps: int, start: str = "random") -> list[float]:
        """Means of E/N in ``blocks`` runs of ``sweeps`` sweeps, each from the start anew."""
        return [self._run(temperature, settle, sweeps, start) for _ in range(blocks)]

    def _run(self, temperature: float, settle: int, sweeps: int, start: str) -> float:
        height, width = self._size
        model = self._spinmc.Spinmc()
        model.set_grid([width, height, 1], 1, [1.0], [True, True, False])
        model.set_simulation(start, "heisenberg", settle, sweeps, "metropolis", 1, [temperature])
        model.params_dict["simulation"]["boltzmann_constant"] = 1.0  # its argument for this is not read
        model.add_exchange(self._J, 0, 0, offsets=[[0, -1, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0]])
        more = ("heat_capacit", "magnetization_abs", "susceptibility_abs", "group_magnetization")
        more += ("group_susceptibility", "group_magnetization_abs", "group_susceptibility_abs")
        model.set_output(energy=True, **dict.fromkeys(more, False))
        model.run()
        return float(Path("result.txt").read_text().split()[-1])


class Magnumnp:
    """magnum.np: the LLG equation and an energy minimiser (Barzilai–Borwein steps) on torch, compiled by it.

    Set to float32, as our sweeps are; its default is float64. Energies are those of our Hamiltonian, its own are
    compared by :meth:`energy`.
    """

    def __init__(self, J: float, D: float, size: tuple[int, int]) -> None:
        import torch

        from spinloom.hamiltonian import Hamiltonian

        self._torch = torch
        self._mn = mn = importlib.import_module("magnumnp")
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        mn.logging.set_log_level(100)
        self._sites, self._H = size[0] * size[1], Hamiltonian(J=J, D=D)
        film = self._H.to_micromagnetic(FILM["cell"], FILM["thickness"], FILM["J"] * J, FILM["Ms"])
        mesh = mn.Mesh((size[1], size[0], 1), (film.cell, film.cell, film.thickness), pbc=(1, 1, 0))
        self._state = mn.State(mesh)
        # its interfacial DMI has the opposite sign; alpha = 1 relaxes fastest
        self._state.material = {"Ms": film.Ms, "A": film.A, "Di": -film.D, "alpha": 1.0}
        self._terms = [mn.ExchangeField(), mn.InterfaceDMIField()]

    def energy(self, texture: str) -> float:
        """E/N by its own energy terms, in the unit J is given in; exchange is counted from the uniform state."""
        self._start(texture)
        with self._torch.compiler.set_stance("force_eager"):  # compiling the energies takes a minute
            total = sum(float(term.E(self._state)) for term in self._terms)
        return total / FILM["J"] / self._sites - 2 * self._H.J

    def rate(self, texture: str, evaluations: int) -> float:
        """Million sites a second for which the right-hand side of the LLG equation is evaluated."""
        self._start(texture)
        llg = self._llg()
        llg.dm(self._state.t, self._state.m, self._state)  # compiles
        began = time.process_time()
        for _ in range(evaluations):
            llg.dm(self._state.t, self._state.m, self._state)
        return 1e-6 * evaluations * self._sites / (time.process_time() - began)

    def plan(self, texture: str, goals: list[float]) -> dict[str, list[float | None]]:
        """What it takes to fall to each energy E/N: seconds of simulated time (llg), evaluations (minimiser).

        None where :data:`SEARCH` seconds were not enough. Finding out is not part of any timing.
        """
        return {"llg": self._plan_llg(texture, goals), "minimiser": self._plan_minimiser(texture, goals)}

    def relax(self, texture: str, method: str, amount: float) -> dict[str, float]:
        """Seconds of one core and E/N at their end for what :meth:`plan` found."""
        self._start(texture)
        solver = self._llg() if method == "llg" else self._mn.MinimizerBB(self._terms)
        began = time.process_time()
        if method == "llg":
            solver.step(self._state, amount)
        else:
            solver.minimize(self._state, maxiter=int(amount) - 1, dm_tol=0.0)
        return {"seconds": time.process_time() - began, "energy": self._energy()}

    def _plan_llg(self, texture: str, goals: list[float]) -> list[float | None]:
        self._start(texture)
        llg, began, spent = self._llg(), time.process_time(), 0.0
        found: list[float | None] = []
        while len(found) < len(goals) and time.process_time() - began < SEARCH:
            llg.step(self._state, 5e-12)  # half the time of a spin in the exchange field
            spent += 5e-12
            while len(found) < len(goals) and self._energy() <= goals[len(found)]:
                found.append(spent)
        return found + [None] * (len(goals) - len(found))

    def _plan_minimiser(self, texture: str, goals: list[float]) -> list[float | None]:
        self._start(texture)
        watch = _Watch(self._terms[0], self._energy, goals)
        with contextlib.suppress(StopIteration):
            self._mn.MinimizerBB([watch, *self._terms[1:]]).minimize(self._state, maxiter=10**6, dm_tol=0.0)
        return watch.found + [None] * (len(goals) - len(watch.found))

    def _llg(self) -> Any:
        """Damping without precession: the same minima, with fewer evaluations."""
        return self._mn.LLGSolver(self._terms, no_precession=True)

    def _start(self, texture: str) -> None:
        spins = self._torch.from_numpy(np.load(texture))
        self._state.m = spins.permute(2, 1, 0)[:, :, None, :].contiguous()
        self._state.t = 0.0

    def _energy(self) -> float:
        spins = self._state.m[:, :, 0].permute(2, 1, 0).double()
        return float(self._H.energy(spins / spins.norm(dim=0)))


class _Watch:
    """A field term that stops the minimiser when the energy, seen at every evaluation, has met every goal."""

    def __init__(self, term: Any, energy: Any, goals: list[float]) -> None:
        self._term, self._energy, self._goals = term, energy, goals
        self._began, self._evaluations = time.process_time(), 0
        self.found: list[float | None] = []

    def h(self, state: Any) -> Any:
        self._evaluations += 1
        energy = self._energy()
        while len(self.found) < len(self._goals) and energy <= self._goals[len(self.found)]:
            self.found.append(self._evaluations)
        if len(self.found) == len(self._goals) or time.process_time() - self._began > SEARCH:
            raise StopIteration
        return self._term.h(state)


def _pythae(**settings: Any) -> Any:
    from spinloom.vaegan import Pythae  # brings torch, which the others' processes do without

    return Pythae(**settings)


ADAPTERS: dict[str, Callable[..., Any]] = {
    "spirit": Spirit,
    "spinmc": Spinmc,
    "magnumnp": Magnumnp,
    "pythae": _pythae,
}


def _serve(what: str) -> None:
    """Answer the questions on standard input, a line of JSON each, until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a peer prints, from C++ or Rust too, is not an answer
    asked = json.loads(what)
    adapter = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            if adapter is None:
                adapter = ADAPTERS[asked["name"]](**asked["settings"])
            answer = {"result": getattr(adapter, method)(**arguments)}
        except Exception as error:  # whatever a peer raises is one line of the table
            text = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {text[:200]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
