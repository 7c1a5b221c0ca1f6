"""The message passing network of the QM9 benchmark, computed densely on padded batches of molecules."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Largest block of transformed states that is held at a time. On a CPU it should stay in the caches; on an
# accelerator it only bounds the memory.
_BLOCK_BYTES = {"cpu": 8 << 20}
_BLOCK_BYTES_ELSEWHERE = 1 << 30


class DenseGraphs(NamedTuple):
    """A batch of b graphs, padded to the N nodes of its largest one.

    Every two nodes of a graph are joined by an edge without direction, as the atoms of a molecule are. What
    stands in padded places and on the diagonal of `edges` is never read, as long as it is finite.
    """

    nodes: Tensor
    """Node features, (b, N, node_features)."""
    edges: Tensor
    """Features of the edge between nodes i and j at [:, i, j] and [:, j, i], (b, N, N, edge_features)."""
    mask: Tensor
    """True where there is a node, (b, N) bool."""


class MessagePassingNet(nn.Module):
    """Predicts graph-level targets of small graphs: one shared encoder and one linear head a task.

    `encoder` maps graphs to features (b, width), see `MessagePassingEncoder`; `heads[t]` is the
    `Linear(width, 1)` of task t. With the defaults there are 617,675 parameters.

    Cut a batch into about four pieces of graphs of similar size: each is padded to its own largest graph, so
    little is computed for nothing. How a batch is cut does not change the numbers.

    Reference: Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, the QM9 experiment and its
    code; the network is that of Gilmer et al., Neural Message Passing for Quantum Chemistry, ICML 2017.

    Args:
        width: size of a node state and of the graph features.
        edge_width: hidden size of the network that maps an edge to a (width, width) matrix.
        rounds: rounds of messages; all use the same parameters.
        set2set_steps: steps of the attention that sums up a graph.
        tasks: number of heads.
        node_features: features of a node.
        edge_features: features of an edge.

    Raises:
        ValueError: an argument is below 1, or the shapes of a chunk do not go together.
    """

    def __init__(
        self,
        width: int = 64,
        edge_width: int = 128,
        rounds: int = 3,
        set2set_steps: int = 3,
        *,
        tasks: int = 11,
        node_features: int = 11,
        edge_features: int = 5,
    ) -> None:
        super().__init__()
        if tasks < 1:
            raise ValueError(f"`tasks` should be at least 1. Found {tasks}.")
        self.encoder = MessagePassingEncoder(
            width,
            edge_width,
            rounds,
            set2set_steps,
            node_features=node_features,
            edge_features=edge_features,
        )
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def forward(self, chunks: Sequence[DenseGraphs]) -> Tensor:
        """Predictions (b, tasks) for the graphs of all chunks, in the order in which they come."""
        return torch.stack(self.outputs(chunks), dim=1)

    def outputs(self, chunks: Sequence[DenseGraphs]) -> list[Tensor]:
        """Predictions (b,) of each task by itself, so that a loss reaches the encoder and its own head only."""
        features = self.encoder(chunks)
        with torch.autocast(features.device.type, enabled=False):
            return [head(features)[:, 0] for head in self.heads]


class MessagePassingEncoder(nn.Module):
    r"""Maps graphs to features by rounds of messages between all pairs of nodes.

    With node features x_i, edge features e_ij and n nodes,

        h_i  = relu(W x_i + w),
        m_i  = R h_i + r + 1 / (n - 1) \sum_{j != i} K(e_ij)^T h_j,     K(e) = reshape(A2 relu(A1 e + a1) + a2),
        h_i <- GRU(relu(m_i), h_i),                                     `rounds` times,

    and the features are relu(V s + v), where s is the read-out of `Set2Set`. K(e), a (width, width) matrix per
    edge, is never formed; see `_Messages`. Under `torch.autocast` the messages, which are nearly all of the
    work, run in the lower precision and everything else stays as it is.

    The gradient can be taken repeatedly (`retain_graph=True`), but not of a gradient, and not under
    `torch.func` or `is_grads_batched=True`.

    Args: see `MessagePassingNet`.
    """

    def __init__(
        self,
        width: int = 64,
        edge_width: int = 128,
        rounds: int = 3,
        set2set_steps: int = 3,
        *,
        node_features: int = 11,
        edge_features: int = 5,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "edge_width": edge_width, "rounds": rounds, "set2set_steps": set2set_steps}
        sizes |= {"node_features": node_features, "edge_features": edge_features}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"`{name}` should be at least 1. Found {size}.")
        self.rounds = rounds
        self.embedding = nn.Linear(node_features, width)
        self.edge_hidden = nn.Linear(edge_features, edge_width)
        self.edge_matrix = nn.Linear(edge_width, width * width)
        self.root = nn.Linear(width, width)
        self.update = nn.GRUCell(width, width)
        self.readout = Set2Set(width, set2set_steps)
        self.output = nn.Linear(2 * width, width)
        nn.init.zeros_(self.root.bias)

    def forward(self, chunks: Sequence[DenseGraphs]) -> Tensor:
        """Features (b, width) of the graphs of all chunks, in the order in which they come."""
        self._check(chunks)
        device = chunks[0].nodes.device.type
        states = torch.cat([chunk.nodes.flatten(0, 1) for chunk in chunks])
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        with torch.autocast(device, enabled=False):
            gates = [self._gates(chunk).to(dtype) for chunk in chunks]
            matrices = self._matrices().to(dtype)
            # The backward pass wants the transposed layout; made once for all rounds and all gradients.
            transposed = matrices.detach().permute(2, 1, 0).contiguous()
            states = torch.relu(self.embedding(states))
            for _ in range(self.rounds):
                messages = _messages(states.to(dtype), matrices, transposed, *gates)
                states = self.update(torch.relu(messages.to(states.dtype) + self.root(states)), states)
            return torch.relu(self.output(self.readout(*_padded(states, [chunk.mask for chunk in chunks]))))

    def _gates(self, chunk: DenseGraphs) -> Tensor:
        """The factor of each edge and each of the edge_width + 1 matrices, (b, N, N, edge_width + 1).

        The last matrix is the bias of the edge network, whose factor is that of the mean alone. Since relu(c v) =
        c relu(v) for c >= 0, the mean's 1 / (n - 1), which is 0 off the graph, goes in before the relu.
        """
        mask = chunk.mask.to(chunk.edges.dtype)
        pairs = mask[:, :, None] * mask[:, None, :]
        pairs.diagonal(dim1=1, dim2=2).zero_()
        share = (pairs / (mask.sum(1) - 1).clamp(min=1)[:, None, None])[..., None]
        # The backward pass of _Messages needs exact symmetry; this changes nothing where it holds already.
        edges = (chunk.edges + chunk.edges.transpose(1, 2)) / 2
        inputs = torch.cat([edges * share, share], dim=-1)
        weight = torch.cat([self.edge_hidden.weight, self.edge_hidden.bias[:, None]], dim=1)
        always = nn.functional.pad(weight.new_ones(1, 1), (weight.shape[1] - 1, 0))
        return (inputs @ torch.cat([weight, always]).T).relu_()

    def _matrices(self) -> Tensor:
        """The matrices that the gates mix, (width in, edge_width + 1, width out); the last is the bias."""
        width = self.update.hidden_size
        weight = self.edge_matrix.weight.view(width, width, -1).transpose(1, 2)
        return torch.cat([weight, self.edge_matrix.bias.view(width, 1, width)], dim=1)

    def _check(self, chunks: Sequence[DenseGraphs]) -> None:
        """Names the tensor that does not fit, where torch would name a matrix product."""
        if len(chunks) == 0:
            raise ValueError("`chunks` should hold at least 1 batch of graphs. Found 0.")
        for nodes, edges, mask in chunks:
            b, n = mask.shape
            _check_shape("nodes", nodes, (b, n, self.embedding.in_features))
            _check_shape("edges", edges, (b, n, n, self.edge_hidden.in_features))


class Set2Set(nn.Module):
    r"""Sums up the nodes of a graph by repeated attention.

    From s = 0, for `steps` times: q = LSTM(s), a_i = softmax_i(q . h_i), s = [q, \sum_i a_i h_i].

    Reference: Vinyals et al., Order Matters: Sequence to sequence for sets, ICLR 2016, equations 3-7.

    Args:
        width: size of a node state.
        steps: number of steps.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.query = nn.LSTMCell(2 * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States (b, N, width) and mask (b, N) to a sum (b, 2 width)."""
        summary = states.new_zeros(len(states), self.query.input_size)
        memory = (summary[:, : self.query.hidden_size],) * 2
        for _ in range(self.steps):
            memory = self.query(summary, memory)
            scores = (states @ memory[0][:, :, None]).squeeze(2).masked_fill(~mask, -torch.inf)
            read = scores.softmax(dim=1)[:, None, :] @ states
            summary = torch.cat([memory[0], read.squeeze(1)], dim=1)
        return summary


class _Messages(torch.autograd.Function):
    r"""m_i = \sum_{j, k} z_ijk M_k^T h_j, without a matrix per edge and with nothing of its size kept.

    h (rows, d) are the states of all chunks, z (b, N, N, k) per chunk the gates and M (d, k, d) the matrices. With
    T_jk = M_k^T h_j, one (rows, d)(d, k d) product, m = z T is one (N, N k)(N k, d) product a graph.

    Backward, for gradients g_i of m_i: since z_ij = z_ji, the gradient of h is the same function of g with
    transposed matrices, from U_ik = M_k g_i, and U also gives that of z: dz_ijk = h_j . U_ik. Hence T is not
    needed again, and only inputs are saved. dM_k = \sum_j h_j (\sum_i z_ijk g_i)^T. The gradient of z comes with i
    and j swapped, which is the same to anything that computes z from symmetric edges.

    T, U and \sum_i z_ijk g_i are made for a block of graphs at a time, in one buffer.
    """

    @staticmethod
    def forward(states: Tensor, matrices: Tensor, transposed: Tensor, *gates: Tensor) -> Tensor:
        width = states.shape[1]
        messages = torch.empty_like(states)
        buffer, blocks = _blocks(matrices, gates)
        for rows, chunk, part in blocks:
            z = gates[chunk][part].flatten(2)
            moved = torch.mm(states[rows], matrices.flatten(1), out=buffer[: z.shape[:2].numel()])
            torch.bmm(z, moved.view(len(z), -1, width), out=messages[rows].view(len(z), -1, width))
        return messages

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, matrices, transposed, *gates = ctx.saved_tensors
        d_states, d_matrices = torch.empty_like(states), torch.zeros_like(matrices)
        d_gates = [torch.empty_like(z) for z in gates]
        buffer, blocks = _blocks(matrices, gates)
        for rows, chunk, part in blocks:
            z, dz = gates[chunk][part].flatten(2), d_gates[chunk][part].flatten(2)
            h, g, dh = (x[rows].view(*z.shape[:2], -1) for x in (states, grad, d_states))
            block = buffer[: z.shape[:2].numel()]
            moved = torch.mm(grad[rows], transposed.flatten(1), out=block).view(len(z), -1, h.shape[2])
            torch.bmm(z, moved, out=dh)
            torch.bmm(h, moved.mT, out=dz)
            torch.bmm(z.mT, g, out=moved)
            d_matrices.flatten(1).addmm_(states[rows].T, block)
        return d_states, d_matrices, None, *d_gates


def _messages(states: Tensor, matrices: Tensor, transposed: Tensor, *gates: Tensor) -> Tensor:
    messages: Tensor = _Messages.apply(states, matrices, transposed, *gates)  # type: ignore[no-untyped-call]
    return messages


def _check_shape(name: str, found: Tensor, expected: tuple[int, ...]) -> None:
    if found.shape != expected:
        raise ValueError(
            f"`{name}` should have shape {expected}, to go with `mask`. Found {tuple(found.shape)}."
        )


def _blocks(matrices: Tensor, gates: Sequence[Tensor]) -> tuple[Tensor, list[tuple[slice, int, slice]]]:
    """A buffer for one block, and per block its rows, its chunk and its graphs within the chunk."""
    width = matrices[0].numel()
    limit = _BLOCK_BYTES.get(matrices.device.type, _BLOCK_BYTES_ELSEWHERE)
    row, blocks = 0, []
    for chunk, z in enumerate(gates):
        b, n = z.shape[:2]
        size = max(1, limit // (n * width * z.element_size()))
        for start in range(0, b, size):
            stop = min(start + size, b)
            blocks.append((slice(row, row + (stop - start) * n), chunk, slice(start, stop)))
            row = blocks[-1][0].stop
    largest = max(rows.stop - rows.start for rows, _, _ in blocks)
    return matrices.new_empty(largest, width), blocks


def _padded(states: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The flat states of all chunks, and the masks, padded to the largest chunk."""
    n = max(mask.shape[1] for mask in masks)
    parts = torch.split(states, [mask.numel() for mask in masks])
    graphs = [part.view(*mask.shape, -1) for part, mask in zip(parts, masks, strict=True)]
    padded = [nn.functional.pad(graph, (0, 0, 0, n - graph.shape[1])) for graph in graphs]
    return torch.cat(padded), torch.cat([nn.functional.pad(mask, (0, n - mask.shape[1])) for mask in masks])
