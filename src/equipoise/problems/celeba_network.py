"""The networks of CelebA by name: the published convolutional one, a vision transformer, a residual network."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.core.names import check_known
from equipoise.data.celeba import SIZE
from equipoise.models.celeba_cnn import CelebACNN
from equipoise.models.resnet import HardSharing

from .domain_network import ImageShape, image_encoder, network_sizes

SIZES: Mapping[str, Mapping[str, int]] = {
    "cnn": {"width": 64},
    "vit": {"width": 384, "depth": 12, "patch": 4},
    "resnet": {"width": 64, "depth": 26},
}
"""Network -> the sizes that it has, with their defaults."""


class FaceNetwork:
    """Which network, with which sizes.

    Args:
        model: "cnn", "vit" or "resnet".
        sizes: `width`, `depth` and `patch`, or None for the default.
        form: of the "cnn", see `CelebACNN`; None for its default, "code".

    Raises:
        ValueError: on an unknown network, or a size or form that it has not.
    """

    def __init__(self, model: str, sizes: Mapping[str, int | None], form: str | None) -> None:
        check_known("`model`", model, SIZES)
        if form is not None and model != "cnn":
            raise ValueError(f"`form` should be left out with model={model!r}. Found {form!r}.")
        self._model, self._form = model, form or "code"
        self._sizes = network_sizes(model, sizes, SIZES)

    def build(self, tasks: int) -> CelebACNN | HardSharing:
        """A network that gives a list with the logits (b,) or (b, 1) of each task; `encoder` holds what is shared.

        Raises:
            ValueError: on a size out of range.
        """
        if self._model == "cnn":
            return CelebACNN(tasks, form=self._form, **self._sizes)  # type: ignore[arg-type]
        encoder, features = image_encoder(self._model, self._sizes, ImageShape(SIZE[0], 3))
        return HardSharing(encoder, features, [1] * tasks)
