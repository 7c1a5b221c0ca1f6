"""A device that is not the CPU, without one: tensors that say they lie on "meta" and keep their numbers in host memory.

Inside `Elsewhere`, operations on tensors of two devices are errors, as on a GPU. So is, where that is asked for, all
that makes the host wait for the device: reading a value, and a copy that is not `non_blocking`. A `Tape` stands for
a CUDA graph: it keeps the operations on the device, with their memory, and nothing of what Python does between them.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_GENERATOR = torch.Generator
_READS_BACK = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select"}
_INDEXING = {"index", "index_put", "index_put_"}
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


class _Generator:
    """A generator of the other device draws what one of the CPU does."""

    def __new__(cls, device: Any = None) -> Any:
        del device
        return _GENERATOR()


class There(Tensor):
    """A tensor of the other device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        found: There = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("meta"),
        )
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(func, args, kwargs or {}, wait=True, tape=None)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held})"


class Tape:
    """Operations on the device in their order, each with the memory that it read and wrote."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def keep(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        """Note an operation on plain tensors, and what it gave."""
        self._calls.append((func, args, kwargs, found))

    def replay(self) -> None:
        """Do all of it again, into the same memory."""
        with torch.no_grad():
            for func, args, kwargs, found in self._calls:
                own = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
                for old, new in zip(_tensors(found), _tensors(func(*args, **kwargs)), strict=True):
                    if old.untyped_storage().data_ptr() not in own:
                        old.copy_(new)


class Elsewhere(TorchDispatchMode):
    """Carries out what is asked of the other device.

    Args:
        wait: whether the host may wait for the device.
        tape: what notes the operations, or None.
    """

    def __init__(self, *, wait: bool = True, tape: Tape | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wait = wait
        self._tape = tape
        self._functions = _Functions()
        self._generators = mock.patch("torch.Generator", _Generator)

    def __enter__(self) -> Elsewhere:
        self._functions.__enter__()  # type: ignore[no-untyped-call]
        self._generators.start()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._generators.stop()
        self._functions.__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {}, wait=self._wait, tape=self._tape)


class _Functions(TorchFunctionMode):
    """What the front of torch does in another way for subclasses, or for "meta", before anything is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _elsewhere(kwargs.get("device")):
            kwargs.pop("device")
            return func(*args, **kwargs).to("meta")
        if func is Tensor.new_tensor and isinstance(args[0], There):
            return torch.tensor(args[1], dtype=args[0].dtype).to("meta")
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].cpu().tolist()
        if func in _PRODUCTS and (args[0].ndim, args[1].ndim) == (1, 2):
            return torch.mv(args[1].T, args[0])  # the other way changes a tensor's shape in place
        return func(*args, **kwargs)


def move(model: nn.Module) -> None:
    """Put the parameters and buffers of a module on the other device."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = There(parameter.detach().clone())
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = There(buffer.clone())


def _elsewhere(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _carry_out(func: Any, args: Any, kwargs: Any, *, wait: bool, tape: Tape | None) -> Any:
    name = func._schema.name.removeprefix("aten::")
    flat = _tensors((args, kwargs))
    there = any(isinstance(x, There) for x in flat)
    if kwargs.get("device") is not None:
        goes = _elsewhere(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        goes = isinstance(args[0], There) if name == "copy_" else there
    if there and name not in {"copy_", "_to_copy", "_foreach_copy_", *_INDEXING}:
        _refuse_strangers(func, flat)
    if not wait and (there or goes) and _waits(name, args, kwargs, flat, goes):
        raise RuntimeError(f"{func} waits for the device")
    args, kwargs = tree_map(lambda x: x.held if isinstance(x, There) else x, (args, kwargs))
    found = func(*args, **kwargs)
    if tape is not None and goes:
        tape.keep(func, args, kwargs, found)
    if isinstance(found, Tensor):
        for x in flat:
            if isinstance(x, There) and x.held is found:  # in place
                return x
    return tree_map(lambda x: There(x) if isinstance(x, Tensor) else x, found) if goes else found


def _refuse_strangers(func: Any, flat: list[Tensor]) -> None:
    """A single number in host memory goes along with a call; more of them do not."""
    for x in flat:
        if not isinstance(x, There) and x.ndim > 0:
            raise RuntimeError(f"{func} was given tensors of two devices, one of shape {tuple(x.shape)}")


def _waits(name: str, args: Any, kwargs: Any, flat: list[Tensor], goes: bool) -> bool:
    if name in _INDEXING:
        return any(x.dtype == torch.bool or not isinstance(x, There) for x in flat[1:])
    if name == "copy_":
        return isinstance(args[1], There) != goes and not (len(args) > 2 and args[2])
    if name == "_foreach_copy_":
        return len({isinstance(x, There) for x in flat}) == 2 and not (len(args) > 2 and args[2])
    if name == "_to_copy":
        return isinstance(args[0], There) != goes and not kwargs.get("non_blocking")
    return name in _READS_BACK
