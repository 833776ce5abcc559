"""Several processes of one training, as ``torchrun`` starts them: shares of a batch, and what is summed over all.

Every process holds all networks and a share of every batch. Batch statistics are those of the whole batch
(:class:`SyncedBatchNorm2d`), gradients are averaged, so a step is that of one process on the same batch, to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from spinloom.errors import BadInput


@dataclass(frozen=True)
class Crew:
    """The processes of one training: this is number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, along the first axis."""
        return batch.chunk(self.world)[self.rank]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, all in one message."""
        if self.world == 1:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def any(self, flag: bool, device: str | torch.device = "cpu") -> bool:
        """Whether the flag is set in any of them."""
        if self.world == 1:
            return flag
        count = torch.tensor([float(flag)], device=device)
        distributed.all_reduce(count)
        return bool(count.item())

    def agree(self, number: int, device: str | torch.device = "cpu") -> bool:
        """Whether all have the same number."""
        if self.world == 1:
            return True
        ends = torch.tensor([float(number), -float(number)], dtype=torch.float64, device=device)
        distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        return ends[0].item() == -ends[1].item()

    def meet(self) -> None:
        """Wait until all are here."""
        if self.world > 1:
            distributed.barrier()


def _world() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    found = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    if found["RANK"] is None or found["WORLD_SIZE"] in (None, "1"):
        return 1
    numbers = {name: str(found[name]).isdigit() for name in ("RANK", "WORLD_SIZE")}
    wrong = [name for name, value in found.items() if value is None or not numbers.get(name, True)]
    if wrong:
        raise BadInput(f"{wrong[0]}={found[wrong[0]]}: set by no torchrun; start with torchrun, or unset RANK")
    return int(str(found["WORLD_SIZE"]))


def speaks() -> bool:
    """Whether this process is the one of ``torchrun``'s that prints; True without ``torchrun``."""
    return _world() == 1 or os.environ["RANK"] == "0"


@contextmanager
def joined(device: str) -> Iterator[tuple[Crew, str]]:
    """The processes that ``torchrun`` started with this one, and this one's device; alone without ``torchrun``.

    Raises:
        BadInput: more processes on this machine than it has GPUs; variables that ``torchrun`` has not set; another
            process has stopped.
    """
    if _world() == 1:
        yield Crew(), device
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise BadInput(
                f"torchrun: process {local} of this machine has no GPU, there are {torch.cuda.device_count()}; use "
                f"--nproc-per-node {torch.cuda.device_count()}, or --device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    mine = not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Crew(distributed.get_rank(), distributed.get_world_size()), device
    except distributed.DistError as error:
        raise BadInput(_lost(error)) from error
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "Connection")):
            raise
        raise BadInput(_lost(error)) from error
    finally:
        if mine:
            distributed.destroy_process_group()


def _lost(error: Exception) -> str:
    why = (str(error).splitlines() or [type(error).__name__])[-1].strip()
    return f"torchrun: another process has stopped ({why}); what it said is the reason, the same command goes on"


def gathered(x: Tensor) -> Tensor:
    """The shares of all processes along the first axis, in their order; no slope goes through it."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


class _Sum(torch.autograd.Function):
    """The sum over all processes; the slope of a sum of all their losses is again a sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' shares, on CPUs too; every share is as large."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = input.numel() // input.shape[1] * distributed.get_world_size()
        full = input.to(self.weight.dtype)
        mean = cast(Tensor, _Sum.apply(full.sum((0, 2, 3)))) / count
        centred = full - mean[:, None, None]
        variance = cast(Tensor, _Sum.apply(centred.square().sum((0, 2, 3)))) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias[:, None, None], centred, scale[:, None, None]).to(input.dtype)


def synced(network: nn.Module, crew: Crew) -> nn.Module:
    """The network, whose batch normalisations see all processes' shares; parameters and names stay."""
    if crew.world > 1:
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncedBatchNorm2d
            if hasattr(module, "together"):
                cast(Any, module).together = True
    return network
