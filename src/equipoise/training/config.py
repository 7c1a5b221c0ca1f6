"""The settings of a run, checked; the only place that knows pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from equipoise.engine.memory import MODES

try:
    from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
    from pydantic import Field as Field
    from pydantic_core import PydanticCustomError
except ImportError as error:  # pragma: no cover - tested in a subprocess
    raise ImportError('Training runs need pydantic: pip install "equipoise[cli]".') from error


class Settings(BaseModel):
    """Settings that do not change and refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Check a mapping.

        Raises:
            ValueError: naming each setting that is wrong, what it should be, and what was found.
        """
        try:
            return cls(**raw)
        except ValidationError as error:
            raise ValueError(" ".join(_said(item) for item in error.errors())) from None


class TrainConfig(Settings):
    """How one run trains. The defaults are the published QM9 protocol.

    Args:
        epochs: the number of epochs.
        warmup_epochs: of them, those in which the learning rate rises to its full value, step by step; fewer than
            `epochs`. The schedule starts after them.
        max_steps: the number of steps after which training ends within an epoch, or None.
        evaluate_every: epochs from one look at the validation part to the next.
        patience: looks without a better score after which training stops early, or None.
        method_lr: learning rate of weights that the method learns (UW). They have no weight decay, no warm-up and no
            cosine; "plateau" and "step" lower it with the model's.
        plateau_factor: what the learning rate is multiplied with when the score stalls.
        plateau_patience: looks without a better score before that happens.
        min_lr: where the learning rate stops to fall, for "plateau" and "cosine".
        schedule: of the learning rate: "plateau" as above, "step", "cosine" or "constant"; see
            `equipoise.training.schedule`.
        step_epochs: epochs from one fall to the next, for "step".
        step_factor: what the learning rate is multiplied with then.
        optimizer: "adam", "adamw" for decoupled weight decay, or "sgd"; see `equipoise.training.setup.optimizer_of`.
        momentum: of "sgd", which is plain at 0.
        weight_decay: of the model's parameters: with "adam" and "sgd" the factor d of the L2 penalty d |p|^2 / 2, with
            "adamw" what each step takes off them, lr d p. All parameters decay, biases, normalisations, embeddings too:
            the published recipe of vision transformers (Royer et al., 2023) does not say that any are left out.
        update_norm: c for steps of equal length: each changes the parameters, shared and heads together, by the length
            lr c, with any optimizer, weight decay included; None for those that the optimizer makes. For n parameters
            about 1 with "sgd", about sqrt(n) / 3 with the others; see `equipoise.training.update_scale`.
        after_step: whether a method that asks for it (FAMO) sees the losses of the same batch after the step, as
            published, for one more forward pass; without, it takes those of the next batch.
        report: "best": the test metrics at the epoch with the best validation score. "last": their mean over the last
            `last_epochs` epochs, and no epoch is selected.
        last_epochs: see `report`.
        precision: of the forward passes of training: "float32" leaves the problem's own alone, "bf16" and "fp16" run
            them under autocast, "fp16" with a loss scaler. Parameters and evaluation keep their precision.
        accumulate: labelled micro-batches in each step of the optimizer; see `equipoise.training.stepping`.
        memory: how the gradients are measured; see `equipoise.Balancer`.
        budget_gb: what `memory="auto"` may spend on gradients, in 10^9 bytes, or None for no limit.
        fidelity_every: steps from one measurement of `Balancer.fidelity` to the next, where `memory` is not
            exact and the method reads the Gramian; None for never. Its time counts as that of the steps.
    """

    epochs: int = Field(default=300, ge=1)
    warmup_epochs: int = Field(default=0, ge=0)
    max_steps: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=1, ge=1)
    patience: int | None = Field(default=None, ge=1)
    method_lr: float = Field(default=0.025, gt=0)
    plateau_factor: float = Field(default=0.7, gt=0, lt=1)
    plateau_patience: int = Field(default=5, ge=0)
    min_lr: float = Field(default=1e-5, ge=0)
    schedule: Literal["plateau", "step", "cosine", "constant"] = "plateau"
    step_epochs: int = Field(default=100, ge=1)
    step_factor: float = Field(default=0.5, gt=0, le=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    update_norm: float | None = Field(default=None, gt=0)
    after_step: bool = True
    report: Literal["best", "last"] = "best"
    last_epochs: int = Field(default=10, ge=1)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    accumulate: int = Field(default=1, ge=1)
    memory: str = "auto"
    budget_gb: float | None = Field(default=None, gt=0)
    fidelity_every: int | None = Field(default=None, ge=1)

    @field_validator("memory")
    @classmethod
    def _is_a_mode(cls, memory: str) -> str:
        """The engine keeps the list of modes."""
        if memory not in MODES:
            raise PydanticCustomError("memory", f"Input should be one of {', '.join(MODES)}")
        return memory

    @field_validator("warmup_epochs")
    @classmethod
    def _leaves_an_epoch(cls, warmup_epochs: int, info: ValidationInfo) -> int:
        """A run that ends within its warm-up never has the rate that was asked for."""
        epochs = info.data.get("epochs")  # missing where it is itself wrong
        if epochs is not None and warmup_epochs >= epochs:
            raise PydanticCustomError(
                "warmup_epochs", "Input should be less than `epochs`, {epochs}", {"epochs": epochs}
            )
        return warmup_epochs

    @field_validator("momentum")
    @classmethod
    def _is_of_sgd(cls, momentum: float, info: ValidationInfo) -> float:
        """Adam has moments of its own: a momentum that nothing reads would be a surprise."""
        if momentum and info.data.get("optimizer") != "sgd":
            raise PydanticCustomError("momentum", "Input should be 0 unless `optimizer` is sgd")
        return momentum

    @field_validator("report")
    @classmethod
    def _runs_to_its_end(cls, report: str, info: ValidationInfo) -> str:
        """The last epochs of a run that may stop early are not those of the protocol."""
        if report == "last" and info.data.get("patience") is not None:
            raise PydanticCustomError("report", "Input should be best where `patience` may stop a run early")
        return report


class RunConfig(Settings):
    """All that one run is a function of; a record stores it.

    Args:
        problem: the name of the problem.
        options: keyword arguments of the problem.
        method: the label of the method, with its hyper-parameters.
        lr: the learning rate of the model.
        seed: of the split, the initial parameters, the order of the data and the method's stream.
        train: how to train.
        device: "cpu" or "cuda".
    """

    problem: str
    options: dict[str, Any] = Field(default_factory=dict)
    method: str
    lr: float = Field(gt=0)
    seed: int = Field(ge=0)
    train: TrainConfig = TrainConfig()
    device: str = "cpu"


def _said(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"`{name}` is not a setting."
    text = str(item["msg"]).removeprefix("Input ")
    return f"`{name}` {text[0].lower()}{text[1:]}. Found {item['input']!r}."
