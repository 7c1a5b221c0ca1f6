"""Learning to branch: drawn trees against blocks put together by hand, the draws and their derivatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.models.ltb import BranchedNet, Choice, LearningToBranch
from equipoise.models.multitask import MultiTaskNet, Stage
from models.sharing_cases import (
    assert_encoder_is_shared,
    assert_evaluates_alike,
    assert_precise_outputs,
    built,
    losses_of,
    pictures,
    vectors,
)
from models.test_cgc import CONVOLUTIONAL, LAYERS, OUTPUTS
from models.test_segnet import count

BLOCKS = [2, 3, 2]
TREE = [
    [1, 0, 1],
    [2, 0],
    [1, 0, 1],
]  # the tasks' ways are 1-0-1? see `way`: every level has a choice of its own


def make(**changes: Any) -> LearningToBranch:
    return LearningToBranch(LAYERS, OUTPUTS, **({"blocks": BLOCKS} | changes))


def make_convolutional(**changes: Any) -> LearningToBranch:
    return LearningToBranch(CONVOLUTIONAL, OUTPUTS, **changes)


def way(tree: Sequence[Sequence[int]], task: int) -> list[int]:
    """The blocks from the first level to a task, found from the end."""
    last = tree[-1][task]
    if len(tree) == 1:
        return [last]
    return [*way(tree[:-1], last), last]


def by_hand(net: Any, tree: Sequence[Sequence[int]], x: Tensor) -> list[Tensor]:
    """The output of each task when blocks and heads are put together along its way."""
    outputs = []
    for task, head in enumerate(net.heads):
        y = x
        for level, block in enumerate(way(tree, task)):
            y = net.encoder["levels"][level][block](y)
        outputs.append(head(y))
    return outputs


def decide(net: Any, tree: Sequence[Sequence[int]]) -> None:
    """Logits that leave no doubt, whatever the noise."""
    for choice, parents in zip(net.encoder["choices"], tree, strict=True):
        nn.init.zeros_(choice.logits)
        for child, parent in enumerate(parents):
            choice.logits.data[child, parent] = 500.0


def equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_decided_at_low_temperature_it_is_the_fixed_tree(soft: bool, training: bool) -> None:
    net = built(partial(make, temperature=(0.1, 0.1), soft=soft)).train(training)
    decide(net, TREE)
    assert net.tree() == TREE
    assert equal(net(vectors()), by_hand(net, TREE, vectors()))
    assert not equal(net(vectors()), by_hand(net, [[0, 1, 0], [0, 2], [1, 0, 1]], vectors()))


def test_a_step_draws_a_tree_with_gumbel_noise() -> None:
    net: Any = built(partial(make, temperature=(2.0, 2.0)))
    for choice in net.encoder["choices"]:
        nn.init.normal_(choice.logits)
    seen = set()
    for seed in range(10):
        torch.manual_seed(seed)
        found = net(vectors())
        torch.manual_seed(seed)
        tree = []
        for choice in net.encoder["choices"]:
            noise = -torch.empty_like(choice.logits).exponential_().log()
            tree.append((choice.logits + noise).argmax(1).tolist())
        assert equal(found, by_hand(net, tree, vectors()))
        seen.add(str(tree))
    assert len(seen) > 5


def test_parents_are_drawn_as_often_as_the_softmax_says() -> None:
    choice = Choice(3, 20_000)
    logits = torch.tensor([0.5, -0.3, 1.2])
    choice.logits.data[:] = logits
    for temperature in (0.3, 3.0):
        torch.manual_seed(0)
        shares = choice(torch.tensor(temperature)).mean(0)
        assert (shares - logits.softmax(0)).abs().max() < 4 * (0.25 / 20_000) ** 0.5
        assert set(choice(torch.tensor(temperature)).detach().flatten().unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("soft", [False, True])
def test_the_derivative_is_that_of_the_softmax(soft: bool) -> None:
    choice = Choice(3, 2).double()
    nn.init.normal_(choice.logits)
    cost = torch.randn(2, 3, dtype=torch.float64)
    torch.manual_seed(4)
    (found,) = torch.autograd.grad((choice(torch.tensor(0.7), soft=soft) * cost).sum(), choice.logits)
    torch.manual_seed(4)
    noise = -torch.empty_like(choice.logits).exponential_().log()
    powers = ((choice.logits.detach() + noise) / torch.tensor(0.7).double()).exp()
    d = powers / powers.sum(1, keepdim=True)
    for child in range(2):
        for parent in range(3):
            mean = float((d[child] * cost[child]).sum())
            expected = float(d[child, parent]) * (float(cost[child, parent]) - mean) / 0.7
            assert abs(float(found[child, parent]) - expected) < 1e-7


def test_soft_draws_mix_parents_in_the_forward_pass() -> None:
    net: Any = built(lambda: LearningToBranch(LAYERS[:1], OUTPUTS, soft=True, temperature=(3.0, 3.0)))
    torch.manual_seed(5)
    found = net(vectors())
    torch.manual_seed(5)
    d = net.encoder["choices"][0](torch.tensor(3.0), soft=True)
    blocks = [block(vectors()) for block in net.encoder["levels"][0]]
    for task, head in enumerate(net.heads):
        features = d[task, 0] * blocks[0] + d[task, 1] * blocks[1] + d[task, 2] * blocks[2]
        assert torch.allclose(found[task], head(features), rtol=1e-6)


def test_the_temperature_falls_by_a_factor_from_step_to_step() -> None:
    net = built(partial(make, temperature=(4.0, 0.25), steps=4, warmup=2))
    found = []
    for _ in range(9):
        found.append(float(net.temperature))
        net(vectors())
    assert found == pytest.approx([4, 4, 4, 2, 1, 0.5, 0.25, 0.25, 0.25])
    net.eval()(vectors())
    assert int(net.step) == 9


def test_parents_have_equal_weights_while_it_warms_up() -> None:
    net: Any = built(partial(make, warmup=1))
    inputs = [vectors()] * 2
    for level in net.encoder["levels"]:
        inputs = [sum(block(z) for block, z in zip(level, inputs, strict=True)) / len(level)] * 3
        inputs = inputs[: 3 if level is net.encoder["levels"][0] else 2]
    expected = [head(inputs[0]) for head in net.heads]
    assert equal(net(vectors()), expected)
    assert not equal(net(vectors()), expected)


def test_a_loaded_state_goes_on_where_it_was() -> None:
    net = built(partial(make, temperature=(5.0, 0.5), steps=10, soft=True))
    for _ in range(3):
        net(vectors())
    other = built(partial(make, temperature=(5.0, 0.5), steps=10, soft=True))
    other.load_state_dict(net.state_dict())
    torch.manual_seed(6)
    expected = net(vectors())
    torch.manual_seed(6)
    found = other(vectors())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_finds_the_block_that_serves_a_task() -> None:
    stages = [Stage(lambda: nn.Identity(), 2), Stage(lambda: nn.Identity(), 2)]
    torch.manual_seed(0)
    net: Any = LearningToBranch(stages, [1, 1], steps=100, temperature=(2.0, 0.3))
    net.encoder["levels"][1][1] = nn.Hardtanh(
        -1e9, -1e-9
    )  # the negative part; the other block passes on everything
    for head in net.heads:
        nn.init.ones_(head.weight)
        nn.init.zeros_(head.bias)
    x = torch.randn(64, 2)
    targets = [x.clamp(max=0).sum(1, keepdim=True), x.sum(1, keepdim=True)]
    logits = [choice.logits for choice in net.encoder["choices"]]
    balancer = eq.Balancer(eq.build_method("ls", n_tasks=2), shared=logits)
    for _ in range(100):
        losses = [(y - t).square().mean() for y, t in zip(net(x), targets, strict=True)]
        balancer.backward(losses)
        for parameter in logits:
            parameter.data -= 0.5 * parameter.grad
            parameter.grad = None
    assert net.tree()[-1] == [1, 0]


def test_the_tree_built_anew_is_what_was_found() -> None:
    net: Any = built(make)
    decide(net, TREE)
    tree = net.tree()
    other: Any = built(lambda: BranchedNet(LAYERS, OUTPUTS, tree))
    for part in (other.encoder, other.own):
        for name, block in part.items():
            level, index = map(int, name.split("_"))
            block.load_state_dict(net.encoder["levels"][level][index].state_dict())
    other.heads.load_state_dict(net.heads.state_dict())
    assert equal(other(vectors()), net.eval()(vectors()))
    ways = [way(tree, task) for task in range(3)]
    users = {(level, w[level]): [v[level] for v in ways].count(w[level]) for w in ways for level in range(3)}
    assert set(other.encoder) == {f"{level}_{block}" for (level, block), n in users.items() if n > 1}
    assert set(other.own) == {f"{level}_{block}" for (level, block), n in users.items() if n == 1}


def test_has_the_documented_number_of_parameters() -> None:
    heads = sum((2 + 1) * channels for channels in OUTPUTS)
    blocks = sum(n * count(stage.make()) for n, stage in zip(BLOCKS, LAYERS, strict=True))
    assert count(make()) == blocks + 3 * 2 + 2 * 3 + 3 * 2 + heads


@pytest.mark.parametrize(
    ("build", "x", "inferred"),
    [
        (make, vectors(), False),
        (partial(make, soft=True), vectors(), True),
        (partial(make_convolutional, soft=True), pictures(), True),
        (partial(make, warmup=5), vectors(), True),
        (lambda: BranchedNet(LAYERS, OUTPUTS, TREE), vectors(), True),
        (lambda: BranchedNet(CONVOLUTIONAL, OUTPUTS, [[0, 0, 0], [2, 1, 1]]), pictures(), True),
    ],
)
def test_all_blocks_are_shared_before_a_tree_is_fixed(
    build: Callable[[], MultiTaskNet], x: Tensor, inferred: bool
) -> None:
    assert_encoder_is_shared(build, x, inferred=inferred)
    assert_precise_outputs(built(build), x)
    assert_evaluates_alike(built(build), x)


def test_a_block_that_one_task_drew_is_no_head() -> None:
    net = built(partial(make, temperature=(0.1, 0.1)))
    decide(net, [[0, 1, 1], [0, 1], [0, 1, 1]])
    with pytest.raises(ValueError, match="pass `shared=` to the Balancer"):
        eq.Balancer(eq.build_method("mgda", n_tasks=3)).backward(losses_of(net, vectors()))
    eq.Balancer(eq.build_method("mgda", n_tasks=3), shared=net.encoder).backward(losses_of(net, vectors()))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearningToBranch([], [1]), "`stages` should hold at least 1. Found 0."),
        (lambda: make(blocks=[2, 2]), "`blocks` should be 3 numbers from 1 on, one per stage. Found [2, 2]."),
        (
            lambda: make(blocks=[2, 0, 1]),
            "`blocks` should be 3 numbers from 1 on, one per stage. Found [2, 0, 1].",
        ),
        (
            lambda: make(temperature=(1.0, 0.0)),
            "`temperature` should be two values above 0. Found (1.0, 0.0).",
        ),
        (lambda: make(steps=0), "`steps` should be at least 1. Found 0."),
        (lambda: make(warmup=-1), "`warmup` should be at least 0. Found -1."),
        (
            lambda: BranchedNet(LAYERS, OUTPUTS, TREE[:2]),
            "`tree` should have 3 lists, the last one with the parents of 3 tasks. Found lists of [3, 2].",
        ),
        (
            lambda: BranchedNet(LAYERS, OUTPUTS, [[0], [0], [0, 1, 0]]),
            "`tree` should name parents of the level before, counted from 0. Found 1 in list 2, where the list before "
            "tells of 1 blocks.",
        ),
        (
            lambda: BranchedNet(LAYERS[:1], OUTPUTS, [[0, -1, 0]]),
            "`tree` should name parents of the level before, counted from 0. Found -1 in list 0",
        ),
        (
            lambda: BranchedNet(LAYERS[:1], OUTPUTS, [[0, 1, 2]]),
            "`tree` should let two tasks share a block. Found none: these are separate networks",
        ),
    ],
)
def test_says_what_is_wrong(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
