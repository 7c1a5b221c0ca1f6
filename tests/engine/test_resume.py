"""Ten steps are five, a save, a load in another process, and five more; bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise as eq
import ranks
from rank_cases import SPECS, resumed, some_steps


@pytest.fixture(scope="module")
def other_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    """What another process makes of the states that this one has saved."""
    where = tmp_path_factory.mktemp("resume")
    states = where / "states"
    states.mkdir()
    for i, spec in enumerate(SPECS):
        torch.save(some_steps(spec, 0, 5, None)[1], states / f"{i}.pt")
    found: dict[str, list[Tensor]] = ranks.run(resumed, 1, where, str(states))[0]
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_ten_steps_are_five_and_five_in_another_process(
    spec: str, other_process: dict[str, list[Tensor]]
) -> None:
    whole, _ = some_steps(spec, 0, 10, None)
    assert len(other_process[spec]) == len(whole)
    for mine, other in zip(other_process[spec], whole, strict=True):
        assert torch.equal(mine, other)


def test_a_state_of_another_method_or_other_tasks_is_refused() -> None:
    state = some_steps("famo", 0, 2, None)[1]["balancer"]
    with pytest.raises(ValueError, match="The method of the state should be UW. Found FAMO"):
        eq.Balancer(eq.build_method("uw", 3)).load_state_dict(state)
    with pytest.raises(ValueError, match="The tasks of the state should be .*'task 3'.*. Found"):
        eq.Balancer(eq.build_method("famo", 4)).load_state_dict(state)


def test_a_damaged_state_file_is_an_error_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save(some_steps("famo", 0, 1, None)[1], path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RuntimeError):
        torch.load(path, weights_only=True)


def test_windows_and_held_weights_resume(tmp_path: Path) -> None:
    def run(stop: bool) -> Any:
        balancer = eq.Balancer(eq.build_method("constant", 2, weights=[2.0, 3.0]), accumulate=2)
        x = torch.ones(2, requires_grad=True)
        found = []
        for step in range(4):
            present = [True, step >= 2]
            found.append(balancer.backward(x * x, present=present).weights.tolist())
            if stop and step == 1:
                torch.save(balancer.state_dict(), tmp_path / "state.pt")
                balancer = eq.Balancer(eq.build_method("constant", 2, weights=[2.0, 3.0]), accumulate=2)
                balancer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        return found

    assert run(stop=True) == run(stop=False)
