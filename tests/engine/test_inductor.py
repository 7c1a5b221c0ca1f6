"""Networks compiled by inductor, torch.compile's own back end, for every method; needs a C++ compiler and minutes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._functorch.config as functorch_config
from torch import nn

import equipoise as eq
from precision_cases import PRECISIONS, Case, error, losses_of, network
from rank_cases import data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++), which inductor calls"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, nn.Module]]:
    """One compiled network for all methods: compiling takes longer than all their steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        torch.compiler.reset()
        eq.Balancer(eq.build_method("mgda", 3))  # before the first forward pass, as its error advises
        model: Any = torch.compile(network("float32"))
        yield {"float32": model}
    torch.compiler.reset()


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("spec", sorted(eq.METHODS))
def test_gradients_are_those_of_plain_autograd(
    spec: str, accumulate: int, compiled: dict[str, nn.Module]
) -> None:
    assert error(Case(spec, "float32", accumulate, "compiled"), compiled) <= PRECISIONS["float32"]


def test_inductor_has_compiled(compiled: dict[str, nn.Module]) -> None:
    """Else the tests before have compared the plain network with itself."""
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    torch._dynamo.reset()
    metrics.reset()
    counters.clear()
    losses_of(compiled["float32"], *data(0), "float32")
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("spec", ["mgda", "graddrop"])
def test_a_network_compiled_for_a_single_pass_is_refused_with_the_way_out(spec: str, tmp_path: Path) -> None:
    """Its first pass frees what the second one needs: gradients were wrong by 100 %, and nothing said so."""
    with pytest.MonkeyPatch.context() as patch, functorch_config.patch(donated_buffer=True):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        torch.compiler.reset()
        model: Any = torch.compile(network("float32"))
        torch.stack(losses_of(model, *data(0), "float32")).sum().backward()
        shared = model._orig_mod.encoder.parameters()
        balancer = eq.Balancer(eq.build_method(spec, 3), shared=shared)
        losses = losses_of(model, *data(1), "float32")
        with pytest.raises(RuntimeError, match=r"build the Balancer before the network's first forward pass"):
            balancer.backward(losses)
    torch.compiler.reset()
