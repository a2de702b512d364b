"""The documented network as Ludwig is asked for it, in an environment of its own; it has no labels for single steps."""

import os
import tempfile

import pandas as pd
import torch
from case import Meter, case_of_command
from ludwig.api import LudwigModel
from ludwig.callbacks import Callback


class Epochs(Callback):
    """Tells the meter of each epoch's end."""

    def __init__(self) -> None:
        self.meter = None

    def on_train_start(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """The data are ready and the network is made."""
        self.meter = Meter()

    def on_epoch_end(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """After validation, as for every system."""
        self.meter.epoch()


def main() -> None:
    """Fit and measure."""
    torch.set_num_threads(1)
    case = case_of_command()
    encoder = {"type": "rnn", "cell_type": case.cell, "embedding_size": 128, "state_size": 128, "reduce_output": "last"}
    # Padded at their beginning, as Keras pads them: its last step is that of the padded text.
    read = {"tokenizer": "space", "max_sequence_length": 200, "most_common": case.vocabulary, "padding": "left"}
    config = {
        "input_features": [{"name": "text", "type": "text", "encoder": encoder, "preprocessing": read}],
        "output_features": [
            {"name": "label", "type": "category", "decoder": {"num_fc_layers": 1, "fc_output_size": 64}}
        ],
        "trainer": {
            **{"epochs": case.epochs, "batch_size": 32, "learning_rate": 1e-3, "optimizer": {"type": "adam"}},
            **{"early_stop": -1, "learning_rate_scheduler": {"warmup_evaluations": 0}},
        },
    }
    epochs = Epochs()
    model = LudwigModel(config, callbacks=[epochs], logging_level=40)
    with tempfile.TemporaryDirectory() as folder:
        # It leaves a lock file where it stands.
        os.chdir(folder)
        result = model.train(
            training_set=table(case.train),  # type: ignore[no-untyped-call]
            validation_set=table(case.held_out),  # type: ignore[no-untyped-call]
            test_set=table(case.held_out),  # type: ignore[no-untyped-call]
            output_directory=folder,
            skip_save_processed_input=True,
            random_seed=case.seed,
        )
    accuracy = result.train_stats["validation"]["label"]["accuracy"][-1]
    epochs.meter.write(case, accuracy, sum(p.numel() for p in model.model.parameters()))


def table(part):  # type: ignore[no-untyped-def]
    """Texts of numbered words, with the names of their labels."""
    sequences, labels = part
    return pd.DataFrame(
        {"text": [" ".join(f"w{i}" for i in row) for row in sequences], "label": [f"k{k}" for k in labels]}
    )


if __name__ == "__main__":
    main()
