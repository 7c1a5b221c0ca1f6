"""Heads of DB-MTL, and the "log" treatment of heads for other methods."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.methods.db_mtl import DBMTL
from networks import batch, gradients, losses_of, network


@pytest.mark.parametrize("method", [DBMTL(3), eq.build_method("ls", 3), eq.build_method("pcgrad", 3)])
@pytest.mark.parametrize("present", [None, [True, False, True]])
def test_heads_see_the_logarithms_of_their_losses(method: eq.Method, present: list[bool] | None) -> None:
    model = network("mlp")
    eq.Balancer(method, head_weights="log", shared=model.encoder).backward(
        losses_of(model, batch()), present=present
    )
    found = gradients(model.heads)
    for i, loss in enumerate(losses_of(model, batch())):
        for name, parameter in model.heads[i].named_parameters():
            expected = torch.autograd.grad(loss.log(), parameter, retain_graph=True)[0]
            here = present is None or present[i]
            torch.testing.assert_close(found[f"{i}.{name}"], expected if here else 0 * expected)


def test_it_is_the_default_of_db_mtl_and_shown_in_the_record() -> None:
    model = network("mlp")
    balancer = eq.Balancer(DBMTL(3))
    assert balancer.head_weights == "log"
    record = balancer.backward(losses_of(model, batch()))
    torch.testing.assert_close(record.weights, 1 / record.losses)
    some = balancer.backward(losses_of(model, batch()), present=[True, False, True])
    assert some.weights[1] == 0


def test_losses_must_be_positive_for_it() -> None:
    model = network("mlp")
    losses = losses_of(model, batch())
    with pytest.raises(ValueError, match="Every loss should be finite and above 0"):
        eq.Balancer(eq.build_method("ls", 3), head_weights="log").backward([losses[0] - 1e3, *losses[1:]])
