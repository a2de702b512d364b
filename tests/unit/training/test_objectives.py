"""The objectives of pretraining against computations by hand: a step of a cell at a time, a prediction at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.cells import GRUCell, LSTMCell
from tests.artifacts import config_of
from training.embedding import Forms
from training.module import Network
from training.objectives import LanguageModel, MaskedReconstruction, gaps

WORDS = ["[PAD]", "[UNK]", "a", "b", "c", "d"]
# 6 and beyond are spellings that the vocabulary lacks.
ROWS = [[2, 3, 1, 4, 2], [5, 4], [3], [2, 6, 5, 2]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def text_network(cell: str = "lstm", word_dropout: float = 0.0, **fields: Any) -> Network:
    config = config_of("text", cell, vocab_size=len(WORDS), embedding_dim=3, **fields)
    forms = Forms(WORDS, config.ngram_buckets)
    torch.manual_seed(0)
    network = Network(config, forms, word_dropout)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def padded(rows: list[Any], more: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = [torch.as_tensor(row) for row in rows]
    batch = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    wider = torch.zeros(len(rows), more, *batch.shape[2:], dtype=batch.dtype)
    return torch.cat([batch, wider], dim=1), torch.tensor([len(row) for row in rows])


def model_of(network: Network) -> LanguageModel:
    torch.manual_seed(1)
    counts = torch.tensor([0, 9, 4, 3, 2, 1])
    model = LanguageModel(network, counts).eval()
    torch.nn.init.normal_(model.bias)
    return model


def by_hand(model: LanguageModel, rows: list[list[int]]) -> tuple[float, int]:
    """The log-likelihood of every known token, from a numpy cell run in each direction over each text alone."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    config = model.network.classifier.config
    words = state["network.embedding.words.weight"]
    total, count = 0.0, 0
    for row in rows:
        ids = [token if token < len(WORDS) else 1 for token in row]
        for direction in config.directions:
            order = ids if direction == "left_to_right" else ids[::-1]
            hidden = [words[token] for token in order]
            for layer in range(model.depth):
                hidden = outputs(state, f"network.classifier.recurrent.{layer}.{direction}", config.cell, hidden)
            for h, target in zip(hidden[:-1], order[1:], strict=True):
                if target > 1:
                    projected = h @ state[f"projections.{direction}.weight"].T + state[f"projections.{direction}.bias"]
                    logits = projected @ words[2:].T + state["bias"]
                    total += np.log(np.exp(logits).sum()) - logits[target - 2]
                    count += 1
    return total, count


def outputs(state: dict[str, Any], name: str, kind: str, inputs: list[Any]) -> list[Any]:
    weights = [state[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    cell: Any = (LSTMCell if kind == "lstm" else GRUCell)(*weights)
    memory = cell.initial_state(1)
    found = []
    for x in inputs:
        memory, _ = cell.step(x[None], memory)
        found.append(memory.h[0])
    return found


# The language model


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"bidirectional": True},
        {"num_layers": 2},
        {"bidirectional": True, "num_layers": 2},
        # A pair seen from right to left would hold the very token that is asked for.
        {"bidirectional": True, "pair_buckets": 7},
    ],
    ids=str,
)
def test_the_language_models_loss_is_that_of_a_cell_run_token_by_token(cell: str, shape: dict[str, Any]) -> None:
    model = model_of(text_network(cell, **shape))
    loss = model(*padded(ROWS))
    total, count = by_hand(model, ROWS)
    assert int(loss.predictions) == count == (12 if shape.get("bidirectional") else 6)
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)


def test_the_sampled_softmax_estimates_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many draws the sum over the words is the exact one, and so is the loss; measuring never samples."""
    torch.manual_seed(3)
    network = Network(config_of("text", vocab_size=60, embedding_dim=3), Forms([f"w{i}" for i in range(60)], 0), 0.0)
    model = LanguageModel(network, torch.randint(0, 30, (60,)))
    torch.nn.init.normal_(model.bias)
    queries, words, answers = torch.randn(200, 3), torch.randn(58, 3), torch.randint(0, 58, (200,))
    exact = float(model._exact(queries, answers, words).detach())
    monkeypatch.setattr("training.objectives._SAMPLED", 50_000)
    assert float(model._estimated(queries, answers, words).detach()) == pytest.approx(exact, rel=0.01)
    monkeypatch.setattr("training.objectives._SAMPLED", 4)
    batch = padded([torch.randint(2, 60, (12,)) for _ in range(20)])
    measured, again = (float(model.eval()(*batch).total.detach()) for _ in range(2))
    sampled, other = (float(model.train()(*batch).total.detach()) for _ in range(2))
    assert measured == again
    assert len({measured, sampled, other}) == 3


def test_padding_does_not_change_the_language_models_loss() -> None:
    model = model_of(text_network(bidirectional=True, ngram_buckets=0))
    alone = [model(*padded([row])) for row in ROWS]
    for more in (0, 3):
        together = model(*padded(ROWS, more))
        assert float(together.total.detach()) == pytest.approx(
            sum(float(loss.total.detach()) for loss in alone), rel=1e-5
        )
        assert int(together.predictions) == sum(int(loss.predictions) for loss in alone)


def test_a_text_of_one_token_asks_for_nothing_and_still_has_a_gradient() -> None:
    model = model_of(text_network())
    loss = model(*padded([[3], [2]]))
    loss.total.backward()
    assert (float(loss.total.detach()), int(loss.predictions)) == (0.0, 0)


def test_the_output_is_tied_to_the_words_and_only_the_taught_parts_have_gradients() -> None:
    model = model_of(text_network(bidirectional=True, num_layers=2, ngram_buckets=5, pair_buckets=7))
    loss = model(*padded([[2, 3, 4]]))
    loss.total.backward()
    reached = {name for name, parameter in model.network.named_parameters() if parameter.grad is not None}
    directions = ("left_to_right", "right_to_left")
    parts = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    expected = {f"classifier.recurrent.0.{direction}.{part}" for direction in directions for part in parts}
    assert reached == expected | {"embedding.words.weight", "embedding.ngrams.weight"}
    # Word 5 stands nowhere in the text; it is an answer that was not right.
    assert model.network.embedding is not None
    assert (model.network.embedding.words.weight.grad[5] != 0).all()  # type: ignore[index]


# Masked reconstruction


def series_network(cell: str = "gru", size: int = 2, **fields: Any) -> Network:
    torch.manual_seed(0)
    return Network(config_of("series", cell, input_size=size, **fields), None, 0.0)


def test_reconstruction_asks_for_the_hidden_readings_of_real_steps_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden = torch.tensor([[False, True, True, False], [True, False, False, True]])
    monkeypatch.setattr("training.objectives.gaps", lambda lengths, longest, generator: hidden)
    model = MaskedReconstruction(series_network(bidirectional=True), 2, has_missing=False).eval()
    features = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([4, 3])
    loss = model(features, lengths)
    # The answers, from what is left of the series, each row alone.
    total, count = 0.0, 0
    with torch.no_grad():
        for i, length in enumerate(lengths.tolist()):
            left = (features[i] * ~hidden[i, :, None])[None, :length]
            layer = model.network.classifier.recurrent[0]
            forwards = layer["left_to_right"](left)[0]  # type: ignore[index]
            backwards = layer["right_to_left"](left.flip(1))[0].flip(1)  # type: ignore[index]
            answers = model.output(torch.cat([forwards, backwards], dim=2))[0]
            for t in range(length):
                if hidden[i, t]:
                    total += float(((answers[t] - features[i, t]) ** 2).sum())
                    count += 2
    assert int(loss.predictions) == count == 6
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("has_missing", [False, True])
def test_hidden_readings_change_nothing_that_the_network_reads(
    has_missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readings 1 with their difference 1; a hidden reading would show in the difference of the step after it too."""
    hidden = torch.tensor([[False, True, False, False, True]])
    monkeypatch.setattr("training.objectives.gaps", lambda lengths, longest, generator: hidden)
    model = MaskedReconstruction(series_network(size=2 + has_missing), 1, has_missing=has_missing)
    read: list[torch.Tensor] = []
    model.network.classifier.embedding_dropout.register_forward_hook(lambda module, args, output: read.append(output))
    for value in (3.0, 50.0):
        readings = torch.tensor([1.0, value, 2.0, 4.0, value])
        differences = torch.diff(readings, prepend=readings[:1])
        parts = [readings, differences] + [torch.zeros(5)] * has_missing
        model(torch.stack(parts, dim=1)[None], torch.tensor([5]))
    torch.testing.assert_close(read[0], read[1], rtol=0, atol=0)
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [4.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(read[0][0, :, :2], expected)


def test_missing_readings_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "training.objectives.gaps", lambda lengths, longest, generator: torch.ones(1, 3, dtype=torch.bool)
    )
    model = MaskedReconstruction(series_network(size=4), 2, has_missing=True)
    features = torch.zeros(1, 3, 4)
    features[0, 1, 2] = 1.0
    assert int(model(features, torch.tensor([3])).predictions) == 5


def test_gaps_hide_three_tenths_of_the_steps_in_stretches_and_are_drawn_anew() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = gaps(torch.full((4000,), 40), 40, generator)
    assert hidden.shape == (4000, 40)
    assert float(hidden.float().mean()) == pytest.approx(0.3, abs=0.01)
    # Alike everywhere in the series, its ends too.
    np.testing.assert_allclose(hidden.float().mean(dim=0), 0.3, atol=0.03)
    inner = hidden[:, 1:-1] & ~hidden[:, :-2]
    starts = inner.sum()
    # A stretch that begins inside and ends inside is of 5 steps at least.
    for row in hidden[:200].tolist():
        stretches = "".join("x" if step else " " for step in row).strip("x").split()
        assert all(len(stretch) >= 5 for stretch in stretches)
    assert int(starts) > 1000
    assert not torch.equal(hidden, gaps(torch.full((4000,), 40), 40, generator))
    again = gaps(torch.full((4000,), 40), 40, torch.Generator().manual_seed(0))
    assert torch.equal(hidden, again)
