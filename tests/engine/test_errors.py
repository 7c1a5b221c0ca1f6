"""Bad input to the engine: each a clear error, and nothing touched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise as eq
from networks import batch, gradients, losses_of, network


def balancer(name: str = "nashmtl", **kwargs: Any) -> eq.Balancer:
    return eq.Balancer(eq.build_method(name, 3), tasks=["seg", "depth", "normal"], **kwargs)


def losses() -> list[Tensor]:
    return losses_of(network("mlp"), batch())


def test_method_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"`method` should be a method, for example build_method.*Found 'ls'"):
        eq.Balancer("ls")  # type: ignore[arg-type]


def test_names_of_the_wrong_number_or_twice() -> None:
    for names in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(
            ValueError, match=r"`tasks` should be 3 different names, one per task.*Found \['a', 'b'"
        ):
            eq.Balancer(eq.build_method("ls", 3), tasks=names)


def test_head_weights_of_another_name_or_kind() -> None:
    with pytest.raises(ValueError, match="`head_weights` should be one of same, unit, log. Found 'none'"):
        balancer(head_weights="none")
    with pytest.raises(ValueError, match="`head_weights` should be 'unit' or 'log' for GradDrop"):
        balancer("graddrop", head_weights="same")


def test_losses_of_the_wrong_number() -> None:
    for wrong in (losses()[:2], torch.stack(losses()[:2])):
        with pytest.raises(ValueError, match="one loss per task, 3. Found 2"):
            balancer().backward(wrong)
    with pytest.raises(ValueError, match=r"`losses` should have shape \(3,\). Found \(3, 1\)"):
        balancer().backward(torch.stack(losses())[:, None])


def test_losses_of_unknown_names_or_without_names() -> None:
    with pytest.raises(ValueError, match="should be of the tasks seg, depth, normal. Found edges"):
        balancer().backward({"seg": losses()[0], "edges": losses()[1]})
    with pytest.raises(
        ValueError, match=r"`tasks` should name the tasks.*Balancer\(method, tasks=\['a', 'b', 'c'\]\)"
    ):
        eq.Balancer(eq.build_method("ls", 3)).backward(dict(zip("abc", losses(), strict=True)))


def test_present_of_the_wrong_number_and_no_task_at_all() -> None:
    with pytest.raises(ValueError, match="`present` should have one flag per task, 3. Found 2"):
        balancer().backward(losses(), present=[True, False])
    for nothing in ({}, {"present": [False] * 3}):
        given: Any = losses() if nothing else {}
        with pytest.raises(ValueError, match="At least one task should be present.*skip this batch"):
            balancer().backward(given, **nothing)


def test_loss_that_is_not_scalar_or_no_tensor() -> None:
    vector = losses()[0].expand(5)
    with pytest.raises(
        ValueError, match=r"loss of 'depth' should be a scalar tensor. Found shape \(5,\): reduce it"
    ):
        balancer().backward([losses()[0], vector, losses()[2]])
    with pytest.raises(ValueError, match="loss of 'depth' should be a scalar tensor. Found float"):
        balancer().backward([losses()[0], 1.0, losses()[2]])  # type: ignore[list-item]


def test_loss_without_graph() -> None:
    first, second, third = losses()
    for wrong in ([first, second.detach(), third], torch.stack([first, second.detach(), third])):
        with pytest.raises(
            ValueError, match="loss of 'depth' should depend on parameters.*Found no graph: was it"
        ):
            balancer().backward(wrong)
    with pytest.raises(ValueError, match="loss of 'seg, depth, normal' should depend on parameters"):
        balancer().backward(torch.ones(3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["ls", "famo", "go4align", "nashmtl", "graddrop", "rlw"])
def test_loss_that_is_not_finite_names_the_task_and_touches_nothing(name: str, value: float) -> None:
    model, balance = network("mlp"), balancer(name)
    balance.backward(losses_of(model, batch()))
    state, before = copy.deepcopy(balance.state_dict()), gradients(model)
    bad = losses_of(model, batch())
    bad[1] = bad[1] * value
    with pytest.raises(
        ValueError, match=f"Every loss should be finite.*Found depth: {value:g}.*skip this batch"
    ):
        balance.backward(bad)
    assert_untouched(balance, state, before, gradients(model))


def assert_untouched(
    balance: eq.Balancer, state: Any, before: dict[str, Tensor], after: dict[str, Tensor]
) -> None:
    for key, value in balance.state_dict()["state"].items():
        same = torch.equal(
            torch.as_tensor(value).nan_to_num(), torch.as_tensor(state["state"][key]).nan_to_num()
        )
        assert same, key
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("name", ["si", "dwa", "famo", "go4align", "mgda:normalization=loss", "famo+grouped"])
def test_loss_that_is_not_positive_where_the_method_divides_by_it(name: str, value: float) -> None:
    model, balance = network("mlp"), balancer(name)
    balance.backward(losses_of(model, batch()))
    state, before = copy.deepcopy(balance.state_dict()), gradients(model)
    bad = losses_of(model, batch())
    bad[2] = bad[2] * 0 + value
    with pytest.raises(
        ValueError, match=f"Every loss should be finite and above 0 for .*Found normal: {value:g}"
    ):
        balance.backward(bad)
    assert_untouched(balance, state, before, gradients(model))


def test_losses_that_are_not_positive_are_fine_elsewhere() -> None:
    for name in ("ls", "uw", "rlw", "nashmtl", "mgda"):
        model = network("mlp")
        balancer(name).backward([loss - 100 for loss in losses_of(model, batch())])


def test_frozen_shared_parameter_is_named() -> None:
    model = network("partly frozen")
    with pytest.raises(
        ValueError, match=r"require gradients. Found 0.weight of shape \(8, 6\), which is frozen"
    ):
        balancer(shared=model.encoder)
    with pytest.raises(ValueError, match=r"Found parameter number 0 of shape \(8, 6\), which is frozen"):
        balancer(shared=model.encoder.parameters())


def test_unused_shared_parameter_is_named() -> None:
    model = network("mlp")
    extra = torch.nn.Linear(2, 2).double()
    shared = [*model.encoder.named_parameters(), ("extra.weight", extra.weight)]
    with pytest.raises(
        ValueError, match=r"none reaches extra.weight of shape \(2, 2\) \(1 of 5 are unused\)"
    ):
        balancer(shared=shared).backward(losses_of(model, batch()))
    with pytest.raises(ValueError, match=r"none reaches weight of shape \(2, 2\) \(2 of 2 are unused\)"):
        balancer(shared=extra).backward(losses_of(model, batch()))


def test_no_shared_parameters_given_or_found() -> None:
    with pytest.raises(ValueError, match="`shared` should hold at least one parameter. Found none"):
        balancer(shared=[])
    with pytest.raises(
        TypeError, match="`shared` should be an iterable of parameters or a module. Found one tensor"
    ):
        balancer(shared=torch.ones(3))
    apart = [torch.ones((), requires_grad=True) * 2 for _ in range(3)]
    with pytest.raises(
        ValueError, match=r"Found none that are shared among seg, depth, normal: pass `shared=`"
    ):
        balancer().backward(apart)
    with pytest.raises(ValueError, match=r"some tasks are absent in this step\): pass `shared=`"):
        balancer().backward({"seg": losses()[0]})


def test_heads_that_are_concatenated_before_the_losses_are_ambiguous() -> None:
    model, (inputs, targets) = network("mlp"), batch()

    def together() -> Tensor:
        return (torch.stack(model(inputs), dim=1) - targets.T).square().mean(0)

    with pytest.raises(
        ValueError, match=r"Found one of shape \(1,( 8)?\) that all losses reach but only 'seg' moves"
    ):
        balancer().backward(together())
    assert all(p.grad is None for p in model.parameters())
    balancer(shared=model.encoder).backward(together())


def test_loss_only_methods_need_no_shared_parameters() -> None:
    apart = [torch.ones((), requires_grad=True) for _ in range(3)]
    balancer("go4align").backward([x * 2 for x in apart])
    assert all(x.grad is not None for x in apart)


def test_state_of_another_method() -> None:
    with pytest.raises(ValueError, match="The method of the state should be NashMTL. Found FAMO"):
        balancer().load_state_dict(balancer("famo").state_dict())
    other = eq.Balancer(eq.build_method("nashmtl", 3), tasks=["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"The tasks of the state should be \['seg', 'depth', 'normal'\]. Found \['a'"
    ):
        balancer().load_state_dict(other.state_dict())


def test_a_loss_whose_inverse_overflows_is_refused_like_zero() -> None:
    losses = torch.tensor([1.0, 1e-40], requires_grad=True)
    with pytest.raises(
        ValueError, match=r"Every loss should be finite and above 0 for SI\. Found task 1: 9.99995e-41"
    ):
        eq.Balancer(eq.build_method("si", 2)).backward((losses * 1.0).unbind())
    assert losses.grad is None
