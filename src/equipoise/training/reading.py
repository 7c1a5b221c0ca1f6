"""What is read at the end of a run, and of which part of the data."""

from __future__ import annotations

from torch import nn

from .config import TrainConfig
from .evaluation import Best, Evaluation, LastEpochs
from .problem import Loaders


def check_apart(loaders: Loaders, train: TrainConfig, *, test: bool) -> None:
    """Refuse a run without the test part where training looks at it.

    Args:
        loaders: of the run.
        train: its settings.
        test: whether it may read the test part; then anything goes.

    Raises:
        ValueError: if the test part is read epoch by epoch, or is the validation part.
    """
    if test:
        return
    if train.report == "last":
        raise ValueError(
            "`report` should be best where settings are tried out without the test part. Found last, which reads it "
            "in each of the last epochs."
        )
    if loaders.test is loaders.validation:
        raise ValueError(
            "The problem should have a validation part of its own where settings are tried out without the test part. "
            "Found that the two are one: choose a preset that splits one off, such as clean."
        )


def reported(
    evaluation: Evaluation, loaders: Loaders, best: Best, model: nn.Module, *, test: bool
) -> dict[str, dict[str, float]]:
    """The metrics at the selected epoch, by part of the data; the model is then that epoch's.

    Args:
        evaluation: of the model.
        loaders: of the run.
        best: the selected epoch.
        model: to be set to it.
        test: whether the test part is read.
    """
    model.load_state_dict(best.model)
    if not test:
        return {"validation": best.metrics}
    same = loaders.test is loaders.validation
    found = dict(best.metrics) if same else evaluation.measure(loaders.test)
    return {"validation": best.metrics, "test": found}


def reported_last(last: LastEpochs) -> dict[str, dict[str, float]]:
    """The means of both parts over the last epochs."""
    validation, test = last.means()
    return {"validation": validation, "test": test}
