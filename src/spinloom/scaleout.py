"""The same shards on many machines: the workers of a Dask cluster anneal what a data set still lacks.

A shard is a function of the request and its number alone, so it does not matter which worker makes it, when, or
how often: a worker that dies loses the shards it was at, and others make the same bytes again. A worker that
sees the data set's folder writes there itself; one that does not sends the bytes, and they are written here.
"""

from __future__ import annotations

import logging
import math
import numbers
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from spinloom import version
from spinloom.anneal import available_threads
from spinloom.dataset import Dataset, open_dataset
from spinloom.errors import BadInput
from spinloom.files import beside
from spinloom.hamiltonian import Hamiltonian, as_size
from spinloom.progress import progress
from spinloom.schedule import DEFAULT_SCHEDULE, Schedule
from spinloom.shards import INFO, PLAN, shard_name
from spinloom.simulation import Simulation, begun, finish, has_shard, missing_shards, store_shard

ANSWER = 10.0
"""Seconds a scheduler has to answer."""

FIRST_WORKER = 60.0
"""Seconds to wait for a cluster's first worker."""

NO_WORKERS = 300.0
"""Seconds without any worker after which a run stops; the same call goes on from there."""

APPEAR = 120.0
"""Seconds a file that a worker has written may take to be seen here: network file systems remember listings."""

RETRIES = 2
"""Times a shard is tried again after an error on a worker; the death of a worker is not one (Dask's setting
``distributed.scheduler.allowed-failures`` bounds those)."""


def simulate_on(
    cluster: Any,
    out: Path | str,
    H: Hamiltonian,
    size: int | tuple[int, int],
    samples: int,
    seed: int = 0,
    schedule: Schedule = DEFAULT_SCHEDULE,
    shard_size: int = 500,
    threads: int | None = None,
    show: bool = True,
    device: str | torch.device = "cpu",
    say: Callable[[str], Any] = lambda line: None,
) -> Dataset:
    """:func:`spinloom.simulate` on a Dask cluster: the same bytes, and as safe to interrupt and to call again.

    ``cluster`` is the address of a scheduler (``"tcp://host:8786"``, or the file of ``dask scheduler
    --scheduler-file``), a number of worker processes to start on this machine, or a ``distributed.Client``.
    Workers that are started here share ``threads`` cores (default: all). On a cluster a worker of n threads
    makes n shards at a time, a thread each; with fewer shards than threads each gets several.

    A worker may die at any moment, and others may join: nothing is lost or made a second time. ``say`` hears
    a line or two about workers. A script that starts workers needs ``if __name__ == "__main__":``.

    Raises:
        BadInput: as ``simulate``; Dask is not installed; the scheduler does not answer, or has no workers; a
            worker has no spinloom, or another version; the cluster is lost, or one shard kills its workers
            again and again (what is finished stays, the same call goes on from there).
    """
    out = Path(out).absolute()  # the workers' current folder is another
    simulation = Simulation(H, as_size(size), samples, seed, schedule, shard_size, str(device))
    cluster = int(cluster) if isinstance(cluster, numbers.Integral) and not isinstance(cluster, bool) else cluster
    if isinstance(cluster, int):
        _check_local(cluster, simulation)
    if (out / INFO).exists():
        with begun(out, simulation):  # which refuses another request's
            finish(out, simulation)
        return open_dataset(out)
    with _connected(cluster, threads) as client, begun(out, simulation):
        missing = missing_shards(out, simulation, range(simulation.shards))
        if missing:
            with _probe(out) as probe:
                _check_workers(client, probe, say)
                _make_all(client, out, simulation, missing, probe, show)
    _finish(out, simulation)
    return open_dataset(out)


def _check_local(workers: int, simulation: Simulation) -> None:
    if isinstance(workers, bool) or workers < 1:
        raise BadInput(f"workers={workers}: need a whole number of processes, at least 1; use e.g. workers=2")
    if simulation.device != "cpu" and workers > 1:
        raise BadInput(
            f"workers={workers} with device={simulation.device!r}: they would share one card and gain nothing; use "
            "one process, or a Dask worker a card (each with its CUDA_VISIBLE_DEVICES) and the scheduler's address"
        )


# ---------------------------------------------------------------- the cluster


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise BadInput(f"Dask is not installed ({error}); pip install 'spinloom[dask]'") from error
    return distributed


@contextmanager
def _connected(cluster: Any, threads: int | None) -> Iterator[Any]:
    """A client of the cluster; what is started here is stopped here."""
    distributed = _distributed()
    if isinstance(cluster, distributed.Client):
        yield cluster
        return
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)  # what goes wrong is said in one line, and not by every part of Dask
    try:
        if isinstance(cluster, int):
            with (
                _own_environment(),
                _local(distributed, cluster, threads) as local,
                distributed.Client(local) as client,
            ):
                yield client
        else:
            client = _client(distributed, str(cluster))
            try:
                yield client
            finally:
                with suppress(Exception):
                    client.close(timeout=ANSWER)
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _client(distributed: Any, address: str) -> Any:
    from distributed.comm.addressing import get_address_host_port

    where: dict[str, Any] = {"address": address}
    if address.endswith(".json"):
        if not Path(address).is_file():
            raise BadInput(f"{address}: no such file; start `dask scheduler --scheduler-file {address}`")
        where = {"scheduler_file": address}
    try:
        if "address" in where:
            get_address_host_port(address)  # a client that fails at this later says so twice
        return distributed.Client(**where, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"{address}: no Dask scheduler answers ({said}); start one with `dask scheduler`, or check the address"
        ) from error


@contextmanager
def _local(distributed: Any, workers: int, threads: int | None) -> Iterator[Any]:
    """Worker processes on this machine, which only this process can talk to."""
    if threads is not None and threads < 1:
        raise BadInput(f"threads={threads}: need a whole number of threads, at least 1; use e.g. threads=2")
    cores = available_threads() if threads is None else threads
    try:
        security = distributed.Security.temporary()  # else any user of this machine could give the workers orders
    except ImportError as error:
        raise BadInput(f"cryptography is not installed ({error}); pip install 'spinloom[dask]'") from error
    with _deaf_to_interrupts():
        local = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, cores // workers),
            processes=True,
            host="127.0.0.1",
            security=security,
            memory_limit=0,  # textures are a few shards a worker; pausing or killing it would help nobody
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )
    with local:
        yield local


@contextmanager
def _own_environment() -> Iterator[None]:
    """Dask sets its workers' variables, a thread each for every library, in this process: they are not to stay."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C, which a terminal sends to all; the one that started them stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _probe(out: Path) -> Iterator[Path]:
    """A file by which a worker knows this very folder; another machine may have one of the same name."""
    probe = beside(out / PLAN)
    try:
        probe.touch()
    except OSError as error:
        raise BadInput(f"{out}: cannot be written to ({error.strerror}); name another folder") from error
    try:
        yield probe
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _ask(probe: str) -> tuple[str, bool]:
    """On a worker: its spinloom's version, and whether it sees the folder."""
    return version.__version__, _sees(probe)


def _sees(probe: str) -> bool:
    return Path(probe).exists()


def _check_workers(client: Any, probe: Path, say: Callable[[str], Any]) -> None:
    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    except TimeoutError:
        raise BadInput(
            f"{address}: has no workers after {FIRST_WORKER:.0f} s; start some with `dask worker {address}`"
        ) from None
    answers = client.run(_ask, str(probe), on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            said = " ".join(str(answer).split())
            raise BadInput(f"worker {worker}: {said}; install spinloom {version.__version__} there")
        if answer[0] != version.__version__:
            raise BadInput(
                f"worker {worker}: has spinloom {answer[0]}, here is {version.__version__}; install the same on both"
            )
    blind = sum(not sees for _, sees in answers.values())
    if blind:
        say(f"{blind} of {len(answers)} workers do not see {probe.parent}: they send their shards here")


# ---------------------------------------------------------------- the work


def _work(request: dict[str, Any], probe: str, number: int, at_once: int) -> Any:
    """On a worker: make a shard. None: it is in the folder; (bytes, record): it could not be put there; a line:
    why it cannot be made."""
    from distributed import get_worker

    worker = get_worker()
    if request["version"] != version.__version__:
        return f"worker {worker.address}: has spinloom {version.__version__}, not {request['version']}"
    threads = worker.state.nthreads
    out = Path(probe).parent
    try:
        simulation = Simulation.from_info(request)
        sees = _sees(probe)
        if sees and has_shard(out, number):
            return None
        content, record = simulation.pack_shard(number, max(1, threads // min(threads, at_once)))
    except BadInput as error:
        return str(error)
    if sees:
        with suppress(BadInput):
            store_shard(out, simulation, number, content, record)
            return None
    return content, record


def _make_all(client: Any, out: Path, simulation: Simulation, missing: list[int], probe: Path, show: bool) -> None:
    """Have the workers make the shards ``missing``, a few more under way than there are threads to make them."""
    call = f"spinloom-{secrets.token_hex(4)}"
    request = simulation.as_dict()
    crew = _Crew(client)
    # what falls to one worker at a time, if its threads are enough for that
    at_once = math.ceil(len(missing) / max(1, crew.workers))
    todo = iter(missing)
    under_way: dict[Any, int] = {}
    made = simulation.shards - len(missing)
    with progress("simulating", sum(map(simulation.count, missing)), "textures", show) as advance:
        try:
            while True:
                for number in islice(todo, max(0, crew.wanted() - len(under_way))):
                    key = f"{call}-{shard_name(number)}"
                    arguments = (request, str(probe), number, at_once)
                    under_way[client.submit(_work, *arguments, key=key, pure=False, retries=RETRIES)] = number
                if not under_way:
                    return
                for future in _done(client, list(under_way)):
                    number = under_way[future]
                    _take(future, out, simulation, number)
                    del under_way[future]
                    advance(simulation.count(number))
                    made += 1
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped with {made} of {simulation.shards} shards made; the same command goes on from there"
            ) from None
        except CancelledError as error:
            raise BadInput(
                f"{client.scheduler.address if client.scheduler else 'Dask'}: the scheduler is gone, with {made} of "
                f"{simulation.shards} shards made; start it again, the same call goes on from there"
            ) from error
        finally:
            if under_way:
                with suppress(Exception):
                    client.cancel(list(under_way), force=True)


class _Crew:
    """How many workers there are, looked up once a second; without any for long, the run stops."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked = -math.inf
        self.seen = time.monotonic()
        self.threads = self.workers = 0
        self.wanted()

    def wanted(self) -> int:
        """How many shards should be under way: a few wait, so that no thread does."""
        now = time.monotonic()
        if now - self.asked >= 1:
            self.asked = now
            with suppress(OSError):  # the scheduler is gone: its futures say so
                found = self.client.nthreads()
                self.workers, self.threads = len(found), sum(found.values())
            if self.workers:
                self.seen = now
            elif now - self.seen > NO_WORKERS:
                raise BadInput(
                    f"no workers for {NO_WORKERS:.0f} s; start some, the same call then goes on from what is finished"
                )
        return 2 * self.threads + 2


def _done(client: Any, futures: list[Any]) -> list[Any]:
    """Those that are done, waiting up to a second for the first."""
    from distributed import wait

    try:
        with client.as_current():
            found: Any = wait(futures, timeout=1, return_when="FIRST_COMPLETED")
            return list(found.done)
    except TimeoutError:
        return []


def _take(future: Any, out: Path, simulation: Simulation, number: int) -> None:
    from distributed.scheduler import KilledWorker

    try:
        result = future.result()
    except KilledWorker as error:
        raise BadInput(
            f"{shard_name(number)}: {error.allowed_failures + 1} workers died at it; if they ran out of memory, use "
            "fewer threads a worker or smaller shards; else the same call goes on from what is finished"
        ) from error
    except CancelledError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and future.status != "error":  # made, and lost on its way from the scheduler
            raise CancelledError(str(error)) from error
        said = " ".join(str(error).split())
        raise BadInput(
            f"{shard_name(number)}: a worker failed ({type(error).__name__}: {said}); finished shards are kept, the "
            "same call then goes on from them"
        ) from error
    if isinstance(result, str):
        raise BadInput(result)
    if result is not None:
        store_shard(out, simulation, number, *result)


def _finish(out: Path, simulation: Simulation) -> None:
    until = time.monotonic() + APPEAR
    while not finish(out, simulation):
        if time.monotonic() > until:
            absent = missing_shards(out, simulation, range(simulation.shards))
            raise BadInput(
                f"{out}: {len(absent)} shards that workers have written do not appear here, {shard_name(absent[0])} "
                "the first; the same call later looks for them again"
            )
        time.sleep(0.5)
