"""What all architectures for several tasks have in common: heads, stages, experts and gates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

MakeModule = Callable[[], nn.Module]
MakeHead = Callable[[int, int], nn.Module]


class Stage(NamedTuple):
    """A piece of a network that can be built any number of times, for a task or an expert each."""

    make: MakeModule
    """Builds the piece with new parameters. It takes the output of the stage before, the first one the sample."""
    channels: int
    """Size of its output (b, channels, ...) along dimension 1."""


class MultiTaskNet(nn.Module, ABC):
    """A network with one output per task, whose `encoder` holds the shared parameters.

    `encoder` holds those parameters that two or more losses reach, and only those: with two or more tasks it is what
    `equipoise.Balancer(shared=...)` would infer. All others, `heads` among them, belong to one task.

    Args:
        features: values of a task's features (b, features) that its head takes.
        outputs: channels of each task's output.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: if there is no output, or one with less than 1 channel.
    """

    encoder: nn.Module

    def __init__(self, features: int, outputs: Sequence[int], head: MakeHead = nn.Linear) -> None:
        super().__init__()
        if len(outputs) == 0:
            raise ValueError("`outputs` should give the channels of at least 1 task. Found none.")
        for channels in outputs:
            check_at_least("outputs", channels, 1)
        check_at_least("features", features, 1)
        self.heads = nn.ModuleList(head(features, channels) for channels in outputs)

    @abstractmethod
    def task_features(self, x: Tensor) -> list[Tensor]:
        """What the head of each task takes, (b, features) for linear heads."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """One output (b, channels) a task, in the order of `outputs`, at least float32."""
        found = [head(f) for head, f in zip(self.heads, self.task_features(x), strict=True)]
        return [y.to(torch.promote_types(y.dtype, torch.float32)) for y in found]

    def regulariser(self, x: Tensor) -> list[Tensor]:
        """What the architecture wants added to the loss of each task, m tensors (); 0 for most.

        They are no tensor (m,), since each loss would then seem to depend on the terms of all tasks.

        Args:
            x: the samples that the losses are computed on.
        """
        return [x.new_zeros((), dtype=torch.float32) for _ in self.heads]


class Experts(nn.ModuleList):
    """n networks of one kind that all see the same samples.

    Args:
        make: builds one.
        count: n.
    """

    def __init__(self, make: MakeModule, count: int) -> None:
        super().__init__(make() for _ in range(count))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Their n outputs (b, ...)."""
        return [expert(x) for expert in self]


class Gate(nn.Module):
    """Weights of n experts for each sample: softmax(W x), W (n, inputs), without a bias.

    Args:
        inputs: values of a sample, all dimensions together.
        experts: n.

    Raises:
        ValueError: at the forward pass, if samples have another number of values.
    """

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(inputs, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weights (b, n) that are positive and sum to 1."""
        weights: Tensor = self.weigh(flat(x, self.weigh.in_features)).softmax(dim=1)
        return weights


def mix(weights: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """The weighted sum (b, ...) of n outputs (b, ...) with weights (b, n), or (n,) for all samples alike."""
    stacked = torch.stack(list(experts), dim=1)
    return torch.einsum("be,be...->b...", weights.expand(len(stacked), -1).to(stacked.dtype), stacked)


def flat(x: Tensor, inputs: int) -> Tensor:
    """Samples as vectors (b, inputs).

    Raises:
        ValueError: if samples have another number of values.
    """
    values = x.shape[1:].numel()
    if values != inputs:
        raise ValueError(
            f"`inputs` should be the number of values of a sample. Found {inputs}, and samples of shape "
            f"{tuple(x.shape[1:])}, which have {values}."
        )
    return x.flatten(1)


def chain(stages: Sequence[Stage]) -> nn.Sequential:
    """One network of stages, each with new parameters.

    Raises:
        ValueError: if there is none.
    """
    check_stages(stages, 1)
    return nn.Sequential(*(stage.make() for stage in stages))


def check_stages(stages: Sequence[Stage], least: int) -> None:
    """Refuse fewer than `least` stages."""
    if len(stages) < least:
        raise ValueError(f"`stages` should hold at least {least}. Found {len(stages)}.")


def check_at_least(name: str, value: float, least: float) -> None:
    """Refuse a value below `least`."""
    if not value >= least:
        raise ValueError(f"`{name}` should be at least {least}. Found {value}.")
