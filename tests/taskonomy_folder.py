"""A small Taskonomy in the published layouts: labels that follow from the image, written as the official files are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

BUILDINGS = {"train": ["almena", "cauthron"], "val": ["corozal"], "test": ["ihlen"]}
DOMAINS = {
    "rgb": "rgb",
    "segment_semantic": "segmentsemantic",
    "depth_euclidean": "depth_euclidean",
    "depth_zbuffer": "depth_zbuffer",
    "normal": "normal",
    "edge_texture": "edge_texture",
    "keypoints2d": "keypoints2d",
    "reshading": "reshading",
}
OMNIDATA = "{task}/taskonomy/{building}"


def stored(seed: int, size: int) -> dict[str, np.ndarray]:
    """The numbers in the files of one view."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    bright = image.mean(2)
    depth = (500 + 20 * bright).astype(np.uint16)
    depth[0, :3] = 65_535
    vectors = np.stack([bright - 128, 128 - bright, np.full_like(bright, 90)], 2)
    normal = np.rint(127.5 * (1 + vectors / np.linalg.norm(vectors, axis=2, keepdims=True))).astype(np.uint8)
    normal[0, :3] = 128  # no surface
    semantic = np.where(bright > 128, 1, 3).astype(np.uint8)
    semantic[-1] = 0
    semantic[-2, 0] = 17
    return {
        "rgb": image,
        "segment_semantic": semantic,
        "depth_euclidean": depth,
        "depth_zbuffer": np.where(depth == 65_535, depth, depth - 100).astype(np.uint16),
        "normal": normal,
        "edge_texture": (100 * bright).astype(np.uint16),
        "keypoints2d": random.integers(0, 65_536, (size, size), dtype=np.uint16),
        "reshading": bright.astype(np.uint8)[:, :, None].repeat(3, 2),
    }


def write_taskonomy(root: Path, *, views: int = 3, size: int = 32, layout: str = OMNIDATA) -> Path:
    """So many views of each building, with all files, and the split file."""
    lines = ["id,train,val,test"]
    for place, (part, names) in enumerate(BUILDINGS.items()):
        for number, building in enumerate(names):
            lines.append(",".join([building, *("1" if part == column else "0" for column in BUILDINGS)]))
            for view in range(views):
                for task, array in stored(100 * place + 10 * number + view, size).items():
                    folder = root / layout.format(task=task, building=building)
                    folder.mkdir(parents=True, exist_ok=True)
                    name = f"point_{10 + view}_view_{view}_domain_{DOMAINS[task]}.png"
                    Image.fromarray(array).save(folder / name)
    (root / "train_val_test_tiny.csv").write_text("\n".join(lines) + "\n")
    return root
