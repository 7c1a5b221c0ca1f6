"""Small folders of NYUv2 and CityScapes as they are published, written with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from equipoise.data.dense_folder import Layout

SIZE = (6, 8)
SAMPLES = {"train": 4, "val": 3}


def write(
    root: Path,
    layout: Layout,
    kind: type = np.float64,
    *,
    size: tuple[int, int] = SIZE,
    samples: dict[str, int] = SAMPLES,
) -> Path:
    """Channels last, floats, labels from -1, no depth or normal where it is 0."""
    random = np.random.default_rng(0)
    for part, count in samples.items():
        for number in range(count):
            known = random.random((*size, 1)) < 0.8
            vectors = random.normal(size=(*size, 3))
            arrays = {
                "image": random.random((*size, 3)),
                "label": random.integers(-1, layout.classes, size),
                "depth": random.uniform(0.5, 9.9, (*size, 1)) * known,
                "normal": vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) * known,
            }
            arrays["normal"][0, -1] = 0, 0, 1
            arrays["label"][-1, -2:] = -1, layout.classes - 1  # the range does not depend on the draws
            for quantity, folder in layout.folders.items():
                (root / part / folder).mkdir(parents=True, exist_ok=True)
                np.save(root / part / folder / f"{number}.npy", arrays[quantity].astype(kind))
    return root
