"""Reinforcement learning with auxiliary losses: an actor-critic in a small world, three losses on one encoder.

The agent sees its own and the goal's position on a 5 x 5 board and is paid 1 for reaching the goal. Its losses are
the policy's, the value's and, to teach the encoder, a prediction of where each move leads. The policy's loss can be
negative, so the method has to read gradients: PCGrad takes the parts out that work against each other.

The entropy that keeps the agent exploring is part of the policy's loss. It is small on purpose, and as a task of its
own it is raised like any other small loss. Tried here, seven Gramian methods gave it 12 to 140 times the weight of the
policy, and the agent learnt less than with the plain sum. Against the loop without Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("pcgrad", 3), tasks=TASKS)
    -         sum(losses.values()).backward()
    +         record = balancer.backward(losses)
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import equipoise as eq

SIDE, BOARDS, MOVES_PER_STEP, DISCOUNT = 5, 64, 16, 0.9
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
TASKS = ["policy", "value", "prediction"]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4 * SIDE, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, len(MOVES)), nn.Linear(64, 1)
        self.prediction = nn.Linear(64 + len(MOVES), 2 * SIDE)  # where the agent will be, row and column

    def forward(self, board: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encoder(nn.functional.one_hot(board, SIDE).flatten(-2).float())
        return features, self.policy(features), self.value(features).squeeze(-1)


def step(board: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The boards (b, 4) after the moves (b,), the rewards (b,), and the boards of the next turn."""
    after = torch.cat([(board[:, :2] + MOVES[move]).clamp(0, SIDE - 1), board[:, 2:]], 1)
    reached = (after[:, :2] == after[:, 2:]).all(1)
    following = torch.where(reached.unsqueeze(1), torch.randint(SIDE, board.shape), after)
    return after, reached.float(), following


def play(model: Network, board: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The losses of some moves on all boards, the mean reward of a move, and the boards at the end."""
    turns = []
    for _ in range(MOVES_PER_STEP):
        features, logits, value = model(board)
        move = torch.distributions.Categorical(logits=logits).sample()
        after, reward, board = step(board, move)
        turns.append((features, logits, value, move, after, reward))
    features, logits, values, moves, after, rewards = (torch.stack(x) for x in zip(*turns, strict=True))
    returns, value = torch.zeros_like(rewards), model(board)[2].detach()
    for i in reversed(range(MOVES_PER_STEP)):
        value = returns[i] = rewards[i] + DISCOUNT * (1 - rewards[i]) * value
    chances = logits.log_softmax(-1)
    chosen = chances.gather(-1, moves.unsqueeze(-1)).squeeze(-1)
    entropy = -(chances.exp() * chances).sum(-1).mean()
    known = torch.cat([features, nn.functional.one_hot(moves, len(MOVES)).float()], -1)
    predicted = model.prediction(known).view(-1, SIDE)
    losses = {
        "policy": -(chosen * (returns - values.detach())).mean() - 0.01 * entropy,
        "value": nn.functional.mse_loss(values, returns),
        "prediction": nn.functional.cross_entropy(predicted, after[..., :2].flatten()),
    }
    return losses, rewards.mean(), board


def main(steps: int) -> None:
    torch.manual_seed(0)
    model, board = Network(), torch.randint(SIDE, (BOARDS, 4))
    balancer = eq.Balancer(eq.build_method("pcgrad", 3), tasks=TASKS)  # equipoise
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history: list[dict[str, float]] = []
    for _ in range(steps):
        losses, reward, board = play(model, board)
        optimizer.zero_grad()
        record = balancer.backward(losses)  # equipoise
        optimizer.step()
        history.append({"reward": reward.item()} | {task: loss.item() for task, loss in losses.items()})
    weights = record.weights.tolist()  # print
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for task, weight in zip(TASKS, weights, strict=True):
        print(f"{task:<12}{history[0][task]:>12.4g}{history[-1][task]:>12.4g}{weight:>12.4g}")
    first, last = (sum(entry["reward"] for entry in part) / 10 for part in (history[:10], history[-10:]))
    print(f"reward of a move: {first:.3f} at first, {last:.3f} at last")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
