"""The chain of tags that serves, against every way to tag a sequence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gatewise.crf import TagChain
from gatewise.engines import EngineName
from gatewise.errors import ArtifactCorrupt, InvalidSequence
from gatewise.predictor import Predictor
from gatewise.schema import StepPrediction
from tests.artifacts import Made, Weights, chain_marginals, likeliest_tags, make_text, reseal, tag_paths

Copy = Callable[[Made], Path]
BOTH_ENGINES = pytest.mark.parametrize("engine", ["onnx", "torch"])


def chain_weights(K: int, seed: int = 0, scale: float = 1.0) -> Weights:
    random = np.random.default_rng(seed)
    shapes = {"crf.transitions": (K, K), "crf.start": (K,), "crf.end": (K,)}
    return {name: random.normal(scale=scale, size=shape).astype(np.float32) for name, shape in shapes.items()}


def scores_of(T: int, K: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng((seed, T, K)).normal(scale=scale, size=(T, K)).astype(np.float32)


def test_a_chain_of_two_steps_worked_by_hand() -> None:
    weights = {
        "crf.transitions": np.log(np.float32([[1, 2], [3, 1]])),
        "crf.start": np.log(np.float32([1, 2])),
        "crf.end": np.log(np.float32([1, 5])),
    }
    logits = np.log(np.float32([[4, 1], [1, 1]]))
    # Weights of the four ways: 00 = 1*4*1*1*1 = 4, 01 = 4*2*5 = 40, 10 = 2*1*3*1 = 6, 11 = 2*1*1*5 = 10; in all 60.
    chain = TagChain(weights, 2)
    assert chain.best(logits).tolist() == [0, 1]
    expected = [[44 / 60, 16 / 60], [10 / 60, 50 / 60]]
    np.testing.assert_allclose(np.exp(chain.log_marginals(logits)), expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=80)
@given(T=st.integers(1, 6), K=st.integers(2, 4), seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_tags_and_marginals_are_those_of_all_the_ways_to_tag(T: int, K: int, seed: int, scale: float) -> None:
    weights, logits = chain_weights(K, seed, scale), scores_of(T, K, seed, scale)
    chain = TagChain(weights, K)
    assert chain.best(logits).tolist() == likeliest_tags(weights, logits)
    marginals = np.exp(chain.log_marginals(logits))
    np.testing.assert_allclose(marginals, chain_marginals(weights, logits), rtol=0, atol=1e-9)
    np.testing.assert_allclose(marginals.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_the_logarithms_of_small_marginals_are_right_too() -> None:
    weights, logits = chain_weights(3), scores_of(5, 3, scale=30.0)
    paths, scores = tag_paths(weights, logits)
    expected = np.array(
        [[np.logaddexp.reduce(scores[paths[:, t] == k]) for k in range(3)] for t in range(5)]
    ) - np.logaddexp.reduce(scores)
    assert expected.min() < -50
    np.testing.assert_allclose(TagChain(weights, 3).log_marginals(logits), expected, rtol=1e-6, atol=1e-6)


def test_the_best_tags_together_need_not_be_the_likeliest_one_by_one() -> None:
    weights = {name: np.zeros(shape, np.float32) for name, shape in (("crf.start", 3), ("crf.end", 3))}
    weights["crf.transitions"] = np.full((3, 3), -8, np.float32) + 8 * np.eye(3, dtype=np.float32)
    logits = np.float32([[0, 2, 1.8], [2, 0, 1.8]])
    assert logits.argmax(axis=1).tolist() == [1, 0]
    assert TagChain(weights, 3).best(logits).tolist() == [2, 2] == likeliest_tags(weights, logits)


def test_without_transitions_each_step_is_on_its_own() -> None:
    weights = {name: np.zeros_like(array) for name, array in chain_weights(4).items()}
    logits = scores_of(9, 4)
    chain = TagChain(weights, 4)
    assert chain.best(logits).tolist() == logits.argmax(axis=1).tolist()
    odds = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(
        np.exp(chain.log_marginals(logits)), odds / odds.sum(axis=1, keepdims=True), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("T", [1, 2, 2000])
@pytest.mark.parametrize("size", [1e3, -1e3, 1e30])
def test_scores_of_any_size_and_sequences_of_any_length_stay_finite(T: int, size: float) -> None:
    weights = chain_weights(3)
    weights["crf.transitions"][0, 1] = -8.0
    logits = np.sign(scores_of(T, 3)) * np.float32(size)
    chain = TagChain(weights, 3)
    logs = chain.log_marginals(logits)
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1, rtol=0, atol=1e-9)
    tags = chain.best(logits)
    assert tags.shape == (T,)
    # Scores so far apart leave the chain a say among equals alone.
    np.testing.assert_array_equal(logits[np.arange(T), tags], logits.max(axis=1))


def test_a_long_sequence_of_quiet_scores_has_the_marginals_of_its_stationary_chain() -> None:
    # In the middle of a long sequence without evidence the marginals are the product of the matrix's two eigenvectors.
    weights = chain_weights(3, seed=4)
    marginals = np.exp(TagChain(weights, 3).log_marginals(np.zeros((2000, 3), np.float32)))
    factors = np.exp(weights["crf.transitions"].astype(np.float64))
    right, left = (
        vectors[:, values.real.argmax()].real for values, vectors in map(np.linalg.eig, (factors, factors.T))
    )
    np.testing.assert_allclose(marginals[1000], right * left / (right * left).sum(), rtol=0, atol=1e-9)


# In an artifact


@pytest.mark.parametrize("name", ["crf.transitions", "crf.start", "crf.end"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_an_artifact_without_its_chain_or_with_another_is_corrupt(
    name: str, change: str, chain_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(chain_artifact)
    weights = load_file(folder / "weights.safetensors")
    array = weights.pop(name)
    if change == "shape":
        weights[name] = np.concatenate([array, array])
    save_file(weights, folder / "weights.safetensors")
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=rf"the weights have no {name} of shape \(3,.*restore the folder"):
        Predictor.load(folder)


@BOTH_ENGINES
def test_answers_name_the_best_tags_together_with_their_calibrated_marginals(
    engine: EngineName, chain_artifact: Made
) -> None:
    predictor = Predictor.load(chain_artifact.folder, engine=engine)
    temperature = chain_artifact.manifest.temperature
    assert temperature != 1
    differs = False
    for item, result in zip(chain_artifact.items, predictor.run_each(chain_artifact.items), strict=True):
        assert not isinstance(result, InvalidSequence)
        encoded, logits = result
        answer = predictor.answer(encoded, logits, probabilities=True)
        assert isinstance(answer, StepPrediction)
        network = chain_artifact.logits(item)
        best = likeliest_tags(chain_artifact.weights, network)
        assert answer.labels == [("down", "flat", "up")[k] for k in best]
        odds = chain_marginals(chain_artifact.weights, network) ** (1 / temperature)
        calibrated = odds / odds.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answer.confidences, calibrated[range(len(best)), best], rtol=0, atol=1e-5)
        assert answer.probabilities is not None
        rows = np.array([list(step.values()) for step in answer.probabilities])
        np.testing.assert_allclose(rows, calibrated, rtol=0, atol=1e-5)
        assert answer.tokens == item
        differs |= best != network.argmax(axis=1).tolist()
    assert differs, "the chain must have a say in some answer for this to test anything"


def test_golden_logits_of_a_tagger_are_the_networks_own(chain_artifact: Made) -> None:
    predictor = Predictor.load(chain_artifact.folder)
    for pair, item in zip(predictor._artifact.golden(), chain_artifact.items, strict=True):
        np.testing.assert_allclose(pair.logits, chain_artifact.logits(item), rtol=0, atol=1e-5)


@BOTH_ENGINES
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_tagger_of_every_cell_and_direction_answers_by_the_chain(
    engine: EngineName, cell: str, bidirectional: bool, tmp_path: Path
) -> None:
    made = make_text(tmp_path / "artifact", head="chain", cell=cell, bidirectional=bidirectional)
    predictor = Predictor.load(made.folder, engine=engine)
    items: list[Any] = [*made.items, ["zyx"], ["far", "zyx"]]
    for item, answer in zip(items, predictor.predict(items), strict=True):
        assert isinstance(answer, StepPrediction)
        assert answer.labels == [("down", "flat", "up")[k] for k in made.classes(item)]
