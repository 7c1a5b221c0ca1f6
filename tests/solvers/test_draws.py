import pytest
import torch

from draws import KINDS, STATIONARY, WELL_CONDITIONED, draw_gramian, draw_jacobian


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_shape_asked_for_and_repeat_themselves(kind: str) -> None:
    for m in (1, 2, 5):
        jacobian = draw_jacobian(kind, m, 7, 3)
        assert jacobian.shape == (m, 7)
        assert jacobian.dtype == torch.float64
        assert jacobian.equal(draw_jacobian(kind, m, 7, 3))
        assert draw_gramian(kind, m, 3).shape == (m, m)


def test_kinds_are_what_they_say() -> None:
    for kind in WELL_CONDITIONED:
        gramian = draw_gramian(kind, 20, 0)
        norms = gramian.diagonal().sqrt()
        assert float(torch.linalg.eigvalsh(gramian / norms / norms[:, None])[0]) > 1e-3
    for kind, rank in (("rank_one", 1), ("rank_deficient", 4), ("equal_rows", 4), ("stationary", 7)):
        assert int(torch.linalg.matrix_rank(draw_jacobian(kind, 8, 12, 0))) == rank
    for kind in STATIONARY:
        assert int(torch.linalg.matrix_rank(draw_jacobian(kind, 2, 12, 0))) == 1
    assert bool((draw_jacobian("opposite", 4, 6, 0)[:2].sum(0) == 0.0).all())
    norms = draw_jacobian("six_decades", 40, 60, 0).norm(dim=1)
    assert float(norms.max() / norms.min()) > 1e5
    jacobian = draw_jacobian("near_opposite", 4, 60, 0)
    assert float(torch.cosine_similarity(jacobian[0], jacobian[1], dim=0)) < -1 + 1e-5


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"`kind` should be one of random, .*\. Found 'odd'\."):
        draw_jacobian("odd", 2, 3, 0)
