"""Every architecture with one task, which is what single-task baselines of one network compare with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

import equipoise as eq
from equipoise.models.cgc import CGC, PLE
from equipoise.models.cross_stitch import CrossStitch
from equipoise.models.dselect_k import DSelectK
from equipoise.models.ltb import BranchedNet, LearningToBranch
from equipoise.models.mmoe import MMoE
from equipoise.models.multitask import MultiTaskNet
from equipoise.models.resnet import HardSharing
from models.sharing_cases import built, expert, losses_of, vectors
from models.test_cgc import LAYERS

BUILDERS: dict[str, Callable[[list[int]], MultiTaskNet]] = {
    "hard sharing": lambda outputs: HardSharing(expert(), 3, outputs),
    "mmoe": lambda outputs: MMoE(expert, 3, outputs, inputs=4),
    "cgc": lambda outputs: CGC(expert, 3, outputs, inputs=4),
    "ple": lambda outputs: PLE(LAYERS, outputs, inputs=4),
    "cross-stitch": lambda outputs: CrossStitch(LAYERS, outputs),
    "dselect-k": lambda outputs: DSelectK(expert, 3, outputs, inputs=4),
    "ltb": lambda outputs: LearningToBranch(LAYERS, outputs),
    "branched": lambda outputs: BranchedNet(LAYERS, outputs, [[0], [0], [0] * len(outputs)]),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_one_task_gets_the_gradient_of_its_loss(name: str) -> None:
    net = built(partial(BUILDERS[name], [2]))
    expected = torch.autograd.grad(losses_of(net, vectors())[0], list(net.parameters()))
    shared = list(net.encoder.parameters()) or None  # a tree of one task has no block that two tasks share
    eq.Balancer(eq.build_method("stl", n_tasks=1), shared=shared).backward(losses_of(net, vectors()))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_loss_of_two_reaches_the_whole_encoder(name: str) -> None:
    net = built(partial(BUILDERS[name], [2, 1]))
    balancer = eq.Balancer(eq.build_method("stl", n_tasks=1), shared=net.encoder)
    balancer.backward(losses_of(net, vectors())[1:])
    assert all(parameter.grad is not None for parameter in net.encoder.parameters())
