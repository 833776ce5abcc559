"""A GPU that is none: tensors that say they are on one and refuse to meet the CPU's, with the CPU's numbers.

torch checks what is where when an operation runs, so that a machine without a GPU finds nothing. In :class:`PretendGpu`
a tensor moved to "cuda" is a wrapper around one on the CPU. An operation on both kinds raises, as CUDA's would (but for
single numbers, and indices on the CPU); every other one runs on what is wrapped. Values can be looked at, other than
those of torch's FakeTensorMode, so that whole searches and relaxations run.
"""

from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class OnGpu(torch.Tensor):
    """A tensor said to be on a GPU; ``inside`` has its numbers."""

    @staticmethod
    def __new__(cls, inside: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device="meta",  # what autograd sees: one device, and not the CPU's
        )
        made.inside = inside
        return made

    @property
    def device(self):
        return GPU

    def __repr__(self):
        return f"OnGpu({self.inside!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        return _run(function, arguments, options or {})


def _run(function, arguments, options):
    options = dict(options)
    tensors = [one for one in tree_flatten((arguments, options))[0] if isinstance(one, torch.Tensor)]
    there = any(isinstance(one, OnGpu) for one in tensors)
    wanted = options.get("device")
    if wanted is not None:
        to_gpu = wanted.type == "meta"
        options["device"] = torch.device("cpu")
    else:
        to_gpu = there
    meet = [one for one in (arguments[:1] if function in INDEXED else tensors) if isinstance(one, torch.Tensor)]
    if there and function not in MOVES and any(not isinstance(one, OnGpu) and one.ndim for one in meet):
        raise RuntimeError(f"{function}: Expected all tensors to be on the same device, cuda:0 and cpu!")
    bare = tree_map(lambda one: one.inside if isinstance(one, OnGpu) else one, (arguments, options))
    answer = function(*bare[0], **bare[1])
    if function is aten.copy_.default or function._schema.name.endswith("_"):
        return arguments[0]  # in place: the wrapper stays
    return tree_map(lambda one: OnGpu(one) if to_gpu and isinstance(one, torch.Tensor) else one, answer)


class PretendGpu(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        return _run(function, arguments, options or {})


class Renamed(TorchFunctionMode):
    """torch without CUDA refuses its name: what is asked of "cuda" is asked of "meta"."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is torch.Tensor.new_tensor and isinstance(arguments[0], OnGpu):
            return OnGpu(torch.tensor(arguments[1], dtype=arguments[0].dtype))  # torch makes it where no mode sees it
        if function is not torch.device:
            arguments, options = tree_map(_renamed, (arguments, options or {}))
        return function(*arguments, **(options or {}))


def _renamed(one):
    named = isinstance(one, (str, torch.device)) and str(one).startswith("cuda")
    return torch.device("meta") if named else one


@contextmanager
def pretend_gpu():
    """Inside, "cuda" is there."""
    with mock.patch.object(torch.cuda, "is_available", lambda: True), Renamed(), PretendGpu():
        yield
