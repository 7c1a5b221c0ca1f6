"""What a trained model predicts on a few fixed images, kept beside the logs for the report to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .storage import storing

Kind = Literal["colour", "classes", "scalar", "normal"]
FILE = "pictures.pt"


@dataclass(frozen=True)
class Picture:
    """One quantity on k images of H x W pixels.

    Args:
        name: "input", or the task.
        kind: "colour": (k, 3, H, W) from 0 to 1; "classes": (k, H, W) numbers of classes, -1 unlabelled; "scalar":
            (k, H, W), NaN unlabelled; "normal": (k, 3, H, W) unit vectors, 0 unlabelled.
        truth: as `kind` says.
        prediction: likewise, or None for the input.
        classes: their names, for "classes".
        unit: of a "scalar".
    """

    name: str
    kind: Kind
    truth: Tensor
    prediction: Tensor | None = None
    classes: tuple[str, ...] = ()
    unit: str = ""


@runtime_checkable
class Pictured(Protocol):
    """A problem that can show what a model does."""

    def pictures(self, model: nn.Module, device: torch.device) -> Sequence[Picture]:
        """The input first, then a picture per task, on fixed images of the validation part.

        The model is in evaluation mode, and no gradient is kept.
        """


def keep_pictures(problem: object, model: nn.Module, device: torch.device, folder: Path) -> None:
    """Keep what a model does on a few images, where the problem shows such."""
    if isinstance(problem, Pictured):
        model.eval()
        with torch.no_grad():
            save_pictures(folder, problem.pictures(model, device))


def save_pictures(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write the pictures of a run into its folder, whole or not at all; real numbers with 16 bits."""
    content = [
        {
            **asdict(picture),
            "classes": list(picture.classes),
            "truth": _small(picture.truth),
            "prediction": None if picture.prediction is None else _small(picture.prediction),
        }
        for picture in pictures
    ]
    temporary = folder / f"{FILE}.tmp"
    with storing(folder):
        torch.save(content, temporary)
        temporary.replace(folder / FILE)


def load_pictures(folder: Path) -> list[Picture]:
    """Read the pictures of a run; none where there are none."""
    if not (folder / FILE).exists():
        return []
    content = torch.load(folder / FILE, weights_only=True)
    return [Picture(**{**entry, "classes": tuple(entry["classes"])}) for entry in content]


def _small(values: Tensor) -> Tensor:
    values = values.detach().cpu()
    return values.half() if values.is_floating_point() else values.to(torch.int16)
