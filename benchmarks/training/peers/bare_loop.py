"""The very steps of `gatewise_lightning`, in a loop of ten lines: what Lightning adds is the difference."""

import numpy as np
import ours
import torch
from case import Meter, case_of_command

from training.data import IGNORED, SequenceDataModule
from training.module import ClassifierModule


def main() -> None:
    """Fit and measure."""
    torch.set_num_threads(1)
    case = case_of_command()
    config = ours.configuration(case)
    train, held_out = ours.rows(case.train), ours.rows(case.held_out)
    data = SequenceDataModule(train, held_out, batch_size=config.batch_size, seed=config.seed)
    meter = Meter()
    torch.manual_seed(config.seed)
    module = ClassifierModule(
        *(ours.model(case), config),
        labels=ours.labels(case),
        forms=ours.forms(case),
        class_weights=None,
        total_steps=2,
    )
    optimizer = module.configure_optimizers()
    loader, accuracy = data.train_dataloader(), 0.0
    for epoch in range(case.epochs):
        module.train()
        loader.sampler.set_epoch(epoch)
        for i, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, i).backward()
            optimizer.step()
        accuracy = score(module, data.val_dataloader())
        meter.epoch()
    meter.write(case, accuracy, sum(p.numel() for p in module.model.parameters()))


@torch.no_grad()
def score(module: ClassifierModule, loader: object) -> float:
    """Accuracy over real steps."""
    module.eval()
    hits: list[np.ndarray] = []
    for inputs, lengths, labels in loader:  # type: ignore[attr-defined]
        real = labels != IGNORED
        hits.append((module.model(inputs, lengths).argmax(dim=-1) == labels)[real].numpy())
    return float(np.concatenate(hits).mean())


if __name__ == "__main__":
    main()
