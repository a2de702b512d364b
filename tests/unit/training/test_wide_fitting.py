"""The linear branch as it is fitted: against scikit-learn on features written out here, and when it joins a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from gatewise.errors import InvalidSequence
from gatewise.predictor import Predictor
from gatewise.text import TextEncoder, TextEncoderConfig
from tests.artifacts import config_of, embedded, expected_logits, ngrams_rows, weights_of
from training import linear, wide
from training.blending import Blend, blend, row_losses
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.packaging import Fitted, Packer
from training.wide import Recipe, Wide, choose_wide, fit_wide

WORDS = {
    "fruit": ["apple", "pear", "sweet", "juice"],
    "road": ["car", "wheel", "fast", "engine"],
    "sky": ["rain", "sun", "cloud"],
}
SHARED = ["the", "a", "is", "of"]
LABELS = tuple(WORDS)


def texts(rows: int, *, classes: int = 3, seed: int = 0, longest: int = 9) -> Dataset:
    random = np.random.default_rng(seed)
    labels = [str(label) for label in random.choice(LABELS[:classes], size=rows)]
    items = [
        " ".join(random.permutation([*random.choice(WORDS[label], size=2), *random.choice(SHARED, size=n)]))
        for label, n in zip(labels, random.integers(0, longest, size=rows), strict=True)
    ]
    return Dataset("text", "sequence", items, labels, None, None, "texts.csv", np.arange(rows))


def encoder_of(data: Dataset, max_length: int | None = None) -> TextEncoder:
    return TextEncoder.fit(data.items, TextEncoderConfig(level="words", max_length=max_length), min_count=1)


TRAIN, VALID = texts(120), texts(50, seed=1)
ENCODER = encoder_of(TRAIN)


def by_sklearn(train: Dataset, labels: tuple[str, ...], weighting: str, strength: float, others: Dataset) -> np.ndarray:
    """Probabilities (N, K) of the other texts: a logistic regression on weighed n-grams, all of it written out."""
    buckets = fitted(train, labels, weighting, strength).buckets

    def rows_of(data: Dataset) -> list[list[int]]:
        return [ngrams_rows(ENCODER.encode(item).ids.tolist(), 3, buckets) for item in data.items]

    found = rows_of(train)
    holders: dict[int, int] = {}
    for row in found:
        for place in row:
            holders[place] = holders.get(place, 0) + 1
    columns = sorted(place for place, count in holders.items() if count >= 2)
    truth = np.array([labels.index(label) for label in train.labels or ()])

    def held(rows: list[list[int]]) -> np.ndarray:
        return np.array([[float(column in row) for column in columns] for row in map(set, rows)])

    counts = held(found)
    if weighting == "idf":
        importance = np.log((1 + len(found)) / (1 + counts.sum(axis=0))) + 1
    else:
        by_class = np.array([counts[truth == k].sum(axis=0) + 1 for k in range(len(labels))])
        importance = np.zeros(len(columns))
        for own in range(len(labels)):
            rest = sum(by_class[k] for k in range(len(labels)) if k != own)
            # All but one class, each counted with its one more.
            ratio = np.log(by_class[own] / by_class[own].sum()) - np.log(rest / rest.sum())
            importance = np.maximum(importance, np.abs(ratio))
    importance = importance / np.sqrt(np.average(importance**2, weights=counts.sum(axis=0)))

    def features(rows: list[list[int]]) -> np.ndarray:
        sizes = np.array([len(row) for row in rows])
        weighed: np.ndarray = held(rows) * importance / np.sqrt(sizes)[:, None]
        return weighed

    solver: Literal["liblinear", "lbfgs"] = "liblinear" if len(labels) == 2 else "lbfgs"
    model = LogisticRegression(C=strength, solver=solver, tol=1e-3, max_iter=100, random_state=0)
    probabilities: np.ndarray = model.fit(features(found), truth).predict_proba(features(rows_of(others)))
    return probabilities


def fitted(train: Dataset, labels: tuple[str, ...], weighting: Any, strength: float) -> Wide:
    branch = fit_wide(train, ENCODER, labels, Recipe(weighting, strength), seed=0)
    assert branch is not None
    return branch


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighting", ["idf", "nb"])
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_a_fitted_branch_predicts_as_scikit_learn_does(classes: int, weighting: str, strength: float) -> None:
    train, others = texts(120, classes=classes), texts(40, classes=classes, seed=2)
    labels = LABELS[:classes]
    branch = fitted(train, labels, weighting, strength)
    expected = by_sklearn(train, labels, weighting, strength, others)
    np.testing.assert_allclose(softmax(branch.logits(others, ENCODER), axis=1), expected, rtol=0, atol=2e-3)
    assert branch.weight.dtype == branch.bias.dtype == np.float32
    assert branch.weight.shape == (branch.buckets, classes)
    truth = [labels.index(label) for label in others.labels or ()]
    assert (expected.argmax(axis=1) == truth).mean() > 0.9


def test_n_grams_of_one_text_alone_have_no_weight() -> None:
    data = texts(60)
    data.items[0] = "apple pear zebra"
    encoder = encoder_of(data)
    branch = fit_wide(data, encoder, LABELS, Recipe("idf", 10.0), seed=0)
    assert branch is not None
    zebra = ngrams_rows([int(encoder.encode("zebra").ids[0])], 1, branch.buckets)
    assert not branch.weight[zebra].any()
    apple = ngrams_rows([int(encoder.encode("apple").ids[0])], 1, branch.buckets)
    assert branch.weight[apple].any()


def test_all_the_tokens_of_a_text_are_fitted_though_the_network_reads_few() -> None:
    short = TextEncoder(ENCODER.config.model_copy(update={"max_length": 2}), ENCODER.tokenizer)
    one, other = (fit_wide(TRAIN, encoder, LABELS, Recipe("nb", 10.0), seed=0) for encoder in (ENCODER, short))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.logits(VALID, ENCODER), other.logits(VALID, short))


def test_fitting_again_gives_the_same_bytes() -> None:
    for classes in (2, 3):
        train = texts(80, classes=classes)
        first, again = (fitted(train, LABELS[:classes], "nb", 100.0) for _ in range(2))
        assert first.weight.tobytes() == again.weight.tobytes()
        assert first.bias.tobytes() == again.bias.tobytes()


# Choosing


def least_loss(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative log-likelihood at its best temperature between 1/4 and 4, under the prior 5 (log T)^2."""

    def total(log_temperature: float) -> float:
        logs = log_softmax(scores.astype(np.float64) / np.exp(log_temperature), axis=1)
        return float(-logs[np.arange(len(truth)), truth].sum())

    bound = np.log(4)
    best = minimize_scalar(lambda x: total(x) + 5 * x**2, bounds=(-bound, bound), method="bounded").x
    return total(best) / len(truth)


def test_the_recipe_is_the_one_that_validation_finds_least_wrong() -> None:
    chosen = choose_wide(TRAIN, VALID, ENCODER, LABELS, seed=0)
    assert chosen is not None
    truth = np.array([LABELS.index(label) for label in VALID.labels or ()])
    losses = {}
    for weighting in ("idf", "nb"):
        for strength in (10.0, 30.0, 100.0):
            branch = fitted(TRAIN, LABELS, weighting, strength)
            losses[branch.recipe] = least_loss(branch.logits(VALID, ENCODER), truth)
    assert losses[chosen.recipe] == pytest.approx(min(losses.values()), abs=1e-6)
    np.testing.assert_array_equal(chosen.weight, fitted(TRAIN, LABELS, *chosen.recipe).weight)


def test_validation_rows_whose_label_training_never_saw_choose_nothing() -> None:
    plain = choose_wide(TRAIN, VALID, ENCODER, LABELS, seed=0)
    strange = texts(50, seed=1)
    strange.items.extend(["apple car", "sun"])
    assert strange.labels is not None
    strange.labels.extend(["sea", "moon"])
    strange = Dataset("text", "sequence", strange.items, strange.labels, None, None, "texts.csv", np.arange(52))
    other = choose_wide(TRAIN, strange, ENCODER, LABELS, seed=0)
    assert plain is not None
    assert other is not None
    assert plain.recipe == other.recipe


def test_texts_that_share_no_word_have_no_branch() -> None:
    items = ["apple", "car", "sun", "rain"]
    data = Dataset("text", "sequence", items, ["fruit", "road", "sky", "sky"], None, None, "x.csv", np.arange(4))
    encoder = encoder_of(data)
    assert choose_wide(data, data, encoder, LABELS, seed=0) is None
    assert fit_wide(data, encoder, LABELS, Recipe("idf", 10.0), seed=0) is None


@pytest.mark.parametrize("classes", [2, 3, 20, 151, 256])
def test_a_table_has_no_more_numbers_than_an_artifact_should_hold(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def rows(data: Any, encoder: Any, buckets: int) -> Any:
        sizes.append(buckets)
        return [np.array([0])]

    monkeypatch.setattr(wide, "_rows", rows)
    labels = tuple(map(str, range(classes)))
    assert fit_wide(TRAIN, ENCODER, labels, Recipe("idf", 10.0), seed=0) is None
    [buckets] = sizes
    assert buckets & (buckets - 1) == 0
    assert buckets <= 1 << 22
    assert buckets * classes <= 1 << 23 < 2 * buckets * classes


def test_a_table_has_rows_enough_that_a_word_never_seen_seldom_reads_the_weight_of_another() -> None:
    branch = fit_wide(TRAIN, ENCODER, LABELS, Recipe("idf", 10.0), seed=0)
    assert branch is not None
    used = np.flatnonzero(np.abs(branch.weight).sum(axis=1))
    assert branch.buckets & (branch.buckets - 1) == 0
    assert branch.buckets == max(1 << 15, 1 << int(np.log2(64 * len(used))))
    # And no more of them: of few n-grams an artifact is small.
    assert branch.buckets < 1 << 20


def test_so_many_classes_that_n_grams_would_share_their_rows_have_no_branch() -> None:
    labels = (*LABELS, *map(str, range(300)))
    assert choose_wide(TRAIN, VALID, ENCODER, labels, seed=0) is None


# Joining a network


BLEND = Blend(share=0.5, network=0.8, branch=0.7, both=0.9, network_loss=0.5, both_loss=0.4)


def drawn(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and logits that know something of it, something else of it, and nothing."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, size=rows)
    hint = np.eye(3)[truth]
    one, other, none = (share * hint + random.normal(size=(rows, 3)) for share in (1.5, 1.5, 0.0))
    return truth, one.astype(np.float32), other.astype(np.float32), none.astype(np.float32)


def test_a_useless_branch_is_left_out_and_a_useful_one_kept() -> None:
    truth, network, useful, useless = drawn()
    kept, left = blend(network, useful, truth, always=False), blend(network, useless, truth, always=False)
    assert kept.share > 0
    assert kept.both_loss < kept.network_loss
    assert kept.both > kept.network
    assert left.share == 0
    assert (left.both, left.both_loss) == (left.network, left.network_loss)
    assert "left out" in left.in_words()
    assert "both together" in kept.in_words()


def test_a_branch_that_must_stay_stays_though_it_be_of_no_use() -> None:
    truth, network, _, useless = drawn()
    assert blend(network, useless, truth, always=True).share > 0


def test_the_share_is_the_one_of_least_loss_and_the_figures_are_those_of_both() -> None:
    truth, network, useful, _ = drawn()
    blended = blend(network, useful, truth, always=False)
    both = network + np.float32(blended.share) * useful
    assert blended.network_loss == pytest.approx(least_loss(network, truth), abs=1e-6)
    assert blended.both_loss == pytest.approx(least_loss(both, truth), abs=1e-6)
    expected = [(logits.argmax(axis=1) == truth).mean() for logits in (network, useful, both)]
    assert [blended.network, blended.branch, blended.both] == pytest.approx(expected)
    for share in (blended.share / 2, blended.share * 2):
        assert least_loss(network + np.float32(share) * useful, truth) > blended.both_loss


@pytest.mark.parametrize("factor", [0.25, 2.0, 4.0])
def test_a_branch_with_larger_scores_gets_a_smaller_share(factor: float) -> None:
    truth, network, useful, _ = drawn()
    plain = blend(network, useful, truth, always=False).share
    assert blend(network, np.float32(factor) * useful, truth, always=False).share == pytest.approx(plain / factor)


def test_one_row_says_nothing_for_or_against_a_branch() -> None:
    truth, network, useful, _ = drawn(1)
    assert blend(network, useful, truth, always=False).share == 0
    assert blend(network, useful, truth, always=True).share > 0


def test_a_rows_loss_is_its_negative_log_likelihood_at_the_temperature_of_all() -> None:
    truth, network, _, _ = drawn(60)
    assert row_losses(network, truth).mean() == pytest.approx(least_loss(network, truth), abs=1e-6)
    huge = row_losses(network * 1e6, truth)
    assert np.isfinite(huge).all()


# In an artifact


def packer_of(*, always: bool = False, said: list[str] | None = None, unseen: bool = False) -> Packer:
    encoder = TextEncoder(ENCODER.config.model_copy(update={"max_length": 4}), ENCODER.tokenizer)
    truth: list[Any] = [LABELS.index(label) for label in VALID.labels or ()]
    if unseen:
        truth[3] = IGNORED
    return Packer(
        "topics",
        "2026-11-23T08:45:12+00:00",
        LABELS,
        encoder,
        VALID,
        EncodedDataset([text.ids for text in encoder.encode_many(VALID.items)], truth),
        {},
        always_wide=always,
        say=(said if said is not None else []).append,
    )


def network_of() -> tuple[Any, dict[str, np.ndarray]]:
    """A network that knows nothing: its weights are random."""
    config = config_of("text", "gru", "all", vocab_size=ENCODER.vocab_size, bidirectional=True)
    return config, weights_of(config)


def network_logits(packer: Packer, data: Dataset) -> np.ndarray:
    config, weights = network_of()
    assert isinstance(packer.encoder, TextEncoder)
    features = [embedded(config, weights, packer.encoder.encode(item)) for item in data.items]
    return np.stack([expected_logits(config, weights, sequence) for sequence in features])


@pytest.mark.parametrize("engine", ["onnx", "torch"])
@pytest.mark.parametrize("unseen", [False, True])
def test_a_packed_model_adds_its_share_of_the_branch_to_the_network(engine: Any, unseen: bool, tmp_path: Path) -> None:
    said: list[str] = []
    packer = packer_of(said=said, unseen=unseen)
    branch = fitted(TRAIN, LABELS, "nb", 30.0)
    packed = packer.pack(tmp_path / "artifact", *network_of(), branch)
    assert packed.blend is not None
    assert packed.blend.share > 0
    predictor = Predictor.load(tmp_path / "artifact", engine=engine)
    assert (predictor.manifest.model.wide_buckets, predictor.manifest.model.wide_order) == (branch.buckets, 3)
    expected = network_logits(packer, VALID) + packed.blend.share * branch.logits(VALID, ENCODER)
    for result, logits in zip(predictor.run_each(VALID.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(predictor.scores(*result), logits, rtol=0, atol=2e-4)
    known = np.array([k != IGNORED for k in packer.encoded_valid.labels])
    truth = np.array(packer.encoded_valid.labels)[known]
    assert predictor.manifest.temperature == packed.temperature
    at_it = -log_softmax(expected[known] / packed.temperature, axis=1)[range(len(truth)), truth].mean()
    assert at_it == pytest.approx(least_loss(expected[known], truth), abs=1e-5)
    assert [line[:40] for line in said] == ["GRU: on validation the network alone has"]
    assert not {"wide.weight", "wide.bias"} & network_of()[1].keys()


def test_a_branch_of_no_use_is_not_in_the_artifact(tmp_path: Path) -> None:
    said: list[str] = []
    packer = packer_of(said=said)
    branch = fitted(TRAIN, LABELS, "nb", 30.0)
    nothing = Wide(np.zeros_like(branch.weight), np.zeros_like(branch.bias), branch.recipe)
    packed = packer.pack(tmp_path / "artifact", *network_of(), nothing)
    assert packed.blend is not None
    assert packed.blend.share == 0
    predictor = Predictor.load(tmp_path / "artifact")
    assert predictor.manifest.model == network_of()[0]
    assert predictor.encode("apple").wide is None
    assert "left out" in said[0]
    kept = packer_of(always=True).pack(tmp_path / "kept", *network_of(), nothing)
    assert kept.blend is not None
    assert kept.blend.share > 0
    assert Predictor.load(tmp_path / "kept").manifest.model.wide_buckets == branch.buckets


def test_what_an_earlier_candidate_fitted_is_taken_over(tmp_path: Path) -> None:
    said: list[str] = []
    packer = packer_of(said=said)
    branch = fitted(TRAIN, LABELS, "idf", 10.0)
    earlier = Fitted(temperature=2.5, blend=Blend(0.75, 0.8, 0.7, 0.9, 0.5, 0.4))
    assert packer.pack(tmp_path / "artifact", *network_of(), branch, earlier) == earlier
    assert said == []
    predictor = Predictor.load(tmp_path / "artifact")
    assert predictor.manifest.temperature == 2.5
    expected = network_logits(packer, VALID) + 0.75 * branch.logits(VALID, ENCODER)
    for result, logits in zip(predictor.run_each(VALID.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(predictor.scores(*result), logits, rtol=0, atol=2e-4)
    left_out = Fitted(temperature=2.5, blend=Blend(0.0, 0.8, 0.7, 0.8, 0.5, 0.5))
    assert packer.pack(tmp_path / "without", *network_of(), branch, left_out) == left_out
    assert Predictor.load(tmp_path / "without").manifest.model.wide_buckets == 0


def test_a_blend_says_in_words_what_it_measured() -> None:
    kept = Blend(share=0.5, network=0.8, branch=0.7, both=0.9, network_loss=0.5, both_loss=0.4)
    assert kept.in_words() == (
        "on validation the network alone has accuracy 0.8000, the linear branch alone 0.7000, "
        "both together 0.9000 (log-loss 0.5000 -> 0.4000)"
    )


def test_a_fit_that_ends_at_its_last_iteration_is_no_warning_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def hasty(**settings: Any) -> LogisticRegression:
        made.append(LogisticRegression(**{**settings, "max_iter": 1}))
        return made[-1]

    monkeypatch.setattr(linear, "LogisticRegression", hasty)
    fit_wide(TRAIN, ENCODER, LABELS, Recipe("idf", 1e6), seed=0)
    assert any(model.n_iter_.max() == 1 for model in made)
