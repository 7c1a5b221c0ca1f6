"""Pickles that hold numpy arrays and nothing else, read without running anything that they name."""

from __future__ import annotations

import gzip
import math
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TYPES = {"<f4": torch.float32, "<i8": torch.int64}


def read_array_pickle(path: Path) -> Any:
    """Read a pickle, packed with gzip, of tuples and lists of numpy arrays.

    A pickle may name any function of any module and have it called. Here a name is looked up in a list of the few
    that arrays are written with, and stands for code of this module, so neither numpy nor anything else is imported
    or called.

    Args:
        path: of the file.

    Returns:
        What was pickled, with each array as a tensor of its shape: little-endian float32 or int64.

    Raises:
        ValueError: if the pickle names anything else (the message says what), holds an array of another type or in
            Fortran order, or is damaged.
    """
    with gzip.open(path) as file:
        try:
            return _tensors(_ArrayUnpickler(file, encoding="bytes").load())
        except RefusedError as error:
            raise ValueError(f"`{path}` should hold numpy arrays and nothing else. Found {error}") from error
        except Exception as error:  # a damaged file can fail anywhere in pickle's reader, with any exception
            raise ValueError(
                f"`{path}` should be a whole pickle of numpy arrays. Found one that cannot be read "
                f"({type(error).__name__}: {error})."
            ) from error


class RefusedError(pickle.UnpicklingError):
    """A pickle asks for something that is not read here."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name that is allowed."""
        if (module, name) not in _ALLOWED:
            raise RefusedError(f"the name {module}.{name}, which was not looked up.")
        return _ALLOWED[module, name]


class _Type:
    """Stands for numpy.dtype: a kind with its size, then, as its state, the order of bytes."""

    def __init__(self, name: str | bytes, align: bool = False, copy: bool = True) -> None:
        self.name = _text(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.name = _text(state[1]) + self.name


class _Array:
    """Stands for numpy.ndarray, which is made empty and then given its state."""

    def __init__(self, *_: object) -> None:
        self.tensor: Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or kind.name not in _TYPES or fortran:
            found = f"{getattr(kind, 'name', kind)!r}{' in Fortran order' if fortran else ''}"
            raise RefusedError(f"an array of type {found}, where {' and '.join(_TYPES)} are read.")
        dtype = _TYPES[kind.name]
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * dtype.itemsize:
            raise RefusedError(f"an array whose bytes do not fill its shape {shape}.")
        flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
        self.tensor = flat.reshape(shape)


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}


def _text(name: str | bytes) -> str:
    return name.decode("ascii") if isinstance(name, bytes) else name


def _tensors(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_tensors(entry) for entry in value)
    if isinstance(value, _Array) and value.tensor is not None:
        return value.tensor
    raise RefusedError(f"a value of type {type(value).__name__}.")
