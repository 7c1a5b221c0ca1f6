"""CIFAR-10 + STL-10, DomainNet and office folders as problems: batches, augmentation, networks, and whole runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from colour_folders import write_cifar, write_domainnet, write_office, write_stl
from equipoise.benchmark.plan import Overrides, PlanError, make_plan
from equipoise.benchmark.records import read_records
from equipoise.cli import app
from equipoise.data.colour_domain import PARTS
from equipoise.problems.cifar_stl import CifarStl
from equipoise.problems.colour_domains import ColourDomains
from equipoise.problems.domainnet import DomainNet
from equipoise.problems.office import Office
from equipoise.problems.registry import problem_class
from equipoise.training.problem import Checkable, Described, Previewed, description

CLASSES = ["aircraft_carrier", "airplane", "alarm_clock"]
TINY: dict[str, Any] = {"batch_size": 8, "workers": 0}
PROBLEMS: dict[str, Any] = {"cifar_stl": CifarStl, "domainnet": DomainNet, "office": Office}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("colour")
    write_cifar(root / "cifar_stl")
    write_stl(root / "cifar_stl")
    counts = {name: (24 + 2 * k, 8) for k, name in enumerate(PROBLEMS["domainnet"].tasks)}
    write_domainnet(root / "domainnet", {task.name: counts[task] for task in counts}, CLASSES)
    write_office(root / "office", {"Art": 10, "Real World": 15}, CLASSES)
    return root


def problem(root: Path, name: str, **options: Any) -> ColourDomains:
    if name != "cifar_stl":
        options = {"root": str(root / "caches"), "side": 16, "width": 2, "crop": 2, **options}
    else:
        options = {"width": 16, "depth": 1, "patch": 8, **options}
    made = PROBLEMS[name](data=str(root / name), **{**TINY, **options})
    assert isinstance(made, ColourDomains)
    return made


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_step_has_bytes_of_every_domain_and_the_network_sees_minus_one_to_one(
    root: Path, name: str
) -> None:
    found = problem(root, name, crop=0, flip=False)
    side = 32 if name == "cifar_stl" else 16
    batch = next(iter(found.loaders(0).train.epoch(1)))
    assert list(batch) == [task.name for task in found.tasks]
    for domain, part in batch.items():
        assert part.images.shape == (8, 3, side, side) and part.images.dtype == torch.uint8
        known = found.domains[domain]
        rows = known.parts["train"]
        by_image = {known.pixels[row].numpy().tobytes(): int(known.labels[row]) for row in rows.tolist()}
        assert [by_image[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()
    values = found.inputs(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    assert values == pytest.approx([-1, -0.6, 1], abs=1e-6)


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_the_parts_are_the_same_for_every_seed(root: Path, name: str) -> None:
    found = problem(root, name)
    for seed in (0, 1):
        loaders = found.loaders(seed)
        for loader, part in ((loaders.validation, "validation"), (loaders.test, "test")):
            for batch in loader:
                ((domain, images),) = batch.items()
                known = found.domains[domain]
                assert torch.equal(
                    images.images, known.pixels[known.parts[part]]
                )  # as they are: no augmentation
                assert torch.equal(images.labels, known.labels[known.parts[part]])


def test_training_images_are_moved_and_mirrored_whatever_the_workers(root: Path) -> None:
    def epoch(**options: Any) -> list[Tensor]:
        loader = problem(root, "cifar_stl", domains="cifar10", **options).loaders(1).train
        return [batch["cifar10"].images for batch in loader.epoch(1)]

    plain, moved, ahead = epoch(crop=0, flip=False), epoch(), epoch(workers=2)
    again = list(problem(root, "cifar_stl", domains="cifar10").loaders(1).train.epoch(1, 3))
    assert all(torch.equal(a, b) for a, b in zip(moved, ahead, strict=True))
    assert torch.equal(again[0]["cifar10"].images, moved[3])
    mirrored = [
        b.flatten(1).eq(a.flip(3).flatten(1)).all(1) for a, b in zip(plain, epoch(crop=0), strict=True)
    ]
    same = [b.flatten(1).eq(a.flatten(1)).all(1) for a, b in zip(plain, epoch(crop=0), strict=True)]
    assert all((m | s).all() for m, s in zip(mirrored, same, strict=True))
    assert 20 < sum(int(m.sum()) for m in mirrored) < 60  # of 80
    assert not any(torch.equal(a, b) for a, b in zip(plain, moved, strict=True))


@pytest.mark.parametrize("name", list(PROBLEMS))
@pytest.mark.parametrize(
    ("model", "sizes"),
    [("resnet", {"width": 2, "depth": 26}), ("vit", {"width": 16, "depth": 2, "patch": 8})],
)
def test_both_networks_classify(root: Path, name: str, model: str, sizes: dict[str, int]) -> None:
    found = problem(root, name, model=model, **{"patch": None, **sizes})
    net, again = found.model(1), found.model(1)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    losses = found.losses(net, next(iter(found.loaders(0).train.epoch(1))))
    assert list(losses) == [task.name for task in found.tasks]
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    with torch.no_grad():
        measured = found.evaluate(net.eval(), found.loaders(0).test)
    assert list(measured) == list(found.reference) and all(0 <= value <= 100 for value in measured.values())


def test_large_images_are_reduced_by_the_first_layer_of_a_resnet(root: Path) -> None:
    def first_stride(side: int) -> tuple[int, ...]:
        net = problem(root, "office", side=side, images=4, crop=0).model(0)
        return next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d)).stride

    assert first_stride(64) == (1, 1) and first_stride(72) == (2, 2)


def test_classes_of_cifar_stl_and_of_lists_and_folders(root: Path) -> None:
    assert len(problem(root, "cifar_stl").classes) == 9
    eleven = problem(root, "cifar_stl", classes="all")
    assert eleven.classes[9:] == ("frog", "monkey")
    assert list(problem(root, "domainnet", domains="sketch").classes) == CLASSES
    assert list(problem(root, "office").classes) == CLASSES
    assert sum(p.numel() for p in eleven.model(0).parameters()) - 2 * 17 == sum(
        p.numel() for p in problem(root, "cifar_stl").model(0).parameters()
    )


def test_what_shows_the_class_is_learnt(root: Path) -> None:
    """Colours show the class: thirty steps are far better than the majority class, on both domains."""
    found = problem(root, "cifar_stl", batch_size=32)
    model, loaders = found.model(0), found.loaders(0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for epoch in range(1, 16):
        for batch in loaders.train.epoch(epoch):
            optimizer.zero_grad()
            torch.stack(list(found.losses(model, batch).values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        measured = found.evaluate(model.eval(), loaders.test)
    assert all(value > 70 for value in measured.values()), measured
    assert all(value < 20 for value in found.trivial(0).values())


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_the_preview_counts_and_tells(root: Path, name: str) -> None:
    found = problem(root, name, mixing="sampled")
    assert isinstance(found, Previewed)
    shown = found.preview()
    for row, (domain, known) in zip(shown.rows, found.domains.items(), strict=True):
        assert row[:4] == (domain, *(f"{len(known.parts[part]):,}" for part in PARTS))
    assert shown.notes[0].endswith(f" pixels, {len(found.classes)} classes.")
    assert shown.notes[1].endswith("one domain; domains are drawn in proportion to their batches.")


def test_images_left_out_are_counted(root: Path, tmp_path: Path) -> None:
    folder = write_office(tmp_path / "office", {"a": 10}, CLASSES)
    (folder / "a/airplane/frame_0003.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"Found 1 bad file: a/airplane/frame_0003\.jpg \(unreadable"):
        problem(tmp_path, "office")
    notes = problem(tmp_path, "office", skip_bad=True).preview().notes
    assert notes[-1] == "a: 1 image(s) left out, whose files are missing or damaged."


def test_two_office_folders_have_caches_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_office(tmp_path / name / "office", {"a": 5}, CLASSES)
        Office(data=str(tmp_path / name / "office"), root=str(tmp_path / "caches"), side=8, width=2, **TINY)
    assert len(list((tmp_path / "caches").glob("office-*/a-8.u8"))) == 2


def test_the_tasks_are_the_chosen_domains(root: Path) -> None:
    for name, cls in PROBLEMS.items():
        assert problem_class(name) is cls and all(isinstance(cls, kind) for kind in (Described, Checkable))
        every = description(cls, {"data": str(root / name)})
        assert every.tasks == problem(root, name).tasks
        two = [every.tasks[1].name, every.tasks[0].name]
        some = description(cls, {"data": str(root / name), "domains": ",".join(two)})
        assert [task.name for task in some.tasks] == two
        assert some.reference == {f"{domain} accuracy": 100.0 for domain in two}
        facts = cls.data()
        assert {"available", "source", "layout", "licence", "citation", "check"} <= set(facts)
        json.dumps(facts)


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_every_preset_is_a_plan_with_options_in_range(root: Path, name: str) -> None:
    for preset in PROBLEMS[name].presets:
        options = PROBLEMS[name].presets[preset]["options"]
        plan = make_plan(PROBLEMS[name], preset, Overrides(settings={"data": str(root / name)}))
        assert {"ls", "uw"} <= set(plan.methods)
        if preset != "full" and options.get("side", 64) <= 64:
            small = {**options, "data": str(root / name), **TINY}
            small |= {} if name == "cifar_stl" else {"root": str(root / "caches")}
            PROBLEMS[name](**small)
    recipe = CifarStl.presets["paper"]["train"]
    assert (recipe["epochs"], recipe["warmup_epochs"], recipe["weight_decay"]) == (300, 30, 0.05)


def test_an_office_plan_needs_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(
        PlanError, match=r"`data` should be a folder that holds DOMAIN/CLASS.* Found no folder"
    ):
        make_plan(PROBLEMS["office"], "smoke")
    assert not Office.data()["available"] and "--data" in Office.data()["problem"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar_stl", {"domains": "cifar"}, r"each of them, should be one of cifar10, stl10\. Found 'cifar'"),
        ("cifar_stl", {"domains": "stl10,stl10"}, r"`domains` should be different names, at least 1\."),
        ("cifar_stl", {"classes": "both"}, r"`classes` should be one of shared, all\. Found 'both'\."),
        ("cifar_stl", {"images": 0}, r"`images` should be at least 1\. Found 0\."),
        ("cifar_stl", {"crop": -1}, r"`crop` should be at least 0\. Found -1\."),
        ("cifar_stl", {"workers": -1}, r"`workers` should be at least 0\. Found -1\."),
        ("cifar_stl", {"model": "lenet"}, r"`model` should be one of resnet, vit\. Found 'lenet'\."),
        ("cifar_stl", {"patch": 5}, r"`image` should be a multiple of `patch`, 5\. Found 32\."),
        ("cifar_stl", {"batch_size": 0}, r"`batch_size` should be at least 1\. Found 0\."),
        ("cifar_stl", {"mixing": "mixed"}, r"`mixing` should be one of together, sampled\."),
        ("cifar_stl", {"mixing": "sampled", "weights": "0.5,0.6"}, r"should be 2 numbers .* outside the simplex"),
        ("cifar_stl", {"mixing": "sampled", "weights": "1,0"}, r"Found 0 for stl10, which would not be trained"),
        ("domainnet", {"patch": 4}, r"`patch` should be left out with model='resnet'\. Found 4\."),
        ("domainnet", {"side": 0}, r"`side` should be at least 1\. Found 0\."),
        ("domainnet", {"depth": 7}, r"`depth` should be one of 18, .* Found 7\."),
        ("office", {"domains": "Real"}, r"should be one of Art, Real World\. Found 'Real'\."),
        ("office", {"width": 0}, r"`width` should leave at least 1 of 64 channels"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_before_anything_is_read(
    root: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        problem(root, name, **options)


def test_folders_are_checked_from_the_command_line(root: Path) -> None:
    for name in PROBLEMS:
        done = CliRunner().invoke(app, ["data", name, "--data", str(root / name), "--json"])
        assert done.exit_code == 0, done.output
        facts = json.loads(done.stdout)[name]
        assert facts["available"] and facts["root"] == str(root / name)


def settings(**options: object) -> list[str]:
    return [word for name, value in options.items() for word in ("--set", f"{name}={value}")]


def test_the_benchmark_runs_from_an_office_folder(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the table, with single-task baselines of a domain that has a blank in its name."""
    drawn: list[Path] = []
    monkeypatch.setattr("equipoise.report.build.write_report", lambda where, **kwargs: drawn.append(where))
    monkeypatch.chdir(tmp_path)
    words = ["bench", "office", "--preset", "smoke", "--methods", "ls,nashmtl", "--jobs", "1"]
    words += ["--data", str(root / "office")]
    words += settings(root=tmp_path / "caches", side=16, width=2, batch_size=8)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    records = read_records(Path("runs/office-smoke"))
    assert [record.task for record in records] == [None, None, "Art", "Real World"]
    assert {record.status for record in records} == {"ok"}
    assert "Real World accuracy" in done.stdout and drawn == [Path("runs/office-smoke")]


def test_a_search_moves_how_cifar_and_stl_are_sampled(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members on part of the training images, then networks trained anew on all; the page is drawn in other tests."""
    monkeypatch.setattr("equipoise.report.search_page.write_search_page", lambda plan, found, where: where)
    monkeypatch.chdir(tmp_path)
    words = [
        "search",
        "cifar_stl",
        "--preset",
        "smoke",
        "--act",
        "sampling",
        "--data",
        str(root / "cifar_stl"),
    ]
    words += ["--population", "2", "--interval", "1", "--epochs", "2", "--seeds", "1", "--no-restarts"]
    done = CliRunner().invoke(app, [*words, *settings(mixing="sampled", images=32)])
    assert done.exit_code == 0, done.output
    lines = Path("runs/search-cifar_stl-smoke/genealogy.jsonl").read_text().splitlines()
    weights = [json.loads(line)["assignment"]["weights"] for line in lines]
    assert len(weights) == 4 and all(sum(one) == pytest.approx(1) for one in weights)
    assert len({tuple(one) for one in weights}) > 1
    for variant in ("uniform", "constant", "schedule"):
        assert f"Trained anew with {variant} weights" in done.output
