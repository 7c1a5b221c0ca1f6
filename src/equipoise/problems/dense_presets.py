"""The presets of NYUv2 and CityScapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FEW = ["ls", "uw", "famo", "go4align", "nashmtl"]
_PAPER: Mapping[str, Any] = {  # GO4Align, appendix B.3, and the code of Nash-MTL, FAMO and GO4Align
    "epochs": 200,
    "schedule": "step",
    "step_epochs": 100,
    "step_factor": 0.5,
    "method_lr": 0.025,
    "report": "last",
    "last_epochs": 10,
}


def dense_presets(methods: Sequence[str], *, images: int, epochs: int) -> dict[str, dict[str, Any]]:
    """All presets.

    "smoke": whether it runs; nothing is learnt. "quick": five minutes on two cores, a tiny SegNet on few images, only
    to see losses fall. "small": hours on a GPU, all images, a sixteenth of the weights, a tenth of the epochs.
    "paper": the published protocol with its flaws, see `docs/protocols.md`. "clean": the same training, selected on a
    validation part, with metrics over all pixels.

    Args:
        methods: of the published table.
        images: of each part in "quick".
        epochs: of "quick".
    """
    tiny = {"train": {"epochs": 2, "schedule": "constant"}, "methods": _FEW, "lrs": [1e-3], "seeds": 1}
    published = {"methods": list(methods), "lrs": [1e-4], "seeds": 3}
    return {
        "smoke": {**tiny, "options": {"protocol": "clean", "width": 2, "images": 6}},
        "quick": {
            **tiny,
            "options": {"protocol": "clean", "model": "segnet", "width": 4, "images": images},
            "train": {"epochs": epochs, "schedule": "constant"},
        },
        "small": {
            "options": {"protocol": "clean", "width": 16},
            "train": {"epochs": 20, "schedule": "step", "step_epochs": 10},
            "methods": list(methods),
            "lrs": [5e-4],
            "seeds": 1,
        },
        "paper": {**published, "options": {"protocol": "paper"}, "train": dict(_PAPER)},
        "clean": {**published, "options": {"protocol": "clean"}, "train": {**_PAPER, "report": "best"}},
    }
