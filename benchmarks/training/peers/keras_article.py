"""The documented network as the article writes it: Keras on TensorFlow, in an environment of its own."""

import os

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import tensorflow as tf
from case import Meter, case_of_command
from keras import layers
from keras.utils import pad_sequences, to_categorical


class Epochs(keras.callbacks.Callback):
    """Tells the meter of each epoch's end."""

    def __init__(self, meter):  # type: ignore[no-untyped-def]
        super().__init__()
        self.meter = meter

    def on_epoch_end(self, epoch, logs=None):  # type: ignore[no-untyped-def]
        """After validation, as for every system."""
        self.meter.epoch()


def main() -> None:
    """Fit and measure."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    case = case_of_command()
    keras.utils.set_random_seed(case.seed)
    cell = {"lstm": layers.LSTM, "gru": layers.GRU}[case.cell]
    x, y = inputs(case, case.train)
    model = keras.Sequential([keras.Input(x.shape[1:])])
    if case.kind == "text":
        model.add(layers.Embedding(case.vocabulary, 128))
    model.add(cell(128, return_sequences=True))
    if case.kind == "text":
        # Texts are padded at their beginning, as pad_sequences does it: the last step is a text's own.
        model.add(layers.Lambda(lambda outputs: outputs[:, -1]))
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(case.classes, activation="softmax"))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    held_out = inputs(case, case.held_out, x.shape[1])
    meter = Meter()
    history = model.fit(
        x,
        y,
        epochs=case.epochs,
        batch_size=32,
        validation_data=held_out,
        verbose=0,
        callbacks=[Epochs(meter)],  # type: ignore[no-untyped-call]
    )
    meter.write(case, history.history["val_accuracy"][-1], model.count_params())


def inputs(case, part, longest=None):  # type: ignore[no-untyped-def]
    """Sequences of one length, and labels one-hot."""
    sequences, labels = part
    dtype = "float32" if case.kind == "series" else "int32"
    return pad_sequences(sequences, maxlen=longest, dtype=dtype), to_categorical(labels, case.classes)


if __name__ == "__main__":
    main()
