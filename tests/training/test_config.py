"""Settings say what is wrong with them."""

import subprocess
import sys

import pytest

from equipoise.training.config import RunConfig, TrainConfig


def test_the_defaults_are_the_published_protocol() -> None:
    found = TrainConfig().model_dump()
    assert found == {
        "epochs": 300,
        "warmup_epochs": 0,
        "max_steps": None,
        "evaluate_every": 1,
        "patience": None,
        "method_lr": 0.025,
        "plateau_factor": 0.7,
        "plateau_patience": 5,
        "min_lr": 1e-5,
        "schedule": "plateau",
        "step_epochs": 100,
        "step_factor": 0.5,
        "optimizer": "adam",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "update_norm": None,
        "after_step": True,
        "report": "best",
        "last_epochs": 10,
        "precision": "float32",
        "accumulate": 1,
        "memory": "auto",
        "budget_gb": None,
        "fidelity_every": None,
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, r"`epochs` should be greater than or equal to 1\. Found 0\."),
        ({"epochs": "many"}, r"`epochs` should be a valid integer.* Found 'many'\."),
        ({"plateau_factor": 1.0}, r"`plateau_factor` should be less than 1\. Found 1\.0\."),
        ({"method_lr": float("nan")}, r"`method_lr` should be a finite number\. Found nan\."),
        ({"precision": "fp8"}, r"`precision` should be 'float32', 'bf16' or 'fp16'\. Found 'fp8'\."),
        (
            {"patience": 3, "report": "last"},
            r"`report` should be best where `patience` may stop a run early\. Found 'last'\.",
        ),
        ({"epochs": 5, "warmup_epochs": 5}, r"`warmup_epochs` should be less than `epochs`, 5\. Found 5\."),
        ({"epochs": 5, "warmup_epochs": 9}, r"`warmup_epochs` should be less than `epochs`, 5\. Found 9\."),
        ({"warmup_epochs": -1}, r"`warmup_epochs` should be greater than or equal to 0\. Found -1\."),
        ({"epochs": 0, "warmup_epochs": 5}, r"`epochs` should be greater than or equal to 1\. Found 0\."),
        ({"optimizer": "lion"}, r"`optimizer` should be 'adam', 'adamw' or 'sgd'\. Found 'lion'\."),
        ({"momentum": 0.9}, r"`momentum` should be 0 unless `optimizer` is sgd\. Found 0\.9\."),
        ({"update_norm": 0}, r"`update_norm` should be greater than 0\. Found 0\."),
        (
            {"schedule": "linear"},
            r"`schedule` should be 'plateau', 'step', 'cosine' or 'constant'\. Found 'linear'\.",
        ),
        ({"accumulate": 0}, r"`accumulate` should be greater than or equal to 1\. Found 0\."),
        ({"memory": "less"}, r"`memory` should be one of auto, rows, .*layerwise, .*\. Found 'less'\."),
        ({"budget_gb": 0}, r"`budget_gb` should be greater than 0\. Found 0\."),
        ({"epoch": 3}, r"`epoch` is not a setting\."),
        ({"epochs": 0, "patience": 0}, r"`epochs` should .*\. `patience` should .*"),
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrainConfig.read(setting)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().__setattr__("epochs", 3)


def test_a_run_goes_to_json_and_back() -> None:
    run = RunConfig(
        problem="toy", options={"size": 3}, method="ls", lr=1e-3, seed=1, train=TrainConfig(epochs=2)
    )
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    with pytest.raises(ValueError, match=r"`lr` should be greater than 0\. Found -1\.0\."):
        RunConfig.read({**run.model_dump(), "lr": -1.0})


def test_a_missing_pydantic_names_the_extra() -> None:
    script = "import sys; sys.modules['pydantic'] = None\nimport equipoise.training.config"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'Training runs need pydantic: pip install "equipoise[cli]".' in done.stderr


def test_a_configuration_from_before_precision_and_micro_batches_is_read() -> None:
    """What a record of an earlier version holds."""
    train = {"epochs": 2, "max_steps": None, "evaluate_every": 1, "patience": None, "method_lr": 0.025}
    train |= {"plateau_factor": 0.7, "plateau_patience": 5, "min_lr": 1e-5}
    old = {
        "problem": "toy",
        "options": {},
        "method": "ls",
        "lr": 0.1,
        "seed": 0,
        "train": train,
        "device": "cpu",
    }
    assert RunConfig.read(old) == RunConfig(
        problem="toy", method="ls", lr=0.1, seed=0, train=TrainConfig(epochs=2)
    )
