import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from draws import KINDS, draw_gramian
from equipoise.solvers import nonnegative
from equipoise.solvers.nonnegative import nonnegative_quadratic, regularised


def draw_problem(kind: str, m: int, seed: int) -> tuple[Tensor, Tensor]:
    gramian = draw_gramian(kind, m, seed)
    norms = gramian.diagonal().clamp(min=1e-300).sqrt()
    generator = torch.Generator().manual_seed(seed)
    cosines = gramian / norms / norms[:, None]
    # In the range of the matrix, as every problem of the solvers is, so that a minimiser exists.
    return regularised(cosines), cosines @ torch.randn(m, generator=generator, dtype=torch.float64)


def check(matrix: Tensor, linear: Tensor, values: Tensor) -> None:
    """The optimality conditions, to what rounding allows in a matrix with a condition number up to 1e13."""
    slack = matrix @ values + linear
    size = float(linear.abs().max()) + 1e-3 * float(values.max())
    assert float(values.min()) >= 0.0
    assert float(slack.min()) >= -1e-10 * size
    assert float((slack * values).abs().max()) <= 1e-10 * size * max(1.0, float(values.max()))


@pytest.mark.parametrize("patience", [3, -1], ids=["block exchanges", "one at a time"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_optimality_conditions_hold(kind: str, patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonnegative, "PATIENCE", patience)
    generator = torch.Generator().manual_seed(0)
    for m in (1, 2, 3, 11, 40):
        for seed in range(12):
            matrix, linear = draw_problem(kind, m, seed)
            guess = torch.rand(m, generator=generator) < 0.5
            answer = nonnegative_quadratic(matrix, linear, guess)
            check(matrix, linear, answer.values)
            assert bool((answer.values[~answer.free] == 0.0).all())


def test_a_non_negative_least_squares_routine_agrees() -> None:
    for kind in ("random", "mixed", "conflict"):
        for m in (1, 2, 5, 20):
            matrix, linear = draw_problem(kind, m, m)
            factor = torch.linalg.cholesky(matrix)
            target = torch.linalg.solve_triangular(factor, -linear[:, None], upper=False)[:, 0]
            other, _ = nnls(factor.T.numpy(), target.numpy())
            answer = nonnegative_quadratic(matrix, linear, torch.zeros(m, dtype=torch.bool))
            torch.testing.assert_close(answer.values, torch.from_numpy(other), rtol=1e-7, atol=1e-9)


def test_exchanges_that_would_cycle_end_in_the_same_minimum() -> None:
    # Block exchanges repeat themselves here from any start, as a count of the solves shows.
    solves = 0
    plain = nonnegative._solve_on

    def counted(matrix: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal solves
        solves += 1
        return plain(matrix, linear, free)

    fallbacks = 0
    for seed in range(40):
        matrix, _ = draw_problem("rank_deficient", 40, seed)
        linear = -torch.ones(40, dtype=torch.float64)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nonnegative, "_solve_on", counted)
            solves = 0
            found = nonnegative_quadratic(matrix + 1.0, linear, torch.ones(40, dtype=torch.bool)).values
        fallbacks += solves > 15
        assert solves < 500  # how many it takes depends on the rounding of the processor's linear algebra
        slope = (matrix + 1.0) @ found + linear
        assert float(found.min()) >= 0.0
        assert float(slope.min()) >= -1e-6
        assert abs(float(found @ slope)) <= 1e-6
    assert fallbacks > 0


def test_the_ridge_is_as_small_as_the_rounding_of_the_matrix() -> None:
    matrix = regularised(torch.ones(5, 5, dtype=torch.float64))
    assert float(matrix[0, 0]) - 1.0 < 1e-14
    generator = torch.Generator().manual_seed(0)
    noise = 1e-7 * torch.randn(5, 5, generator=generator, dtype=torch.float64)
    matrix = regularised(torch.ones(5, 5, dtype=torch.float64) + noise + noise.T)
    assert 1e-8 < float((matrix.diagonal() - 1.0 - 2.0 * noise.diagonal()).mean()) < 1e-5
    assert int(torch.linalg.cholesky_ex(matrix)[1]) == 0
