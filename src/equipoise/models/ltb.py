"""Learning to branch: a tree of blocks from the input to the tasks, whose branches are drawn and learned."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .multitask import MakeHead, MultiTaskNet, Stage, check_at_least, check_stages


class LearningToBranch(MultiTaskNet):
    """Blocks in levels, each of which learns from which block of the level before it takes its input.

    Level l has blocks f_lj, which all see x at the first level. Block j of a later level, or a task after the last one,
    chooses one parent among the blocks i of the level before with logits a_l[j, i]:

        input of j = sum_i d_ji f_(l-1)i(...),    d_j ~ Gumbel-softmax(a_l[j], temperature).

    With uniform u, Gumbel noise is e = -log(-log u) and d = softmax((a + e) / temperature). The forward pass takes the
    largest d as 1 and the others as 0, so it is that of a tree; the backward pass takes the derivative of the softmax
    (straight through). With `soft` the forward pass takes d itself.

    The temperature falls from the first value to the second one over `steps` forward passes in training mode, the same
    factor at each, and stays there. For the first `warmup` of them d is 1 / (number of parents). `step` counts them and
    is saved with the network, so that a resumed run goes on where it was; a micro-batch counts as one, and so does a
    batch that is only measured in training mode. In eval mode every block has its most likely parent, see `tree`.

    In training mode a forward pass draws from torch's global stream of the device: the run's own, which the trainer
    saves. One tree is drawn for the whole batch.

    Shared: `encoder`, that is all blocks and all logits, since any tree may come up. Heads belong to a task. Give it to
    the Balancer: in one step a tree can leave a block to one task, which looks like a head where it is to be inferred.
    Parameters: those of all blocks, and blocks_l blocks_(l-1) logits a level, tasks x blocks_L for the tasks, besides
    the heads.

    Reference: Guo et al., Learning to Branch for Multi-Task Learning, ICML 2020, https://arxiv.org/abs/2006.01895.

    Departures: the paper draws a network from what was learned and trains it anew. Here it goes on as it is; for the
    paper's way build a `BranchedNet` with `tree()`. The temperature's path and the number of warm-up steps are
    choices of this code. Blocks and logits have one learning rate.

    Args:
        stages: what the blocks of each level are; those of the last one end with features (b, channels).
        outputs: channels of each task's output.
        blocks: number of blocks of each level; None for as many as tasks.
        temperature: at the start and at the end, above 0.
        steps: forward passes from the one to the other, at least 1.
        warmup: forward passes before that with uniform weights.
        soft: True to mix parents in the forward pass too.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on sizes or temperatures out of range, no stage, no output, or `blocks` of another length.
    """

    step: Tensor

    def __init__(
        self,
        stages: Sequence[Stage],
        outputs: Sequence[int],
        *,
        blocks: Sequence[int] | None = None,
        temperature: tuple[float, float] = (5.0, 0.5),
        steps: int = 1000,
        warmup: int = 0,
        soft: bool = False,
        head: MakeHead = nn.Linear,
    ) -> None:
        check_stages(stages, 1)
        super().__init__(stages[-1].channels, outputs, head)
        sizes = [len(outputs)] * len(stages) if blocks is None else list(blocks)
        _check(sizes, len(stages), temperature)
        check_at_least("steps", steps, 1)
        check_at_least("warmup", warmup, 0)
        self.temperatures, self.steps, self.warmup, self.soft = temperature, steps, warmup, soft
        levels = [
            nn.ModuleList(stage.make() for _ in range(size))
            for stage, size in zip(stages, sizes, strict=True)
        ]
        choices = [Choice(parents, children) for parents, children in pairwise([*sizes, len(outputs)])]
        self.encoder = nn.ModuleDict({"levels": nn.ModuleList(levels), "choices": nn.ModuleList(choices)})
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> Tensor:
        """The temperature () of the next forward pass in training mode."""
        first, last = self.temperatures
        done = ((self.step - self.warmup).float() / self.steps).clamp(0, 1)
        return first * (last / first) ** done

    def tree(self) -> list[list[int]]:
        """The most likely parent of each block from the second level on, and in the last list of each task."""
        return [choice.logits.argmax(dim=1).tolist() for choice in self._choices()]

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The features of the last block of each task's path (b, channels)."""
        if not self.training:
            return _grow(self._levels(), _paths(self.tree()), x)
        temperature, uniform = self.temperature, self.step < self.warmup
        inputs = [x] * len(self._levels()[0])
        for level, choice in zip(self._levels(), self._choices(), strict=True):
            found = [block(z) for block, z in zip(level.values(), inputs, strict=True)]
            d = choice(temperature, soft=self.soft)
            d = torch.where(uniform, torch.full_like(d, 1 / len(found)), d)
            inputs = list(torch.einsum("ji,i...->j...", d.to(found[0].dtype), torch.stack(found)).unbind())
        self.step += 1
        return inputs

    def _levels(self) -> list[dict[int, nn.Module]]:
        parts = self.encoder
        assert isinstance(parts, nn.ModuleDict)
        return [dict(enumerate(level.children())) for level in parts["levels"].children()]

    def _choices(self) -> list["Choice"]:
        parts = self.encoder
        assert isinstance(parts, nn.ModuleDict)
        return [choice for choice in parts["choices"].children() if isinstance(choice, Choice)]


class Choice(nn.Module):
    """One of several parents for each child, drawn by Gumbel-softmax, see `LearningToBranch`.

    Args:
        parents: how many there are to choose from.
        children: how many choose.
    """

    def __init__(self, parents: int, children: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(children, parents))

    def forward(self, temperature: Tensor, *, soft: bool = False) -> Tensor:
        """The weights d (children, parents) of the parents; rows sum to 1."""
        noise = -torch.empty_like(self.logits).exponential_().log()
        d = ((self.logits + noise) / temperature.to(noise.dtype)).softmax(dim=1)
        if soft:
            return d
        hard = functional.one_hot(d.argmax(dim=1), d.shape[1]).to(d.dtype)
        return hard + (d - d.detach())


class BranchedNet(MultiTaskNet):
    """A tree of blocks from the input to the tasks: what `LearningToBranch` has found, to be trained anew.

    Blocks on no task's way are left out.

    Shared: `encoder`, the blocks on the way of two or more tasks. All others, `own`, and heads belong to a task.

    Reference: as `LearningToBranch`.

    Args:
        stages: what the blocks of each level are.
        outputs: channels of each task's output.
        tree: the parent of each block from the second level on, and in the last list of each task, as
            `LearningToBranch.tree` gives it.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on a tree with another number of levels, of tasks, or with unknown parents, and if no two tasks
            have a block in common.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        outputs: Sequence[int],
        tree: Sequence[Sequence[int]],
        *,
        head: MakeHead = nn.Linear,
    ) -> None:
        check_stages(stages, 1)
        super().__init__(stages[-1].channels, outputs, head)
        if len(tree) != len(stages) or len(tree[-1]) != len(outputs):
            raise ValueError(
                f"`tree` should have {len(stages)} lists, the last one with the parents of {len(outputs)} tasks. "
                f"Found lists of {[len(parents) for parents in tree]}."
            )
        self._paths = _paths(tree)
        used = [(level, block) for path in self._paths for level, block in enumerate(path)]
        shared, own = nn.ModuleDict(), nn.ModuleDict()
        for level, block in sorted(set(used)):
            part = shared if used.count((level, block)) > 1 else own
            part[f"{level}_{block}"] = stages[level].make()
        if not shared and len(outputs) > 1:
            raise ValueError(
                "`tree` should let two tasks share a block. Found none: these are separate networks, so train one "
                "task at a time."
            )
        self.encoder, self.own = shared, own

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The features of the last block of each task's path (b, channels)."""
        blocks = [dict[int, nn.Module]() for _ in self._paths[0]]
        for part in (self.encoder, self.own):
            for name, module in part.named_children():
                level, block = map(int, name.split("_"))
                blocks[level][block] = module
        return _grow(blocks, self._paths, x)


def _grow(
    blocks: Sequence[Mapping[int, nn.Module]], paths: Sequence[tuple[int, ...]], x: Tensor
) -> list[Tensor]:
    """The features at the end of each path; blocks on no path are left out, the others computed once."""
    found: dict[tuple[int, ...], Tensor] = {(): x}
    for path in paths:
        for level, block in enumerate(path):
            if path[: level + 1] not in found:
                found[path[: level + 1]] = blocks[level][block](found[path[:level]])
    return [found[path] for path in paths]


def _paths(tree: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The blocks from the first level to each task."""
    return [_path(tree, task) for task in range(len(tree[-1]))]


def _path(tree: Sequence[Sequence[int]], task: int) -> tuple[int, ...]:
    path = [task]
    for level in reversed(range(len(tree))):
        path.append(tree[level][path[-1]])
        known = len(tree[level - 1]) if level else path[-1] + 1
        if not 0 <= path[-1] < known:
            raise ValueError(
                f"`tree` should name parents of the level before, counted from 0. Found {path[-1]} in list {level}, "
                f"where the list before tells of {len(tree[level - 1]) if level else 'any'} blocks."
            )
    return tuple(reversed(path[1:]))


def _check(sizes: Sequence[int], levels: int, temperature: tuple[float, float]) -> None:
    if len(sizes) != levels or min(sizes) < 1:
        raise ValueError(
            f"`blocks` should be {levels} numbers from 1 on, one per stage. Found {list(sizes)}."
        )
    if not min(temperature) > 0:
        raise ValueError(f"`temperature` should be two values above 0. Found {temperature}.")
