"""Multi-gate mixture of experts: each task weighs the same experts with a gate of its own."""

from collections.abc import Sequence

from torch import Tensor, nn

from .multitask import Experts, Gate, MakeHead, MakeModule, MultiTaskNet, check_at_least, mix


class MMoE(MultiTaskNet):
    """Features of each task as a convex combination of the outputs of n shared experts.

    With experts f_i, gates g_k and heads h_k,

        y_k = h_k(sum_i g_k(x)_i f_i(x)),    g_k(x) = softmax(W_k x),

    where W_k (n, inputs) reads all values of the sample x.

    Shared: the experts, `encoder`. Gates and heads belong to a task. Parameters: n times those of an expert, and
    m n inputs for the gates, besides the heads.

    Reference: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
    KDD 2018, https://doi.org/10.1145/3219819.3220007.

    Departures: a head is one linear layer unless `head` builds another one.

    Args:
        expert: builds an expert, which maps samples to features (b, features).
        features: how many those are.
        outputs: channels of each task's output.
        inputs: values of a sample, all dimensions together.
        experts: n.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on sizes below 1, no output, or samples of another size than `inputs`.
    """

    def __init__(
        self,
        expert: MakeModule,
        features: int,
        outputs: Sequence[int],
        *,
        inputs: int,
        experts: int = 4,
        head: MakeHead = nn.Linear,
    ) -> None:
        super().__init__(features, outputs, head)
        check_at_least("experts", experts, 1)
        check_at_least("inputs", inputs, 1)
        self.encoder = Experts(expert, experts)
        self.gates = nn.ModuleList(Gate(inputs, experts) for _ in outputs)

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The mixture of each task (b, features)."""
        found = self.encoder(x)
        return [mix(gate(x), found) for gate in self.gates]
