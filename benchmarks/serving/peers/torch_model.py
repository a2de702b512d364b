"""The benchmark's network as a user of torch would write it, with the same weights."""

import os

import torch
from safetensors.torch import load_file
from torch import nn

torch.set_num_threads(1)


class Classifier(nn.Module):
    """LSTM(128) -> last output -> Dense(64, relu) -> Dense(classes, softmax)."""

    def __init__(self, channels: int, hidden: int, dense: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, dense)
        self.output = nn.Linear(dense, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        last = self.lstm(inputs)[0][:, -1]
        return torch.softmax(self.output(torch.relu(self.dense(last))), dim=-1)


def load() -> Classifier:
    """The network of BENCH_WEIGHTS."""
    weights = load_file(os.environ["BENCH_WEIGHTS"])
    names = {"lstm.": "recurrent.0.left_to_right.", "dense.": "dense.0.", "output.": "output."}
    own = {}
    for new, old in names.items():
        own |= {new + name.removeprefix(old): value for name, value in weights.items() if name.startswith(old)}
    sizes = own["lstm.weight_ih_l0"].shape[1], own["lstm.weight_hh_l0"].shape[1], *own["output.weight"].shape[::-1]
    model = Classifier(*sizes)
    model.load_state_dict(own)
    return model.eval()
