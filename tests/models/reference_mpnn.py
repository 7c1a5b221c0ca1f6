"""The network of the QM9 benchmark in PyTorch Geometric, and graphs like molecules for both forms of it."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from equipoise.models.mpnn import DenseGraphs, MessagePassingNet


class Graph(NamedTuple):
    """One graph: nodes (n, f), edges (n, n, e) symmetric with zeros on the diagonal."""

    nodes: Tensor
    edges: Tensor


class FlatGraphs(NamedTuple):
    """Graphs laid end to end, as PyTorch Geometric takes them."""

    nodes: Tensor
    edge_index: Tensor
    edges: Tensor
    graph: Tensor
    size: int


class ReferenceNet(nn.Module):
    """NNConv with mean aggregation, GRU, Set2Set: a (width, width) matrix is formed for each directed edge."""

    def __init__(
        self, width: int = 64, edge_width: int = 128, rounds: int = 3, steps: int = 3, tasks: int = 11
    ) -> None:
        super().__init__()
        with (
            warnings.catch_warnings()
        ):  # imported late: it takes seconds of every process that collects tests
            # Raised while it is imported, about torch's own torch.jit.script.
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch_geometric.nn import NNConv, Set2Set
        self.rounds = rounds
        self.embedding = nn.Linear(11, width)
        edge_network = nn.Sequential(
            nn.Linear(5, edge_width), nn.ReLU(), nn.Linear(edge_width, width * width)
        )
        self.convolution = NNConv(width, width, edge_network, aggr="mean")
        self.update = nn.GRU(width, width)
        self.readout = Set2Set(width, steps)
        self.output = nn.Linear(2 * width, width)
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def forward(self, graphs: FlatGraphs) -> Tensor:
        states = torch.relu(self.embedding(graphs.nodes))
        memory = states[None]
        for _ in range(self.rounds):
            messages = torch.relu(self.convolution(states, graphs.edge_index, graphs.edges))
            states, memory = self.update(messages[None], memory)
            states = states[0]
        summary = self.readout(states, graphs.graph, dim_size=graphs.size)
        features = torch.relu(self.output(summary))
        return torch.cat([head(features) for head in self.heads], dim=1)


def matching_parameters(net: MessagePassingNet, reference: ReferenceNet) -> list[tuple[str, Tensor, Tensor]]:
    """Every parameter of the dense network with its counterpart, in one order."""
    encoder, conv = net.encoder, reference.convolution
    modules: list[tuple[nn.Module, nn.Module]] = [
        (encoder.embedding, reference.embedding),
        (encoder.edge_hidden, conv.nn[0]),
        (encoder.edge_matrix, conv.nn[2]),
        (encoder.output, reference.output),
        *zip(net.heads, reference.heads, strict=True),
    ]
    pairs: list[tuple[Tensor, Tensor]] = [
        (a, dict(b.named_parameters())[name]) for ours, b in modules for name, a in ours.named_parameters()
    ]
    pairs.append((encoder.root.weight, conv.lin.weight))
    pairs.append((encoder.root.bias, conv.bias))
    for ours, theirs in ((encoder.update, reference.update), (encoder.readout.query, reference.readout.lstm)):
        counterparts = dict(theirs.named_parameters())
        pairs += [(a, counterparts[f"{name}_l0"]) for name, a in ours.named_parameters()]
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [(names[id(a)], a, b) for a, b in pairs]


def copy_parameters(net: MessagePassingNet, reference: ReferenceNet) -> None:
    """Gives the dense network the parameters of the reference."""
    with torch.no_grad():
        for _, ours, theirs in matching_parameters(net, reference):
            ours.copy_(theirs)


def random_graphs(sizes: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Graph]:
    """Graphs like molecules: a few kinds of atoms, sparse bonds as one-hot (4), distances in Angstrom."""
    draw = torch.Generator().manual_seed(seed)
    graphs = []
    for n in sizes:
        nodes = torch.randint(0, 2, (n, 11), generator=draw).to(dtype)
        nodes[:, 5] = torch.randint(1, 10, (n,), generator=draw).to(dtype)
        place = torch.randn(n, 3, generator=draw, dtype=dtype) * 2
        bond = torch.randint(0, 20, (n, n), generator=draw).triu(1)
        kinds = nn.functional.one_hot(bond + bond.T, 20)[..., 1:5].to(dtype)
        graphs.append(Graph(nodes, torch.cat([kinds, torch.cdist(place, place)[..., None]], dim=-1)))
    return graphs


def flat(graphs: Sequence[Graph]) -> FlatGraphs:
    """The graphs end to end, with all directed edges except self loops."""
    nodes, index, edges, graph = [], [], [], []
    start = 0
    for number, (x, e) in enumerate(graphs):
        i, j = (~torch.eye(len(x), dtype=torch.bool)).nonzero(as_tuple=True)
        nodes.append(x)
        index.append(torch.stack([i, j]) + start)
        edges.append(e[i, j])
        graph.append(torch.full((len(x),), number))
        start += len(x)
    return FlatGraphs(torch.cat(nodes), torch.cat(index, 1), torch.cat(edges), torch.cat(graph), len(graphs))


def dense(graphs: Sequence[Graph], room: int = 0, filling: float = 0.0) -> DenseGraphs:
    """The graphs padded to the largest one and `room` more, with `filling` in padding and on the diagonal."""
    n = max(len(graph.nodes) for graph in graphs) + room
    first = graphs[0]
    nodes = first.nodes.new_full((len(graphs), n, first.nodes.shape[-1]), filling)
    edges = first.nodes.new_full((len(graphs), n, n, first.edges.shape[-1]), filling)
    mask = torch.zeros(len(graphs), n, dtype=torch.bool)
    for number, (x, e) in enumerate(graphs):
        nodes[number, : len(x)] = x
        edges[number, : len(x), : len(x)] = e
        mask[number, : len(x)] = True
    edges.diagonal(dim1=1, dim2=2).fill_(filling)
    return DenseGraphs(nodes, edges, mask)


def dense_chunks(graphs: Sequence[Graph], chunks: int) -> tuple[list[DenseGraphs], list[int]]:
    """The graphs sorted by size and cut into pieces, and which graph stands where."""
    order = sorted(range(len(graphs)), key=lambda number: len(graphs[number].nodes))
    pieces = torch.tensor(order).tensor_split(chunks)
    return [dense([graphs[number] for number in piece.tolist()]) for piece in pieces], order
