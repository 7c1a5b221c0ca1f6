"""Customised gate control and progressive layered extraction: experts of a task beside shared ones."""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor, nn

from .multitask import (
    Experts,
    Gate,
    MakeHead,
    MakeModule,
    MultiTaskNet,
    Stage,
    check_at_least,
    check_stages,
    mix,
)


class CGC(MultiTaskNet):
    """Features of each task as a convex combination of the outputs of shared experts and of its own.

    With shared experts f_i, the experts f_kj of task k, gates g_k and heads h_k,

        y_k = h_k(sum_j g_k(x)_j f_kj(x) + sum_i g_k(x)_(n_own + i) f_i(x)),    g_k(x) = softmax(W_k x),

    where W_k (n_own + n_shared, inputs) reads all values of the sample x. Without own experts it is MMoE.

    Shared: the shared experts, `encoder`. All else belongs to a task. Parameters: n_shared + m n_own times those of an
    expert, and m (n_own + n_shared) inputs for the gates, besides the heads.

    Reference: Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
    Personalized Recommendations, RecSys 2020, https://doi.org/10.1145/3383313.3412236.

    Departures: a head is one linear layer unless `head` builds another one.

    Args:
        expert: builds an expert, which maps samples to features (b, features).
        features: how many those are.
        outputs: channels of each task's output.
        inputs: values of a sample, all dimensions together.
        shared: shared experts n_shared.
        own: experts n_own of each task.
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
        inputs: int,
        shared: int = 2,
        own: int = 2,
        head: MakeHead = nn.Linear,
    ) -> None:
        super().__init__(features, outputs, head)
        _check_sizes(inputs, shared, own)
        self.encoder = Experts(expert, shared)
        self.own = nn.ModuleList(Experts(expert, own) for _ in outputs)
        self.gates = nn.ModuleList(Gate(inputs, own + shared) for _ in outputs)

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The mixture of each task (b, features)."""
        common = self.encoder(x)
        return [
            mix(gate(x), [*experts(x), *common]) for experts, gate in zip(self.own, self.gates, strict=True)
        ]


class PLE(MultiTaskNet):
    """Layers of CGC, in which shared experts go on from what all experts of the layer before have found.

    Layer l has own experts f_lkj of task k and shared ones f_li. With z_0k = s_0 = x,

        z_lk = the mixture of all f_lkj(z_(l-1)k) and f_li(s_(l-1)), weights softmax(W_lk z_(l-1)k),
        s_l  = the mixture of the f_lkj(z_(l-1)k) of all k and the f_li(s_(l-1)), weights softmax(V_l s_(l-1)),
        y_k  = h_k(z_Lk).

    The last layer L has no s, so one layer is CGC.

    Shared: `encoder`, that is all experts but the own ones of the last layer, the gates V, and the gates W but those
    of the last two layers: whatever goes into an s is reached by every loss. Without own experts no gate W leads there,
    so all of them belong to a task. Parameters: n_shared + m n_own times those of an expert of each layer,
    m (n_own + n_shared) inputs_l for the gates W of layer l and (m n_own + n_shared) inputs_l for V, besides the heads,
    where inputs_l are the values that the gates read.

    Reference: Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
    Personalized Recommendations, RecSys 2020, https://doi.org/10.1145/3383313.3412236.

    Departures: a head is one linear layer unless `head` builds another one. Gates after the first layer read the
    mean over positions where the layer before gives maps (b, channels, H, W).

    Args:
        layers: the experts of each layer; those of the last one end with features (b, channels).
        outputs: channels of each task's output.
        inputs: values of a sample, all dimensions together.
        shared: shared experts n_shared of each layer.
        own: experts n_own of each task in each layer.
        head: builds a head from its numbers of features and of channels.

    Raises:
        ValueError: on sizes out of range, no layer, no output, or samples of another size than `inputs`.
    """

    def __init__(
        self,
        layers: Sequence[Stage],
        outputs: Sequence[int],
        *,
        inputs: int,
        shared: int = 2,
        own: int = 2,
        head: MakeHead = nn.Linear,
    ) -> None:
        check_stages(layers, 1)
        super().__init__(layers[-1].channels, outputs, head)
        _check_sizes(inputs, shared, own)
        read = [inputs, *(layer.channels for layer in layers[:-1])]
        experts = [nn.ModuleList(Experts(layer.make, own) for _ in outputs) for layer in layers]
        gates = [nn.ModuleList(Gate(size, own + shared) for _ in outputs) for size in read]
        common = max(0, len(layers) - 2) if own else 0
        self.encoder = nn.ModuleDict(
            {
                "experts": nn.ModuleList(Experts(layer.make, shared) for layer in layers),
                "gates": nn.ModuleList(Gate(size, own * len(outputs) + shared) for size in read[:-1]),
                "own_experts": nn.ModuleList(experts[:-1]),
                "own_gates": nn.ModuleList(gates[:common]),
            }
        )
        self.own_experts = experts[-1]
        self.own_gates = nn.ModuleList(gates[common:])

    def task_features(self, x: Tensor) -> list[Tensor]:
        """The last mixture of each task (b, channels)."""
        tasks, common = [x] * len(self.heads), x
        parts = self.encoder
        assert isinstance(parts, nn.ModuleDict)
        own_experts = [*parts["own_experts"].children(), self.own_experts]
        own_gates = [*parts["own_gates"].children(), *self.own_gates]
        gates = [*parts["gates"].children(), None]
        for layer, experts in enumerate(parts["experts"].children()):
            own = [make(z) for make, z in zip(own_experts[layer].children(), tasks, strict=True)]
            shared = experts(common)
            weights = [
                gate(_read(z, layer)) for gate, z in zip(own_gates[layer].children(), tasks, strict=True)
            ]
            tasks = [mix(w, [*found, *shared]) for w, found in zip(weights, own, strict=True)]
            gate = gates[layer]
            if gate is not None:
                common = mix(gate(_read(common, layer)), [*chain.from_iterable(own), *shared])
        return tasks


def _read(x: Tensor, layer: int) -> Tensor:
    """What a gate reads: the sample itself in the first layer, then the mean over positions, if there are any."""
    return x if layer == 0 or x.ndim == 2 else x.flatten(2).mean(dim=2)


def _check_sizes(inputs: int, shared: int, own: int) -> None:
    check_at_least("inputs", inputs, 1)
    check_at_least("shared", shared, 1)
    check_at_least("own", own, 0)
