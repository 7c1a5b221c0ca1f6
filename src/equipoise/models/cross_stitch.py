"""Cross-stitch networks: a network per task, and learned linear combinations of their features in between."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .multitask import MakeHead, MultiTaskNet, Stage, check_stages


class CrossStitch(MultiTaskNet):
    """One network per task, whose features after chosen stages are combined over the tasks.

    With stage f_lk of task k and a unit after stage l,

        z_lk = sum_j A_l[k, j] f_lj(z_(l-1)j),    z_0k = x,

    where A_l (m, m) is learned and starts with `keep` on its diagonal and (1 - keep) / (m - 1) elsewhere. It is the
    same for all channels, or one for each with `per_channel`. Stages without a unit pass on their features. The head
    of task k reads the last z_k. With the identity for all A the networks are separate.

    Shared: `encoder`, that is all networks up to the last unit, and the units: through them every loss reaches every
    network. Later stages and heads belong to a task. Parameters: m times those of one network, and m^2 a unit, or
    m^2 channels, besides the heads.

    Reference: Misra et al., Cross-stitch Networks for Multi-task Learning, CVPR 2016,
    https://arxiv.org/abs/1604.03539.

    Departures: any number of tasks instead of two. The networks start at random, not from networks that were trained
    on one task each, and the units have the learning rate of all other parameters.

    Args:
        stages: of each network; the last one ends with features (b, channels).
        outputs: channels of each task's output.
        units: the stages, from 0, that a unit follows; None for all.
        keep: what a task takes from its own network at the start, 1 for separate networks.
        per_channel: True for units that differ from channel to channel.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: if there is no stage, no output, or units are none or not of these stages.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        outputs: Sequence[int],
        *,
        units: Sequence[int] | None = None,
        keep: float = 0.9,
        per_channel: bool = False,
        head: MakeHead = nn.Linear,
    ) -> None:
        check_stages(stages, 1)
        super().__init__(stages[-1].channels, outputs, head)
        self.units = sorted(set(range(len(stages)) if units is None else units))
        if not self.units or self.units[0] < 0 or self.units[-1] >= len(stages):
            raise ValueError(
                f"`units` should be some of the stages 0 to {len(stages) - 1}. Found {self.units}: for separate "
                "networks, train one task at a time."
            )
        self.encoder = nn.ModuleDict(
            {
                "networks": nn.ModuleList(_networks(stages[: self.units[-1] + 1], len(outputs))),
                "units": nn.ModuleList(
                    CrossStitchUnit(len(outputs), keep, stages[unit].channels if per_channel else None)
                    for unit in self.units
                ),
            }
        )
        self.own = nn.ModuleList(
            nn.Sequential(*network) for network in _networks(stages[self.units[-1] + 1 :], len(outputs))
        )

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The last features of each task's network."""
        parts = self.encoder
        assert isinstance(parts, nn.ModuleDict)
        units = dict(zip(self.units, parts["units"].children(), strict=True))
        tasks = [x] * len(self.heads)
        networks = [network.children() for network in parts["networks"].children()]
        for stage, modules in enumerate(zip(*networks, strict=True)):
            tasks = [module(z) for module, z in zip(modules, tasks, strict=True)]
            if stage in units:
                tasks = units[stage](tasks)
        return [network(z) for network, z in zip(self.own, tasks, strict=True)]


class CrossStitchUnit(nn.Module):
    """z_k = sum_j A[k, j] y_j for the features y_j (b, channels, ...) of m tasks.

    Args:
        tasks: m.
        keep: the diagonal of A at the start; its rows sum to 1.
        channels: how many A there are, one for each channel; None for a single one.
    """

    def __init__(self, tasks: int, keep: float = 0.9, channels: int | None = None) -> None:
        super().__init__()
        start = torch.eye(1)
        if tasks > 1:
            start = torch.full((tasks, tasks), (1 - keep) / (tasks - 1)).fill_diagonal_(keep)
        self.mixing = nn.Parameter(start if channels is None else start.repeat(channels, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The combination of each task (b, channels, ...)."""
        rule = "kj,bj...->bk..." if self.mixing.ndim == 2 else "ckj,bjc...->bkc..."
        stacked = torch.stack(list(features), dim=1)
        return list(torch.einsum(rule, self.mixing.to(stacked.dtype), stacked).unbind(dim=1))


def _networks(stages: Sequence[Stage], tasks: int) -> list[nn.ModuleList]:
    """The stages of each task's network."""
    return [nn.ModuleList(stage.make() for stage in stages) for _ in range(tasks)]
