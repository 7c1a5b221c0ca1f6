"""The dense network against PyTorch Geometric's NNConv, GRU and Set2Set with the same parameters."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from equipoise.models import mpnn
from equipoise.models.mpnn import DenseGraphs, MessagePassingNet, Set2Set
from models.reference_mpnn import (
    Graph,
    ReferenceNet,
    copy_parameters,
    dense,
    dense_chunks,
    flat,
    matching_parameters,
    random_graphs,
)

SIZES = [18, 5, 29, 17, 9, 19, 16]


def small_net(**changes: int) -> MessagePassingNet:
    torch.manual_seed(0)
    return MessagePassingNet(**({"width": 8, "edge_width": 12, "tasks": 3} | changes)).double()


def gradients(net: nn.Module, losses: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(losses.sin().sum(), list(net.parameters())))


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-12) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


def test_has_the_parameters_of_the_published_network() -> None:
    net = MessagePassingNet()
    assert sum(p.numel() for p in net.parameters()) == 617_675
    shared = {id(p) for p in net.encoder.parameters()}
    heads = [{id(p) for p in head.parameters()} for head in net.heads]
    assert [len(head) for head in heads] == [2] * 11
    assert len(shared.union(*heads)) == len(list(net.parameters())) == len(shared) + 22


@pytest.mark.parametrize("sizes", [(64, 128, 3, 3), (32, 32, 3, 3), (6, 10, 2, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_pytorch_geometric(
    sizes: tuple[int, int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(1)
    reference = ReferenceNet(*sizes).to(dtype)
    torch.nn.init.normal_(reference.convolution.bias)
    net = MessagePassingNet(*sizes).to(dtype)
    copy_parameters(net, reference)
    graphs = random_graphs(SIZES, dtype=dtype)
    chunks, order = dense_chunks(graphs, 3)

    found, expected = net(chunks), reference(flat(graphs))[order]
    assert_same([found], [expected], tolerance)
    found.sin().sum().backward()
    expected.sin().sum().backward()
    pairs = matching_parameters(net, reference)
    assert {name for name, _, _ in pairs} == {name for name, _ in net.named_parameters()}
    for name, ours, theirs in pairs:
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad - theirs.grad).abs().max() <= tolerance * theirs.grad.abs().max(), name


def test_starts_as_pytorch_geometric_does() -> None:
    torch.manual_seed(2)
    net = MessagePassingNet(16, 32)
    for name, ours, theirs in matching_parameters(net, ReferenceNet(16, 32)):
        if ours.numel() >= 256:
            assert abs(float(ours.detach().abs().max() / theirs.detach().abs().max()) - 1) < 0.05, name
            assert abs(float(ours.detach().std() / theirs.detach().std()) - 1) < 0.15, name
        assert bool(ours.any()) == bool(theirs.any()) == (name != "encoder.root.bias"), name


def test_a_graph_of_one_node_gets_no_message() -> None:
    reference = ReferenceNet(6, 10).double()
    net = MessagePassingNet(6, 10).double()
    copy_parameters(net, reference)
    graphs = random_graphs([1, 2, 4])
    assert_same([net([dense(graphs)])], [reference(flat(graphs))])


@pytest.mark.parametrize("chunks", [2, 4, 7])
def test_chunks_do_not_change_the_numbers(chunks: int) -> None:
    net, graphs = small_net(), random_graphs(SIZES)
    (whole, order), (cut, same_order) = dense_chunks(graphs, 1), dense_chunks(graphs, chunks)
    assert len(cut) == chunks
    assert same_order == order
    assert_same([net(cut)], [net(whole)])
    assert_same(gradients(net, net(cut)), gradients(net, net(whole)))


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    net, chunks = small_net(), dense_chunks(random_graphs(SIZES), 2)[0]
    whole = net(chunks)
    expected = [whole, *gradients(net, whole)]
    per_graph = 29 * 8 * 13 * 8
    for graphs_a_block in (0.5, 2.2, 3.3):
        monkeypatch.setitem(mpnn._BLOCK_BYTES, "cpu", int(graphs_a_block * per_graph))
        cut = net(chunks)
        assert_same([cut, *gradients(net, cut)], expected)


def test_padding_and_diagonal_are_not_read() -> None:
    net, graphs = small_net(), random_graphs(SIZES)
    plain, filled = net([dense(graphs)]), net([dense(graphs, room=4, filling=37.5)])
    assert_same([filled], [plain])
    assert_same(gradients(net, filled), gradients(net, plain))


def test_follows_the_order_of_graphs_and_not_that_of_nodes() -> None:
    net, graphs = small_net(), random_graphs(SIZES)
    expected = net([dense(graphs)])
    order = [4, 2, 0, 6, 1, 5, 3]
    assert_same([net([dense([graphs[i] for i in order])])], [expected[order]])
    shuffled = []
    for nodes, edges in graphs:
        place = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(3))
        shuffled.append(Graph(nodes[place], edges[place][:, place]))
    assert_same([net([dense(shuffled)])], [expected])


def test_edges_count_by_their_symmetric_part() -> None:
    net, chunk = small_net(), dense(random_graphs(SIZES))
    skew = torch.rand(chunk.edges.shape, dtype=torch.float64)
    tilted = chunk._replace(edges=chunk.edges + skew - skew.transpose(1, 2))
    expected, found = net([chunk]), net([tilted])
    assert_same([found], [expected])
    assert_same(gradients(net, found), gradients(net, expected))


def test_gradients_are_those_of_finite_differences() -> None:
    net = small_net(width=3, edge_width=4, set2set_steps=2)
    names = [name for name, _ in net.named_parameters()]
    (nodes, edges, mask) = dense(random_graphs([3, 2]))
    inputs = [nodes, edges, *(p.detach() for p in net.parameters())]

    def outputs(nodes: Tensor, edges: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(net, state, ([DenseGraphs(nodes, edges, mask)],))
        return result

    assert torch.autograd.gradcheck(outputs, [x.clone().requires_grad_() for x in inputs])


def test_messages_are_the_sum_over_gates_and_neighbours() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(2 * 3 + 2, 4, dtype=torch.float64, generator=draw, requires_grad=True)
    matrices = torch.randn(4, 5, 4, dtype=torch.float64, generator=draw, requires_grad=True)
    uneven = [torch.rand(b, n, n, 5, dtype=torch.float64, generator=draw) for b, n in ((2, 3), (1, 2))]
    gates = [(z + z.transpose(1, 2)).requires_grad_() for z in uneven]
    parts = [part.view(*z.shape[:2], 4) for part, z in zip(states.split([6, 2]), gates, strict=True)]
    naive = [torch.einsum("bijk,dko,bjd->bio", z, matrices, h) for z, h in zip(gates, parts, strict=True)]
    expected = torch.cat([part.flatten(0, 1) for part in naive])
    found = mpnn._messages(states, matrices, matrices.detach().permute(2, 1, 0), *gates)

    inputs = [states, matrices, *gates]
    slopes = torch.randn(4, 1, dtype=torch.float64, generator=draw).expand(4, 8)
    ours, theirs = (torch.autograd.grad((m.T * slopes).sum(), inputs) for m in (found, expected))
    assert_same([found, *ours[:2]], [expected, *theirs[:2]])
    assert_same([dz.transpose(1, 2) for dz in ours[2:]], list(theirs[2:]))


def test_gradients_of_many_losses_come_from_one_graph() -> None:
    net, chunks = small_net(), dense_chunks(random_graphs(SIZES), 3)[0]
    shared = list(net.encoder.parameters())
    losses = net(chunks).square().mean(0)
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    for task, row in enumerate(rows):
        net.zero_grad()
        net(chunks).square().mean(0)[task].backward()
        assert_same(list(row), [p.grad for p in shared if p.grad is not None])


def test_autocast_is_close_and_leaves_the_rest_in_full_precision() -> None:
    torch.manual_seed(0)
    net = MessagePassingNet()
    chunks = dense_chunks(random_graphs(SIZES, dtype=torch.float32), 3)[0]
    exact = net(chunks)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = net(chunks)
    assert coarse.dtype == torch.float32
    assert 1e-7 < (coarse - exact).norm() / exact.norm() < 0.01
    for a, b in zip(gradients(net, coarse), gradients(net, exact), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_gradient_of_a_gradient_is_refused() -> None:
    net = small_net()
    loss = net([dense(random_graphs([5]))]).sum()
    (first,) = torch.autograd.grad(loss, [net.encoder.root.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_attention_weighs_the_nodes_of_a_graph_only() -> None:
    readout = Set2Set(4, 2)
    states = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    summary = readout(states, mask)
    assert torch.allclose(summary[0, 4:], states[0, 0])


@pytest.mark.parametrize(
    "name", ["width", "edge_width", "rounds", "set2set_steps", "node_features", "edge_features", "tasks"]
)
def test_sizes_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{name}` should be at least 1. Found 0.")):
        small_net(**{name: 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: [], "`chunks` should hold at least 1 batch of graphs. Found 0."),
        (
            lambda g: [g._replace(nodes=g.nodes[..., :7])],
            "`nodes` should have shape (2, 5, 11), to go with `mask`. Found (2, 5, 7).",
        ),
        (
            lambda g: [g._replace(edges=g.edges[:, :4])],
            "`edges` should have shape (2, 5, 5, 5), to go with `mask`. Found (2, 4, 5, 5).",
        ),
    ],
)
def test_graphs_are_checked(change: Callable[[DenseGraphs], list[DenseGraphs]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        small_net()(change(dense(random_graphs([5, 3]))))
