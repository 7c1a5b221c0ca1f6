"""Random Jacobians and Gramians that tests draw from: easy, degenerate and badly scaled ones."""

import pytest
import torch
from torch import Tensor

WELL_CONDITIONED = ("random", "mixed", "conflict", "scaled")
STATIONARY = ("stationary", "opposite", "zero_row")
DEGENERATE = ("rank_one", "rank_deficient", "equal_rows", "six_decades", "near_opposite", *STATIONARY)
KINDS = WELL_CONDITIONED + DEGENERATE


def seeds(few: int, all_: int) -> pytest.MarkDecorator:
    """Runs a test with `seeds` as the first few of all draws, and in the slow suite with the rest of them."""
    rest = pytest.param(range(few, all_), marks=pytest.mark.slow, id="the rest")
    return pytest.mark.parametrize("seeds", [pytest.param(range(few), id="the first"), rest])


def draw_jacobian(kind: str, m: int, n: int, seed: int) -> Tensor:
    """Draws the gradients of `m` tasks over `n` parameters, float64, shape (m, n).

    Args:
        kind: One of `KINDS`. `random`: independent normal rows. `mixed`: a common direction is added.
            `conflict`: rows that nearly cancel in the mean. `scaled`: row norms over four decades.
            `rank_one`: multiples, of either sign, of one row. `rank_deficient`: rank at most max(1, m // 2).
            `equal_rows`: every row twice. `six_decades`: row norms over six decades, common direction.
            `near_opposite`: the first two rows cancel but for 1e-3 of a random row. The kinds in `STATIONARY`
            have a convex combination of rows that is zero (for m = 1, the row itself): `stationary`: one that
            takes all rows; `opposite`: one that takes the first two; `zero_row`: one row is zero.
        m: Number of tasks, at least 1.
        n: Number of parameters, at least 1.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    rows = normal(m, n)
    match kind:
        case "random":
            return rows
        case "mixed":
            return rows + 2.0 * normal(n)
        case "conflict":
            return rows - 0.9 * rows.mean(0)
        case "scaled":
            return rows * 10.0 ** (4.0 * uniform(m, 1) - 2.0)
        case "rank_one":
            return normal(m, 1) * normal(1, n)
        case "rank_deficient":
            rank = max(1, m // 2)
            return normal(m, rank) @ normal(rank, n)
        case "equal_rows":
            return rows[torch.arange(m) // 2]
        case "six_decades":
            return (rows + normal(n)) * 10.0 ** (6.0 * uniform(m, 1) - 3.0)
        case "near_opposite" | "opposite":
            leftover = 1e-3 if kind == "near_opposite" else 0.0
            second = min(1, m - 1)
            rows[second] = leftover * rows[second] - rows[0] * (m > 1)
            return rows
        case "stationary":
            share = uniform(m, 1) + 0.1
            rows[-1] = -(share[:-1] * rows[:-1]).sum(0) / share[-1]
            return rows
        case "zero_row":
            rows[seed % m] = 0.0
            return rows
        case _:
            raise ValueError(f"`kind` should be one of {', '.join(KINDS)}. Found {kind!r}.")


def draw_gramian(kind: str, m: int, seed: int) -> Tensor:
    """Draws J J' of `draw_jacobian(kind, m, n, seed)`, (m, m).

    There are 4 m + 8 parameters for the well-conditioned kinds, so that the smallest eigenvalue stays well above
    zero, and for the others in turn m // 2 (at least 1), m, m + 3 and 4 m + 8.
    """
    counts = (max(1, m // 2), m, m + 3, 4 * m + 8)
    n = counts[3] if kind in WELL_CONDITIONED else counts[seed % 4]
    jacobian = draw_jacobian(kind, m, n, seed)
    return jacobian @ jacobian.T
