"""Lightning (`pip install lightning`) with manual optimisation, and a callback that logs and saves the balance.

The balancer writes `.grad` itself, so the module has to set `automatic_optimization = False`. `BalancerCallback` is for
your own project: it logs the weights and puts the state of the balancer into the checkpoints. Against the module
with manual optimisation without Equipoise, beside the import and the callback:

    +         self.balancer = eq.Balancer(eq.build_method("go4align", 3, groups=2), tasks=list(UNITS))
    -         self.manual_backward(sum(losses.values()))
    +         self.record = self.balancer.backward(losses)
    -     trainer = L.Trainer(**options)
    +     trainer = L.Trainer(callbacks=[BalancerCallback()], **options)
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning as L  # noqa: N812
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq

UNITS = {"length": 1.0, "width": 1.2, "weight": 5.0}


class BalancerCallback(L.Callback):
    """Logs the weights of `module.record`, and saves and loads the state of `module.balancer`."""

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        weights = zip(module.balancer.tasks, module.record.weights, strict=True)
        module.log_dict({f"weight/{task}": weight for task, weight in weights})

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["balancer"] = module.balancer.state_dict()

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        module.balancer.load_state_dict(checkpoint["balancer"])


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(32, 1) for task in UNITS})
        self.balancer = eq.Balancer(eq.build_method("go4align", 3, groups=2), tasks=list(UNITS))  # equipoise
        self.history: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        features, targets = self.encoder(batch[0]), dict(zip(UNITS, batch[1].unbind(1), strict=True))
        outputs = {task: head(features).squeeze(-1) for task, head in self.heads.items()}
        losses = {task: nn.functional.mse_loss(outputs[task], targets[task]) for task in UNITS}
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.record = self.balancer.backward(losses)  # equipoise
        optimizer.step()
        self.history.append(torch.stack(list(losses.values())).detach())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def data(size: int) -> TensorDataset:
    """Inputs (size, 8) and targets (size, 3)."""
    x = torch.randn(size, 8, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, torch.tensor(list(UNITS.values())) * (x[:, :3] * x[:, 1:4]).tanh())


def main(epochs: int) -> None:
    L.seed_everything(0, verbose=False)
    options: dict[str, Any] = {"max_epochs": epochs, "accelerator": "cpu", "logger": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    module = Module()
    trainer = L.Trainer(callbacks=[BalancerCallback()], **options)  # equipoise
    trainer.fit(module, DataLoader(data(8192), batch_size=256, shuffle=True))
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for i, task in enumerate(UNITS):
        weight = trainer.callback_metrics[f"weight/{task}"].item()  # print
        print(f"{task:<12}{module.history[0][i]:>12.4g}{module.history[-1][i]:>12.4g}{weight:>12.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
