"""The loss against cross-entropy worked by numpy, the noise of training, and the optimizer that settings ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from gatewise.architecture import ModelConfig
from gatewise.errors import InvalidConfig
from gatewise.text import UNKNOWN_ID
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import chain_marginals, likeliest_tags
from training.augmentation import SeriesAugmentation
from training.config import TrainingConfig
from training.data import IGNORED
from training.embedding import Forms
from training.metrics import classification, span_f1
from training.module import ClassifierModule

LABELS = ("a", "b", "c")
READINGS = TimeSeriesEncoderConfig(channels=("x", "y"), mean=(0.0, 0.0), scale=(1.0, 1.0))


def module_of(
    kind: str = "series",
    task: str = "sequence",
    *,
    weights: Any = None,
    model: Any = None,
    labels: tuple[str, ...] = LABELS,
    **settings: Any,
) -> ClassifierModule:
    inputs = {"vocab_size": 50, "embedding_dim": 4} if kind == "text" else {"input_size": 2}
    shape = {"hidden_size": 5, "num_classes": len(LABELS), **inputs, **(model or {})}
    forms = Forms(["[PAD]", "[UNK]", *map(str, range(2, 50))], shape.get("ngram_buckets", 0))
    config = TrainingConfig(**settings)
    torch.manual_seed(0)
    return ClassifierModule(
        ModelConfig.model_validate({"kind": kind, "task": task, **shape}),
        config,
        labels=labels,
        forms=forms if kind == "text" else None,
        augmentation=SeriesAugmentation(config, READINGS) if kind == "series" else None,
        class_weights=None if weights is None else torch.tensor(weights),
        total_steps=40,
    )


def expected_loss(logits: Any, truth: Any, *, weights: Any = (1.0, 1.0, 1.0), smoothing: float = 0.0) -> float:
    """Cross-entropy of targets that are (1 - s) on the truth and s spread over all classes, weighed by class."""
    logits, truth = logits.reshape(-1, len(LABELS)), truth.ravel()
    logits, truth = logits[truth != IGNORED], truth[truth != IGNORED]
    targets = (1 - smoothing) * np.eye(len(LABELS))[truth] + smoothing / len(LABELS)
    weights = np.array(weights)
    losses = -(targets * weights * log_softmax(logits.astype(np.float64), axis=1)).sum(axis=1)
    return float(losses.sum() / weights[truth].sum())


def batch_of(module: ClassifierModule, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    lengths = np.array([6, 2, 4])
    text = module.model.classifier.config.kind == "text"
    inputs = rng.integers(2, 50, size=(3, 6)) if text else rng.normal(size=(3, 6, 2)).astype(np.float32)
    inputs[np.arange(6) >= lengths[:, None]] = 0
    labels = np.array([2, 0, 1])
    if module.model.classifier.config.task == "step":
        labels = rng.integers(0, 3, size=(3, 6))
        labels[np.arange(6) >= lengths[:, None]] = IGNORED
        labels[0, 3] = IGNORED  # a label that training never saw
    return torch.from_numpy(inputs), torch.from_numpy(lengths), torch.from_numpy(labels)


@pytest.mark.parametrize("task", ["sequence", "step"])
@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_of_the_real_steps(task: str, weights: Any, smoothing: float) -> None:
    module = module_of(task=task, weights=weights, label_smoothing=smoothing)
    batch = batch_of(module)
    logits = module.model(batch[0], batch[1]).detach().numpy()
    expected = expected_loss(logits, batch[2].numpy(), weights=weights or (1.0, 1.0, 1.0), smoothing=smoothing)
    assert module.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)


def test_what_stands_beyond_the_end_of_a_sequence_does_not_change_the_loss() -> None:
    module = module_of(task="step")
    inputs, lengths, labels = batch_of(module)
    loss = module.training_step((inputs, lengths, labels), 0).item()
    beyond = torch.arange(6) >= lengths[:, None]
    inputs[beyond] = 99.0
    assert module.training_step((inputs, lengths, labels), 0).item() == pytest.approx(loss, rel=1e-6)


def seen_by(layer: torch.nn.Module | None) -> list[torch.Tensor]:
    """The first input of each call that a layer will get."""
    seen: list[torch.Tensor] = []
    assert layer is not None
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen


def test_word_dropout_replaces_its_share_of_tokens_by_the_unknown_one() -> None:
    module = module_of("text", word_dropout=0.3)
    seen = seen_by(module.model.embedding.words)
    inputs = torch.randint(2, 50, (40, 100))
    module.training_step((inputs, torch.full((40,), 100), torch.zeros(40, dtype=torch.int64)), 0)
    changed = seen[0] != inputs
    assert (seen[0][changed] == UNKNOWN_ID).all()
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_input_noise_has_the_deviation_asked_for() -> None:
    module = module_of(input_noise=0.5)
    seen = seen_by(module.model.classifier)
    inputs = torch.zeros(40, 100, 2)
    module.training_step((inputs, torch.full((40,), 100), torch.zeros(40, dtype=torch.int64)), 0)
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["text", "series"])
def test_validation_reads_the_inputs_as_they_are(kind: str) -> None:
    module = module_of(kind, word_dropout=0.9, input_noise=9.0)
    seen = seen_by(module.model.embedding.words if kind == "text" else module.model.classifier)
    batch = batch_of(module)
    module.eval()
    module.validation_step(batch, 0)
    assert torch.equal(seen[0], batch[0])


def validate(module: ClassifierModule, *, seed: int = 0) -> None:
    with torch.no_grad():
        module.validation_step(batch_of(module, seed=seed), 0)


def validated(module: ClassifierModule, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log_dict", lambda figures, **_: logged.update(figures))
    module.on_validation_epoch_end()
    return logged


def test_validation_figures_are_those_of_all_known_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(task="step").eval()
    probabilities, truth = [], []
    with torch.no_grad():
        for seed in (0, 1):
            batch = batch_of(module, seed=seed)
            module.validation_step(batch, 0)
            known = batch[2] != IGNORED
            probabilities.append(module.model(batch[0], batch[1])[known].double().softmax(dim=1).numpy())
            truth += [LABELS[k] for k in batch[2][known]]
    rows = np.concatenate(probabilities)
    expected = classification(truth, [LABELS[k] for k in rows.argmax(axis=1)], rows, LABELS)
    logged = validated(module, monkeypatch)
    assert {name: logged[f"valid_{name}"] for name in expected} == pytest.approx(expected)
    assert module.valid_rank == pytest.approx((expected["accuracy"], -expected["log_loss"]))


def test_validation_by_spans_takes_each_row_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(task="step", monitor="span_f1").eval()
    module.labels = ("O", "B-P", "I-P")
    inputs, lengths, labels = batch_of(module)
    with torch.no_grad():
        module.validation_step((inputs, lengths, labels), 0)
        answers = module.model(inputs, lengths).argmax(dim=2).tolist()
    names = dict(enumerate(module.labels)) | {IGNORED: "O"}
    rows = [int(length) for length in lengths]
    truth = [[names[k] for k in row[:n]] for row, n in zip(labels.tolist(), rows, strict=True)]
    found = [[names[k] for k in row[:n]] for row, n in zip(answers, rows, strict=True)]
    assert validated(module, monkeypatch)["valid_span_f1"] == pytest.approx(span_f1(truth, found))


def test_the_train_loss_of_an_epoch_is_the_mean_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of()
    losses = [module.training_step(batch_of(module, seed=seed), seed).item() for seed in range(3)]
    validate(module)
    assert "train_loss" not in validated(module, monkeypatch)
    assert module.take_train_loss().item() == pytest.approx(np.mean(losses), rel=1e-6)
    # The next epoch begins at nothing.
    last = module.training_step(batch_of(module, seed=9), 0).item()
    assert module.take_train_loss().item() == pytest.approx(last, rel=1e-6)


TAGS = ("B-x", "I-x", "O")


def chain_module(**settings: Any) -> ClassifierModule:
    """A tagger whose chain has moved from where it began."""
    module = module_of(task="step", model={"crf": True, "skip": True}, labels=TAGS, **settings)
    assert module.model.chain is not None
    with torch.no_grad():
        for parameter in module.model.chain.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module


def test_a_chain_is_trained_by_the_likelihood_of_whole_rows_of_tags() -> None:
    module = chain_module(label_smoothing=0.2)
    inputs, lengths, labels = batch_of(module)
    labels[0, 3] = 1
    logits = module.model(inputs, lengths)
    assert module.model.chain is not None
    expected = module.model.chain(logits, labels).item()
    loss = module.training_step((inputs, lengths, labels), 0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.model.chain.parameters())


def test_a_chain_is_validated_by_its_best_tags_together_and_its_marginals(monkeypatch: pytest.MonkeyPatch) -> None:
    module = chain_module(monitor="span_f1").eval()
    inputs, lengths, labels = batch_of(module)
    weights = module.model.weights()
    with torch.no_grad():
        module.validation_step((inputs, lengths, labels), 0)
        logits = [row[:n] for row, n in zip(module.model(inputs, lengths).numpy(), lengths, strict=True)]
    tags = [likeliest_tags(weights, row) for row in logits]
    known = [row[:n] != IGNORED for row, n in zip(labels.numpy(), lengths, strict=True)]
    truth = [
        [TAGS[k] if k != IGNORED else "O" for k in row[:n]] for row, n in zip(labels.tolist(), lengths, strict=True)
    ]
    answers = [[TAGS[k] for k in row] for row in tags]
    flat, ours = (
        [tag for row, mask in zip(rows, known, strict=True) for tag, real in zip(row, mask, strict=True) if real]
        for rows in (truth, answers)
    )
    marginals = np.concatenate([chain_marginals(weights, row)[mask] for row, mask in zip(logits, known, strict=True)])
    expected = classification(flat, ours, marginals, TAGS) | {"span_f1": span_f1(truth, answers)}
    logged = validated(module, monkeypatch)
    assert {name: logged[f"valid_{name}"] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert module.valid_rank == pytest.approx((expected["span_f1"], -expected["log_loss"]), rel=1e-5)


def test_a_chain_goes_with_the_weights_that_serve() -> None:
    assert {"crf.transitions", "crf.start", "crf.end"} <= chain_module().model.weights().keys()
    assert not [name for name in module_of(task="step").model.weights() if name.startswith("crf")]


def test_a_training_that_diverges_says_which_setting_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(learning_rate=5.0)
    with torch.no_grad():
        module.model.classifier.output.bias.fill_(float("nan"))
    validate(module)
    with pytest.raises(InvalidConfig, match=r"^learning_rate: with 5 training diverged"):
        validated(module, monkeypatch)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_asked_for_and_fused(name: str, kind: type) -> None:
    optimizer = module_of(optimizer=name, learning_rate=0.01, weight_decay=0.1).configure_optimizers()
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.01, 0.1, True)


def test_the_layer_of_the_classes_has_an_epsilon_of_its_own_and_all_is_optimized_once() -> None:
    module = module_of(optimizer="adamw", output_epsilon=0.25)
    groups = module.configure_optimizers().param_groups
    by_epsilon = {group["eps"]: {id(parameter) for parameter in group["params"]} for group in groups}
    output = {id(parameter) for parameter in module.model.classifier.output.parameters()}
    assert by_epsilon[0.25] == output
    assert by_epsilon[1e-8] == {id(parameter) for parameter in module.model.parameters()} - output


@pytest.mark.parametrize(("clip", "fused"), [(0.0, True), (1.0, False)])
def test_mixed_precision_clips_gradients_by_an_optimizer_that_is_not_fused(clip: float, fused: bool) -> None:
    optimizer = module_of(precision="bf16-mixed", gradient_clip=clip).configure_optimizers()
    assert optimizer.param_groups[0]["fused"] is fused


def test_one_cycle_rises_to_the_peak_and_falls_to_nothing_over_the_whole_run() -> None:
    configured = module_of(schedule="one_cycle", learning_rate=0.1).configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(40):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step() if len(rates) < 40 else None
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == round(0.15 * 40) - 1
    assert rates[-1] < 1e-5
    assert configured["optimizer"].param_groups[0]["betas"] == (0.9, 0.999)


def test_a_gru_can_begin_by_remembering() -> None:
    biases = dict(module_of(model={"cell": "gru"}, update_gate_bias=1.5).model.classifier.named_parameters())
    bias = biases["recurrent.0.left_to_right.bias_ih_l0"].detach().numpy()
    # Gates stand in the order reset, update, candidate.
    np.testing.assert_array_equal(bias, [0.0] * 5 + [1.5] * 5 + [0.0] * 5)


def test_a_per_step_model_runs_its_dense_layers_at_each_step() -> None:
    module = module_of(task="step").eval()
    inputs, lengths, _ = batch_of(module)
    weights = {name: tensor.detach().numpy() for name, tensor in module.model.classifier.named_parameters()}
    with torch.no_grad():
        hidden = module.model.classifier.recurrent[0]["left_to_right"](inputs)[0].numpy()
        logits = module.model(inputs, lengths).numpy()
    for row in range(3):
        for t in range(int(lengths[row])):
            dense = np.maximum(weights["dense.0.weight"] @ hidden[row, t] + weights["dense.0.bias"], 0)
            expected = weights["output.weight"] @ dense + weights["output.bias"]
            np.testing.assert_allclose(logits[row, t], expected, rtol=1e-4, atol=1e-5)
