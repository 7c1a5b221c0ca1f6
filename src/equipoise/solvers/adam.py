"""One step of Adam as a function of its state."""

from typing import NamedTuple

from torch import Tensor


class AdamState(NamedTuple):
    """What Adam knows of a parameter: its value, both moments (all of one shape) and the steps taken."""

    param: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor | int


def adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor | int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> AdamState:
    """Moves a parameter by one step of Adam and returns the new state; the old one is left as it is.

    With g <- g + weight_decay p, t = step + 1, a <- beta1 a + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2:
    p <- p - lr (a / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), elementwise. As in `torch.optim.Adam`, the
    weight decay is coupled: it passes through the moments.

    Source: D. Kingma and J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Algorithm 1.

    Args:
        param: p, any shape.
        grad: g, the gradient, of the same shape.
        exp_avg: a, running mean of g; zeros at first.
        exp_avg_sq: v, running mean of g^2; zeros at first.
        step: Steps taken before this one, 0 at first: a number, or a floating point tensor that broadcasts with
            `param` where its entries have moved a different number of times.
        lr: Step size, in units of p.
        betas: Decay of both means, each in [0, 1).
        eps: Keeps the quotient finite where v = 0, in units of g; the value of the paper.
        weight_decay: Coefficient of p added to g.
    """
    beta1, beta2 = betas
    step = step + 1
    grad = grad + weight_decay * param
    exp_avg = exp_avg + (1.0 - beta1) * (grad - exp_avg)
    exp_avg_sq = beta2 * exp_avg_sq + (1.0 - beta2) * grad * grad
    scale = exp_avg_sq.sqrt() / (1.0 - beta2**step) ** 0.5 + eps
    param = param - lr / (1.0 - beta1**step) * exp_avg / scale
    return AdamState(param, exp_avg, exp_avg_sq, step)
