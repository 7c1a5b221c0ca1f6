import pytest
import torch
from torch import Tensor

from equipoise.solvers.adam import adam_step


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.999), 1e-8), ((0.5, 0.8), 1e-3)])
def test_twenty_steps_equal_those_of_torch(
    weight_decay: float, betas: tuple[float, float], eps: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=generator, dtype=torch.float64)
    param = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([param], lr=0.025, betas=betas, eps=eps, weight_decay=weight_decay)
    zeros = torch.zeros(7, dtype=torch.float64)
    state: tuple[Tensor, Tensor, Tensor, Tensor | int] = (start, zeros, zeros, 0)
    for _ in range(20):
        grad = torch.randn(7, generator=generator, dtype=torch.float64)
        param.grad = grad.clone()
        optimizer.step()
        before = state[0].clone()
        value, exp_avg, exp_avg_sq, step = state
        moved = adam_step(
            value, grad, exp_avg, exp_avg_sq, step, lr=0.025, betas=betas, eps=eps, weight_decay=weight_decay
        )
        assert state[0].equal(before), "the old state is left as it is"
        state = (moved.param, moved.exp_avg, moved.exp_avg_sq, moved.step)
        torch.testing.assert_close(moved.param, param.detach(), rtol=1e-13, atol=1e-15)
    assert state[3] == 20


def test_entries_may_have_moved_a_different_number_of_times() -> None:
    generator = torch.Generator().manual_seed(1)
    grads = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    param = exp_avg = exp_avg_sq = step = torch.zeros(2, dtype=torch.float64)
    alone = (torch.zeros(1, dtype=torch.float64),) * 3
    for t, grad in enumerate(grads):
        moved = adam_step(param, grad, exp_avg, exp_avg_sq, step, lr=0.1)
        awake = torch.tensor([True, t > 0])
        param, exp_avg, exp_avg_sq, step = (
            torch.where(awake, torch.as_tensor(new), old)
            for new, old in zip(moved, (param, exp_avg, exp_avg_sq, step), strict=True)
        )
        if t > 0:
            second = adam_step(alone[0], grad[1:], alone[1], alone[2], t - 1, lr=0.1)
            alone = (second.param, second.exp_avg, second.exp_avg_sq)
    assert step.tolist() == [3.0, 2.0]
    torch.testing.assert_close(param[1:], alone[0], rtol=1e-14, atol=0.0)
