"""Hugging Face Trainer (`pip install transformers accelerate`): a small BERT that reads a sentence and its words.

The network is built from a configuration, nothing is downloaded. It returns its losses by name, the trainer adds them
up; with Equipoise `training_step` hands them to the balancer instead, and `compute_loss` is left for the evaluation.
The words' loss starts far above the sentence's; learning-rate annealing makes their gradients equally long. Against the
trainer without Equipoise, beside the import:

    + balancer = eq.Balancer(eq.build_method("lr_annealing", 2), tasks=["sentence", "words"])
    +     def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
    +         return balancer.backward(model.train()(**self._prepare_inputs(inputs))).losses.sum()

With `gradient_accumulation_steps=k` give the balancer `accumulate=k`.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

import equipoise as eq

HISTORY: list[dict[str, float]] = []
balancer = eq.Balancer(eq.build_method("lr_annealing", 2), tasks=["sentence", "words"])  # equipoise


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}
        chance = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = BertConfig(vocab_size=32, hidden_size=32, intermediate_size=64, **shape, **chance)
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.sentence, self.words = nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, input_ids: Tensor, sentence: Tensor, words: Tensor) -> dict[str, Tensor]:
        states = self.encoder(input_ids=input_ids).last_hidden_state
        losses = {
            "sentence": nn.functional.cross_entropy(self.sentence(states.mean(1)), sentence),
            "words": nn.functional.mse_loss(self.words(states).squeeze(-1), words),
        }
        HISTORY.append({task: loss.item() for task, loss in losses.items()})
        return losses


class MultiTaskTrainer(Trainer):
    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        return torch.stack(list(model(**inputs).values())).sum()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:  # equipoise
        return balancer.backward(model.train()(**self._prepare_inputs(inputs))).losses.sum()  # equipoise


def sentences(number: int) -> list[dict[str, Tensor]]:
    """Random words; is the larger half of the vocabulary in the majority, and what is the value of each word."""
    ids = torch.randint(32, (number, 12), generator=torch.Generator().manual_seed(1))
    marks = (ids >= 16).float().mean(1) > 0.5
    rows = zip(ids, marks.long(), (ids - 16) * 0.5, strict=True)
    return [{"input_ids": i, "sentence": s, "words": w} for i, s, w in rows]


def main(steps: int) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "save_strategy": "no",
    }
    options |= {"max_steps": steps, "per_device_train_batch_size": 64, "learning_rate": 3e-3}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(output_dir=folder, remove_unused_columns=False, **options)
        MultiTaskTrainer(model=Network(), args=arguments, train_dataset=sentences(4096)).train()
    weights = balancer.method.get_buffer("weights").tolist()  # print
    print(f"{'task':<12}{'first':>12}{'last':>12}{'weight':>12}")
    for task, weight in zip(HISTORY[0], weights, strict=True):
        print(f"{task:<12}{HISTORY[0][task]:>12.4g}{HISTORY[-1][task]:>12.4g}{weight:>12.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
