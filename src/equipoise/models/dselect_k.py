"""DSelect-k: a mixture of experts whose gates end up with at most k experts, by a smooth function."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .multitask import Experts, MakeHead, MakeModule, MultiTaskNet, check_at_least, flat, mix

_SPREAD = 0.05
# Below it the logarithm in the entropy is cut off, so that a selector of weight 0 gets no infinite gradient.
_FLOOR = 1e-6


class DSelectK(MultiTaskNet):
    """Features of each task as a convex combination of the outputs of at most k of n shared experts.

    A gate has k selectors. Selector i writes the number of its expert in binary digits, of which
    d = ceil(log2 n) are needed, and the digits are smooth: with the smooth-step function S (`smooth_step`), logits
    z_i (d,) and B(j) the digits of expert j that are 1, the weight of expert j is

        r(z_i)_j = prod_(l in B(j)) S(z_il) prod_(l not in B(j)) (1 - S(z_il)),
        q_j      = sum_i softmax(a)_i r(z_i)_j,
        y        = h(sum_j q_j f_j(x)).

    Each task has a gate of its own. As soon as all |z_il| >= gamma / 2, every selector has exactly one expert, and q
    at most k entries that are not 0. `regulariser` drives the gates there: with H(r) = -sum_j r_j log r_j, a task's
    loss gets

        entropy * sum_i H(r(z_i)) + sum_i (1 / sum_j r(z_i)_j - 1),

    where the last sum, for n that are no power of 2, keeps selectors from numbers that no expert has. It is 0 as soon
    as each selector has an expert. As the loss of a task contains the term, so do the numbers that a balancing method
    reads; it takes the regulariser of a gate to belong to its task.

    Shared: the experts, `encoder`. Gates and heads belong to a task. Parameters: n times those of an expert, and
    m k (d + 1) for the gates, times inputs + 1 where they read the sample, besides the heads.

    Reference: Hazimeh et al., DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to
    Multi-Task Learning, NeurIPS 2021, https://arxiv.org/abs/2106.03760.

    Departures: the second term of the regulariser is less by 1 for each selector, which changes no gradient and leaves
    0 in the end. Gates that read the sample have biases, as in the authors' code. All experts are computed, those of
    weight 0 too.

    Args:
        expert: builds an expert, which maps samples to features (b, features).
        features: how many those are.
        outputs: channels of each task's output.
        inputs: values of a sample, all dimensions together, from which a gate computes a and z; None for gates that
            treat all samples alike.
        experts: n.
        selectors: k, at most n.
        gamma: width of the smooth step.
        entropy: weight of the entropy, at least 0; the paper searches for it, 0.01 is a start.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on sizes out of range, no output, or samples of another size than `inputs`.
    """

    def __init__(
        self,
        expert: MakeModule,
        features: int,
        outputs: Sequence[int],
        *,
        inputs: int | None = None,
        experts: int = 4,
        selectors: int = 2,
        gamma: float = 1.0,
        entropy: float = 0.01,
        head: MakeHead = nn.Linear,
    ) -> None:
        super().__init__(features, outputs, head)
        check_at_least("experts", experts, 2)
        check_at_least("entropy", entropy, 0)
        self.entropy = entropy
        self.encoder = Experts(expert, experts)
        self.gates = nn.ModuleList(
            SelectorGate(experts, selectors, inputs=inputs, gamma=gamma) for _ in outputs
        )

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The mixture of each task (b, features)."""
        found = self.encoder(x)
        return [mix(gate(x), found) for gate in self.gates]

    def regulariser(self, x: Tensor) -> list[Tensor]:
        """What is to be added to the loss of each task, m tensors (), see `DSelectK`.

        Args:
            x: the samples that the losses are computed on; the mean over them is taken.
        """
        return [self._term(gate.selectors(x)[1]) for gate in self.gates if isinstance(gate, SelectorGate)]

    def _term(self, r: Tensor) -> Tensor:
        entropy = -(r * r.clamp(min=_FLOOR).log()).sum(dim=(1, 2))
        beyond = (1 / r.sum(dim=2).clamp(min=_FLOOR) - 1).sum(dim=1)
        return (self.entropy * entropy + beyond).mean()


class SelectorGate(nn.Module):
    """Weights q of n experts from k selectors, see `DSelectK`.

    Args:
        experts: n.
        selectors: k, at most n.
        inputs: values of a sample; None for the same weights for all samples.
        gamma: width of the smooth step.

    Raises:
        ValueError: on sizes out of range, or samples of another size than `inputs`.
    """

    codes: Tensor

    def __init__(
        self, experts: int, selectors: int, *, inputs: int | None = None, gamma: float = 1.0
    ) -> None:
        super().__init__()
        check_at_least("selectors", selectors, 1)
        if selectors > experts:
            raise ValueError(
                f"`selectors` should be at most the number of experts, {experts}. Found {selectors}."
            )
        if not gamma > 0:
            raise ValueError(f"`gamma` should be above 0. Found {gamma}.")
        self.gamma, self.inputs = gamma, inputs
        digits = (experts - 1).bit_length()
        places = torch.arange(digits).flip(0)
        self.register_buffer("codes", (torch.arange(experts)[:, None] >> places) % 2 == 1, persistent=False)
        self._shape = (selectors, digits)
        # Near the middle of the step, where its slope is largest and every expert has nearly the same weight.
        self.digits = _logits(inputs, selectors * digits, gamma / 100)
        self.weights = _logits(inputs, selectors, _SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """Weights q (b, n), or (1, n) for all samples alike. They sum to 1 if n is a power of 2, else to at most 1."""
        a, r = self.selectors(x)
        return (a[:, :, None] * r).sum(dim=1)

    def selectors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The weights softmax(a) (b, k) of the selectors, and theirs of the experts, r (b, k, n); b may be 1."""
        weight = self.weights.weight
        samples = weight.new_ones(1, 1) if self.inputs is None else flat(x, self.inputs)
        a = _precise(self.weights(samples)).softmax(dim=1)
        steps = smooth_step(_precise(self.digits(samples)).unflatten(1, self._shape), self.gamma)
        steps = steps[:, :, None, :]  # (b, k, 1, digits) against codes (n, digits)
        return a, torch.where(self.codes, steps, 1 - steps).prod(dim=3)


def smooth_step(t: Tensor, gamma: float = 1.0) -> Tensor:
    """A step from 0 to 1 of width gamma with a continuous slope.

    S(t) = -2 t^3 / gamma^3 + 3 t / (2 gamma) + 1 / 2 within |t| < gamma / 2, 0 below and 1 above, exactly.
    """
    u = (t / gamma + 0.5).clamp(0, 1)  # with it S is u^2 (3 - 2 u), which has no rounding at the ends
    return u * u * (3 - 2 * u)


def _logits(inputs: int | None, count: int, spread: float) -> nn.Linear:
    """A layer for logits; without inputs, one that is nothing but its weights, to be given a 1."""
    layer = nn.Linear(1 if inputs is None else inputs, count, bias=inputs is not None)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -spread, spread)
    return layer


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
