"""ConFIG against the pseudoinverse of the unit gradients, and torchjd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import ConFIG as OtherConFIG

import equipoise as eq
from draws import WELL_CONDITIONED, draw_jacobian
from equipoise.methods.config import ConFIG


def weights_for(method: eq.Method, jacobian: Tensor) -> Tensor:
    return method(eq.TaskStats(torch.ones(len(jacobian)), gramian=jacobian @ jacobian.T))


def literal(jacobian: Tensor) -> Tensor:
    """Eq. 2 of the paper on the gradients, zero ones left out."""
    alive = jacobian[jacobian.norm(dim=1) > 0]
    units = alive / alive.norm(dim=1, keepdim=True)
    direction = torch.linalg.pinv(units, rtol=1e-6) @ torch.ones(len(units)).double()
    direction = direction / direction.norm()
    answer: Tensor = (alive @ direction).sum() * direction
    return answer


@pytest.mark.parametrize(
    "kind", [*WELL_CONDITIONED, "rank_deficient", "equal_rows", "zero_row", "six_decades"]
)
def test_it_is_the_pseudoinverse_of_the_unit_gradients(kind: str) -> None:
    for m in (2, 3, 6):
        for seed in range(5):
            jacobian = draw_jacobian(kind, m, 30, seed)
            expected = literal(jacobian)
            found = weights_for(ConFIG(m), jacobian) @ jacobian
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7 * float(expected.norm()))


@pytest.mark.parametrize("kind", WELL_CONDITIONED)
def test_all_cosines_are_equal_and_torchjd_agrees(kind: str) -> None:
    for m in (2, 5):
        jacobian = draw_jacobian(kind, m, 30, m)
        found = weights_for(ConFIG(m), jacobian) @ jacobian
        cosines = torch.cosine_similarity(jacobian, found[None])
        assert (cosines > 0).all()
        assert cosines.tolist() == pytest.approx([cosines[0].item()] * m, rel=1e-6)
        torch.testing.assert_close(found, OtherConFIG()(jacobian), rtol=1e-6, atol=1e-9)


def test_degenerate_gradients_have_the_documented_answer() -> None:
    opposite = torch.tensor([[1.0, 0.0], [-2.0, 0.0]]).double()
    assert weights_for(ConFIG(2), opposite).tolist() == [0.0, 0.0]
    assert weights_for(ConFIG(2), torch.zeros(2, 3).double()).tolist() == [0.0, 0.0]
    one_zero = weights_for(ConFIG(2), torch.tensor([[3.0, 4.0], [0.0, 0.0]]).double())
    assert one_zero.tolist() == pytest.approx([1.0, 0.0])
    assert weights_for(ConFIG(1), torch.tensor([[3.0, 4.0]]).double()).tolist() == pytest.approx([1.0])


def test_tolerance_is_checked_and_decides_what_counts_as_dependent() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [1.0, 1e-3]]).double()
    separate = weights_for(ConFIG(2), jacobian)
    together = weights_for(ConFIG(2, tolerance=1e-5), jacobian)
    torch.testing.assert_close(separate, together, rtol=1e-4, atol=0.0)
    assert weights_for(ConFIG(2, tolerance=10.0), jacobian).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"`tolerance` should be at least 0\. Found -1\."):
        ConFIG(2, tolerance=-1.0)
