"""The expected values in tests/golden, as tensors."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FOLDER = Path(__file__).parent / "golden"
_KEY = re.compile(r"([a-z_0-9]+)(?:\[(.*)\])?")


@cache
def golden(name: str) -> dict[str, Any]:
    """The content of one file of expected values."""
    content: dict[str, Any] = json.loads((_FOLDER / name).read_text())
    return content


def vector(values: Any) -> Tensor:
    """Numbers of a golden file as a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def parse_key(key: str) -> tuple[str, dict[str, Any]]:
    """The method and hyper-parameters of a key such as `cagrad[c=0.4]`."""
    match = _KEY.fullmatch(key)
    assert match is not None, key
    pairs = [pair.split("=") for pair in match[2].split(",")] if match[2] and "=" in match[2] else []
    return match[1], {name: _number(value) for name, value in pairs}


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
