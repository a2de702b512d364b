"""The documented network as a PyTorch tutorial writes it: texts packed, rows in random order, one loop."""

import numpy as np
import torch
from case import Meter, case_of_command
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class Network(nn.Module):
    """Embedding for texts, one recurrent layer, two dense layers."""

    def __init__(self, case, channels):  # type: ignore[no-untyped-def]
        super().__init__()
        self.is_text = case.kind == "text"
        self.embedding = nn.Embedding(case.vocabulary, 128) if self.is_text else nn.Identity()
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[case.cell]
        self.recurrent = cell(128 if self.is_text else channels, 128, batch_first=True)
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, case.classes))

    def forward(self, x, lengths):  # type: ignore[no-untyped-def]
        """Logits (B, K) of texts, (B, T, K) of series."""
        x = self.embedding(x)
        if not self.is_text:
            return self.head(self.recurrent(x)[0])
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.head(outputs[torch.arange(len(x)), lengths - 1])


def main() -> None:
    """Fit and measure."""
    torch.set_num_threads(1)
    case = case_of_command()
    torch.manual_seed(case.seed)
    network = Network(case, case.train[0][0].shape[-1])  # type: ignore[no-untyped-call]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rows = tensors(case.train)
    accuracy = 0.0
    meter = Meter()
    for _ in range(case.epochs):
        network.train()
        for batch in torch.randperm(len(rows[0])).split(32):
            x, lengths, labels = collate(rows, batch.tolist())
            loss = nn.functional.cross_entropy(network(x, lengths).flatten(0, -2), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = score(network, tensors(case.held_out))
        meter.epoch()
    meter.write(case, accuracy, sum(p.numel() for p in network.parameters()))


def tensors(part):  # type: ignore[no-untyped-def]
    """Sequences and labels as tensors."""
    return [torch.from_numpy(np.ascontiguousarray(row)) for row in part[0]], torch.from_numpy(part[1])


def collate(rows, batch):  # type: ignore[no-untyped-def]
    """Padded inputs, lengths and labels of the rows of a batch."""
    sequences = [rows[0][i] for i in batch]
    return pad_sequence(sequences, batch_first=True), torch.tensor([len(s) for s in sequences]), rows[1][batch]


@torch.no_grad()
def score(network, rows):  # type: ignore[no-untyped-def]
    """Accuracy."""
    network.eval()
    hits = total = 0
    for start in range(0, len(rows[0]), 128):
        x, lengths, labels = collate(rows, list(range(start, min(start + 128, len(rows[0])))))
        hits += int((network(x, lengths).argmax(dim=-1) == labels).sum())
        total += labels.numel()
    return hits / total


if __name__ == "__main__":
    main()
