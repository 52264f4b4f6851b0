"""A device for tests that is not the CPU, says so ("lazy"), and computes on the CPU all the same.

Within `PretendGpu`, tensors on this device wrap those of the CPU. Mixing devices raises, as on a GPU, and what a GPU would
make the host wait for is counted by operator: numbers and copies that go to the CPU, results whose size depends on values.
"""

from collections import Counter
from contextlib import ExitStack
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "lazy"  # to "cuda" autograd would want a driver
aten = torch.ops.aten
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
_SIZE_DEPENDS = ("nonzero", "_unique2", "unique_dim", "masked_select", "repeat_interleave", "equal", "bincount", "nms")


class _OnDevice(torch.Tensor):
    """Says that it is on the device; `held` is the tensor that it wraps."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, device=f"{DEVICE}:0", requires_grad=requires_grad, **layout
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _active[-1].run(function, args, kwargs or {})


_active: list["PretendGpu"] = []


class PretendGpu(TorchDispatchMode):
    """
    Attributes:
        waits: how often the host would have waited, by the name of the operator.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __enter__(self):
        self._patches = ExitStack()
        self._patches.enter_context(
            torch.autograd.set_multithreading_enabled(False)
        )  # else by threads of a real device
        # A wrapper keeps its shape.
        self._patches.enter_context(mock.patch.object(torch.Tensor, "unsqueeze_", torch.Tensor.unsqueeze))
        torch._C._set_only_lift_cpu_tensors(True)
        _active.append(self)
        return super().__enter__()

    def __exit__(self, *error):
        _active.pop()
        self._patches.close()
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def run(self, function, args, kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, _OnDevice)]
        self._check(function, args, tensors)
        self._count(function, args, kwargs, bool(ours))
        to = kwargs.get("device")
        on_device = bool(ours) if to is None else torch.device(to).type == DEVICE
        own = {
            **kwargs,
            **({"device": "cpu"} if to is not None else {}),
            **({"pin_memory": False} if "pin_memory" in kwargs else {}),
        }
        result = function(*tree_map(_held, args), **tree_map(_held, own))
        if not on_device or function is aten._local_scalar_dense.default:
            return args[0] if function is aten.copy_.default else result
        known = {id(tensor.held): tensor for tensor in ours}  # what is changed in place stays the same tensor
        return tree_map(
            lambda leaf: (known[id(leaf)] if id(leaf) in known else _OnDevice(leaf)) if _is_plain(leaf) else leaf,
            result,
        )

    def _check(self, function, args, tensors):
        if function in (aten._to_copy.default, aten.copy_.default):
            return
        tensors = args[:1] + args[2:3] if function in _INDEXING else tensors  # an index may be on the CPU
        kinds = {type(tensor) is _OnDevice for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.dim()}
        if len(kinds) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {function} found both kinds")

    def _count(self, function, args, kwargs, ours):
        name = function.overloadpacket.__name__
        to_cpu = (
            function is aten._to_copy.default and torch.device(kwargs.get("device") or DEVICE).type == "cpu"
            or function is aten.copy_.default and not isinstance(args[0], _OnDevice)
        )  # fmt: skip
        by_mask = function in _INDEXING and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if ours and (to_cpu or by_mask or name == "_local_scalar_dense" or name in _SIZE_DEPENDS):
            self.waits[name] += 1


def _held(leaf):
    return leaf.held if isinstance(leaf, _OnDevice) else leaf


def _is_plain(leaf):
    return isinstance(leaf, torch.Tensor) and not isinstance(leaf, _OnDevice)


def to_device(module: nn.Module) -> nn.Module:
    """Moves the parameters and buffers of a module, which `Module.to` does not do for wrappers."""
    for part in module.modules():
        for name, own in part._parameters.items():
            if own is not None:
                part._parameters[name] = nn.Parameter(_OnDevice(own.data), requires_grad=own.requires_grad)
        for name, own in part._buffers.items():
            if own is not None:
                part._buffers[name] = _OnDevice(own)
    return module
