"""From raw items to answers: against the reference, arithmetic done by hand, and every way an item can be wrong."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise
from gatewise.artifact import Abstaining, Artifact, LabelSets, restate
from gatewise.batch import Batch, Encoded
from gatewise.cells import from_weights
from gatewise.engines import EngineName
from gatewise.errors import ArtifactCorrupt, GoldenMismatch, InvalidConfig, InvalidSequence
from gatewise.model import SequenceClassifier
from gatewise.predictor import Predictor
from gatewise.schema import Prediction, StepPrediction
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import (
    CELLS,
    Made,
    block_by_hand,
    classifier_weights,
    make_series,
    make_text,
    reseal,
    weights_of,
)
from training.onnx_graph import build

ROOT = Path(__file__).parents[3]
Copy = Callable[[Made], Path]
BOTH_ENGINES = pytest.mark.parametrize("engine", ["onnx", "torch"])
LABELS = ("down", "flat", "up")


def shown(answer: object, made: Made, item: Any) -> None:
    """Hold an answer to the reference's probabilities of its item."""
    expected, classes = made.probabilities(item), made.classes(item)
    if isinstance(answer, Prediction):
        assert tuple(answer.probabilities) == LABELS
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, rtol=0, atol=1e-5)
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-12)
        assert answer.label == LABELS[expected.argmax()]
        assert answer.confidence == max(answer.probabilities.values()) == answer.probabilities[answer.label]
    else:
        assert isinstance(answer, StepPrediction)
        assert answer.labels == [LABELS[k] for k in classes]
        np.testing.assert_allclose(answer.confidences, expected[range(len(classes)), classes], rtol=0, atol=1e-5)


# Loading


@BOTH_ENGINES
def test_a_loaded_model_answers_as_the_reference_computes(made: Made, engine: EngineName) -> None:
    predictor = Predictor.load(made.folder, engine=engine)
    assert predictor.engine_name == engine
    assert predictor.manifest == made.manifest
    assert predictor.version == made.manifest.digest[:12]
    for item, answer in zip(made.items, predictor.predict(made.items), strict=True):
        shown(answer, made, item)


def test_a_model_is_loaded_by_its_folder_alone(series_artifact: Made) -> None:
    model = gatewise.load(str(series_artifact.folder))
    shown(model.predict(series_artifact.items)[0], series_artifact, series_artifact.items[0])
    assert Predictor.load(series_artifact.folder, version="7").version == "7"


@BOTH_ENGINES
def test_a_changed_weight_is_found_though_every_checksum_is_right(
    engine: EngineName, made: Made, copy_of: Copy
) -> None:
    folder = copy_of(made)
    weights = {**made.weights, "output.bias": made.weights["output.bias"] + np.float32([0, 0.001, 0])}
    (folder / "model.onnx").write_bytes(build(made.config, weights))
    (folder / "weights.safetensors").write_bytes(_safetensors(weights))
    reseal(folder)
    with pytest.raises(GoldenMismatch, match=rf"golden item 0: a logit differs by 0\.001 .*engine {engine}"):
        Predictor.load(folder, engine=engine)


@BOTH_ENGINES
@pytest.mark.parametrize("table", ["embedding.weight", "pairs.weight"])
def test_a_changed_embedding_is_found_though_every_checksum_is_right(
    engine: EngineName, table: str, hashed_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(hashed_artifact)
    weights = {**hashed_artifact.weights, table: hashed_artifact.weights[table] + np.float32(0.1)}
    (folder / "weights.safetensors").write_bytes(_safetensors(weights))
    reseal(folder)
    with pytest.raises(GoldenMismatch, match="a logit differs"):
        Predictor.load(folder, engine=engine)


def _safetensors(weights: dict[str, np.ndarray]) -> bytes:
    """The format written out: the header's length, the header, the arrays one after another."""
    header, data = {}, b""
    for name, array in weights.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("change", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_found(change: float, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    weights = {**series_artifact.weights, "output.bias": np.float32([change, 0, 0])}
    (folder / "model.onnx").write_bytes(build(series_artifact.config, weights))
    reseal(folder)
    with pytest.raises(GoldenMismatch):
        Predictor.load(folder)


@pytest.mark.parametrize(
    "logits",
    [
        [[1.0], [1.0, 2.0]],
        [0.0, 0.0, None],
        [0.0, 0.0],
        [[0.0, 0.0, 0.0]],
        [],
        [1e9, 0, 0],
        [0.0, [1.0], 2.0],
        ["a", "b", "c"],
    ],
)
def test_golden_logits_that_are_not_the_models_are_found(
    logits: list[Any], series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    golden = orjson.loads((folder / "golden.json").read_bytes())
    golden[2]["logits"] = logits
    (folder / "golden.json").write_bytes(orjson.dumps(golden))
    reseal(folder)
    with pytest.raises((GoldenMismatch, ArtifactCorrupt), match="golden"):
        Predictor.load(folder)


@pytest.mark.parametrize("item", ["text", [[1.0]], [], None])
def test_a_golden_item_that_the_model_does_not_take_is_found(
    item: object, series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    golden = orjson.loads((folder / "golden.json").read_bytes())
    golden[1]["item"] = item
    (folder / "golden.json").write_bytes(orjson.dumps(golden))
    reseal(folder)
    with pytest.raises(GoldenMismatch, match="golden item 1 is refused"):
        Predictor.load(folder)


@pytest.mark.parametrize("field", ["vocabulary", "mean", "keep"])
def test_a_changed_encoder_is_found_by_the_golden_items(
    field: str, text_artifact: Made, series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(text_artifact if field == "vocabulary" else series_artifact)
    encoder = orjson.loads((folder / "manifest.json").read_bytes())["encoder"]
    if field == "vocabulary":
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        (folder / "tokenizer.json").write_text(text.replace('"the"', '"thee"'), encoding="utf-8")
    elif field == "mean":
        encoder["mean"][0] += 0.01
    else:
        encoder["keep"] = "head"
    reseal(folder, encoder=encoder)
    with pytest.raises(GoldenMismatch, match="a logit differs"):
        Predictor.load(folder)


# Answers


@pytest.fixture(scope="module")
def predictors(
    text_artifact: Made, hashed_artifact: Made, step_artifact: Made, series_artifact: Made
) -> dict[str, tuple[Made, Predictor]]:
    made = {"text": text_artifact, "hashed": hashed_artifact, "step": step_artifact, "series": series_artifact}
    return {name: (one, Predictor.load(one.folder)) for name, one in made.items()}


def test_probabilities_are_the_softmax_of_logits_over_temperature(series_artifact: Made) -> None:
    predictor = Predictor.load(series_artifact.folder)
    # Temperature 1.7; exp(1.7 / 1.7) = e, exp(0) = 1, exp(-3.4 / 1.7) = exp(-2).
    logits = np.float32([1.7, 0.0, -3.4])
    total = math.e + 1 + math.exp(-2)
    answer = predictor.answer(Encoded(np.zeros((1, 4))), logits)
    assert answer.label == "down"
    assert answer.probabilities == pytest.approx(
        {"down": math.e / total, "flat": 1 / total, "up": math.exp(-2) / total}, abs=1e-7
    )
    huge = predictor.answer(Encoded(np.zeros((1, 4))), np.float32([3e38, -3e38, 0]))
    assert huge.probabilities == {"down": 1.0, "flat": 0.0, "up": 0.0}


def restated(made: Made, folder: Path, threshold: float | None, held: float) -> Predictor:
    """The same model, abstaining below `threshold`, whose sets hold labels of `held` and more."""
    abstaining = Abstaining(target_precision=0.9, threshold=threshold)
    restate(made.folder, folder, abstaining=abstaining, label_sets=LabelSets(coverage=0.8, threshold=held))
    return Predictor.load(folder)


# Temperature 1.7: probabilities e / (e + 1 + e^-2) = 0.705, 0.259 and 0.035, as above.
LOGITS = np.float32([1.7, 0.0, -3.4])


@pytest.mark.parametrize(
    ("threshold", "abstained"), [(0.70, False), (0.71, True), (0.0, False), (1.0, True), (None, True)]
)
def test_a_confidence_below_the_threshold_is_abstained(
    threshold: float | None, abstained: bool, series_artifact: Made, tmp_path: Path
) -> None:
    predictor = restated(series_artifact, tmp_path / "model", threshold, 0.5)
    answer = predictor.answer(Encoded(np.zeros((1, 4))), LOGITS)
    assert isinstance(answer, Prediction)
    assert (answer.label, answer.abstained, answer.label_set) == ("down", abstained, None)


@pytest.mark.parametrize(
    ("held", "label_set"),
    [(0.8, ["down"]), (0.7, ["down"]), (0.25, ["down", "flat"]), (0.0, ["down", "flat", "up"])],
)
def test_a_label_set_holds_the_answer_and_every_label_that_reaches_the_threshold(
    held: float, label_set: list[str], series_artifact: Made, tmp_path: Path
) -> None:
    predictor = restated(series_artifact, tmp_path / "model", 0.5, held)
    answer = predictor.answer(Encoded(np.zeros((1, 4))), LOGITS, label_set=True)
    assert answer.label_set == label_set


def test_each_step_abstains_and_has_a_set_for_itself(step_artifact: Made, tmp_path: Path) -> None:
    item = step_artifact.items[0]
    shares = step_artifact.probabilities(item)
    middle = float(np.median(shares.max(axis=1))) + 1e-3
    [answer] = restated(step_artifact, tmp_path / "model", middle, 0.3).predict([item], label_set=True)
    assert answer.abstained == (shares.max(axis=1) < middle).tolist()
    assert [set(held) for held in answer.label_set] == [
        {LABELS[k] for k in range(3) if row[k] >= 0.3 or k == row.argmax()} for row in shares
    ]


def test_a_model_without_label_sets_says_so(series_artifact: Made) -> None:
    predictor = Predictor.load(series_artifact.folder)
    [answer] = predictor.predict(series_artifact.items[:1])
    assert (answer.abstained, answer.label_set) == (None, None)
    with pytest.raises(InvalidConfig, match="made without label sets"):
        predictor.predict(series_artifact.items[:1], label_set=True)


def test_the_report_is_what_was_put_beside_the_model(series_artifact: Made, tmp_path: Path) -> None:
    assert Predictor.load(series_artifact.folder).report() is None
    restate(series_artifact.folder, tmp_path / "model", files={"report.html": b"<p>here</p>"})
    predictor = Predictor.load(tmp_path / "model")
    assert predictor.report() == b"<p>here</p>"
    (tmp_path / "model" / "report.html").write_bytes(b"<p>else</p>")
    with pytest.raises(ArtifactCorrupt, match=r"report.html: changed"):
        predictor.report()


def test_a_step_answer_shows_probabilities_only_when_asked(step_artifact: Made) -> None:
    predictor = Predictor.load(step_artifact.folder)
    item = step_artifact.items[0]
    [plain] = predictor.predict([item])
    [full] = predictor.predict([item], probabilities=True)
    assert isinstance(plain, StepPrediction)
    assert isinstance(full, StepPrediction)
    assert plain.probabilities is None
    assert full.probabilities is not None
    assert full.tokens == item
    rows = np.array([[step[label] for label in LABELS] for step in full.probabilities])
    np.testing.assert_allclose(rows, step_artifact.probabilities(item), rtol=0, atol=1e-5)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert full.model_copy(update={"probabilities": None}) == plain


@BOTH_ENGINES
def test_an_item_scores_the_same_alone_and_among_others_in_any_order(engine: EngineName, made: Made) -> None:
    predictor = Predictor.load(made.folder, engine=engine)
    random = np.random.default_rng(0)
    items = [made.items[i] for i in random.integers(0, len(made.items), size=23)]
    for batch_size in (1, 4, 64):
        results = predictor.run_each(items, batch_size=batch_size)
        for item, result in zip(items, results, strict=True):
            assert not isinstance(result, InvalidSequence)
            np.testing.assert_allclose(predictor.scores(*result), made.logits(item), rtol=0, atol=1e-5)


def test_logits_come_back_in_the_order_given_and_without_padding(step_artifact: Made) -> None:
    predictor = Predictor.load(step_artifact.folder)
    encoded = [predictor.encode(item).inputs for item in step_artifact.items]
    for inputs, logits, item in zip(encoded, predictor.logits(encoded), step_artifact.items, strict=True):
        assert logits.shape == (len(inputs), 3)
        np.testing.assert_allclose(logits, step_artifact.logits(item), rtol=0, atol=1e-5)


def test_the_engines_agree(made: Made) -> None:
    onnx, torch_ = (Predictor.load(made.folder, engine=engine) for engine in ("onnx", "torch"))
    encoded = [onnx.encode(item).inputs for item in made.items]
    for ours, theirs in zip(onnx.logits(encoded), torch_.logits(encoded), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


class Narrow:
    """An engine that takes three sequences at a time, and answers with their lengths."""

    name, device, max_rows = "onnx", "cpu", 3

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def run(self, batch: Batch) -> np.ndarray:
        self.batches.append(batch.lengths.tolist())
        return np.repeat(batch.lengths[:, None], 3, axis=1).astype(np.float32)


def test_more_sequences_than_the_engine_takes_at_once_go_in_equal_parts_by_length(series_artifact: Made) -> None:
    predictor = Predictor(Artifact(series_artifact.folder), engine := Narrow())
    lengths = [9, 2, 7, 1, 8, 3, 5]
    logits = predictor.logits([np.zeros((length, 2), dtype=np.float32) for length in lengths])
    assert [row.tolist() for row in logits] == [[length] * 3 for length in lengths]
    assert engine.batches == [[1, 2], [3, 5], [7, 8, 9]]


class Diverged:
    """An engine of a network that answers NaN for the longest item of a batch."""

    name, device, max_rows = "torch", "cpu", None

    def run(self, batch: Batch) -> np.ndarray:
        logits = np.zeros((len(batch.lengths), 3), dtype=np.float32)
        logits[batch.lengths.argmax(), 1] = np.nan
        return logits


def test_an_answer_that_is_not_finite_is_an_error_of_its_item(series_artifact: Made) -> None:
    predictor = Predictor(Artifact(series_artifact.folder), Diverged())
    answers = predictor.predict_each([[[0, 0]], [[0, 0]] * 3, [[0, 0]] * 2])
    assert isinstance(answers[1], InvalidSequence)
    assert answers[1].loc == (1,)
    assert "not finite" in answers[1].message
    for answer in (answers[0], answers[2]):
        assert isinstance(answer, Prediction)
        assert list(answer.probabilities.values()) == pytest.approx([1 / 3] * 3, abs=1e-12)


SERIES_ITEM = st.lists(st.lists(st.none() | st.floats(-100, 100, width=32), min_size=2, max_size=2), min_size=1)


@settings(deadline=None, max_examples=25)
@given(items=st.lists(SERIES_ITEM | st.just([]) | st.just([[1.0]]) | st.just("text"), max_size=8))
def test_every_item_gets_one_answer_or_one_error_in_its_place(
    predictors: dict[str, tuple[Made, Predictor]], items: list[Any]
) -> None:
    made, predictor = predictors["series"]
    answers = predictor.predict_each(items, batch_size=3)
    assert len(answers) == len(items)
    for i, (item, answer) in enumerate(zip(items, answers, strict=True)):
        if item in ([], [[1.0]], "text"):
            assert isinstance(answer, InvalidSequence)
            assert answer.loc[0] == i
        else:
            shown(answer, made, item)


def test_predicting_names_every_wrong_item(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    made, predictor = predictors["series"]
    items = [made.items[0], [[1, 2], [3, "x"]], made.items[1], [], [[1, 2, 3]], [[math.inf, 0]]]
    with pytest.raises(InvalidSequence, match=r"^item 1: .*a string \(and 3 more items\)$") as caught:
        predictor.predict(items)
    places = [detail["loc"] for detail in caught.value.details]
    assert places == [[1, 1, 1], [3], [4, 0], [5, 0, 0]]
    assert caught.value.loc == (1, 1, 1)
    assert all(detail["message"] for detail in caught.value.details)
    with pytest.raises(InvalidSequence, match=r"^item 0: has no timesteps[^(]*$"):
        predictor.predict([[]])


def test_no_items_have_no_answers(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    for _, predictor in predictors.values():
        assert predictor.predict([]) == predictor.predict_each(iter(())) == []


def test_one_string_is_not_a_list_of_its_characters(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    for name in ("text", "step"):
        with pytest.raises(InvalidSequence, match="put it in a list"):
            predictors[name][1].predict("the moon")


def test_items_may_come_from_a_generator_or_an_array(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    made, predictor = predictors["series"]
    array = np.random.default_rng(1).normal(size=(3, 5, 2))
    listed = predictor.predict(array.tolist())
    assert predictor.predict(array) == listed
    assert predictor.predict(item for item in array) == listed
    shown(listed[2], made, array[2])


@BOTH_ENGINES
@pytest.mark.parametrize("allow_missing", [False, True])
def test_wrong_readings_are_refused_with_their_place(engine: EngineName, allow_missing: bool, tmp_path: Path) -> None:
    encoder = TimeSeriesEncoderConfig(
        channels=("a", "b"), mean=(0.0, 0.0), scale=(1.0, 1.0), allow_missing=allow_missing
    )
    predictor = Predictor.load(make_series(tmp_path / "artifact", encoder=encoder).folder, engine=engine)
    wrong: list[tuple[Any, list[int]]] = [
        ([[0, math.inf]], [0, 1]), ([[0, 1], [-math.inf, 0]], [1, 0]), ([[0, 1, 2]], [0]), ([], []), ([[]], [0]),
        (None, []), (np.zeros((3, 1)), []), ([[1, 1e300]], [0, 1]),
    ]  # fmt: skip
    missing: list[tuple[Any, list[int]]] = [([[0, math.nan]], [0, 1]), ([[0, 1], [None, 0]], [1, 0])]
    cases = wrong if allow_missing else wrong + missing
    for i, (answer, (_, place)) in enumerate(
        zip(predictor.predict_each([item for item, _ in cases]), cases, strict=True)
    ):
        assert isinstance(answer, InvalidSequence)
        assert answer.details[0]["loc"] == [i, *place]
    if allow_missing:
        assert not [a for a in predictor.predict_each([item for item, _ in missing]) if isinstance(a, InvalidSequence)]


@BOTH_ENGINES
def test_readings_so_large_that_the_network_overflows_are_an_error_and_never_nan(
    engine: EngineName, tmp_path: Path
) -> None:
    encoder = TimeSeriesEncoderConfig(channels=("a", "b"), mean=(0.0, 0.0), scale=(1e-3, 1e-3))
    made = make_series(tmp_path / "artifact", encoder=encoder)
    predictor = Predictor.load(made.folder, engine=engine)
    answers = predictor.predict_each([made.items[0], [[3e38, 3e38]], made.items[1]])
    shown(answers[0], made, made.items[0])
    assert isinstance(answers[1], InvalidSequence)
    assert answers[1].loc == (1, 0, 0)
    assert "too far" in answers[1].message
    shown(answers[2], made, made.items[1])


@pytest.mark.parametrize(
    "text", ["", "   ", "zyx", "😀👩‍👩‍👧", "月は遠い", "ดวงจันทร์", "הירח", "e\u0301\u0301", "\x00", "THE MOON", "[PAD]"]
)
def test_any_text_has_an_answer(text: str, predictors: dict[str, tuple[Made, Predictor]]) -> None:
    for made, predictor in (predictors["text"], predictors["hashed"]):
        shown(predictor.predict([text])[0], made, text)


def test_an_empty_text_is_answered_as_one_unknown_word(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    predictor = predictors["text"][1]
    assert predictor.predict([""]) == predictor.predict(["zyxwvu"]) == predictor.predict(["   "])


def test_a_model_of_characters_tells_unknown_words_apart(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    made, predictor = predictors["hashed"]
    texts = ["zyxwvu", "zyxwvut", "", "the zyxwvu", "zyxwvu the"]
    answers = predictor.predict(texts)
    for text, answer in zip(texts, answers, strict=True):
        shown(answer, made, text)
    assert len({answer.confidence for answer in answers}) == len(texts)
    assert predictor.predict(["ZYXWVU", " zyxwvu "]) == [answers[0]] * 2
    # Nothing is spelled where nothing stands.
    assert predictor.predict(["   "]) == [answers[2]]


def test_a_lone_surrogate_is_refused_beside_good_texts(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    answers = predictors["text"][1].predict_each(["far", "a\udfff", "far"])
    assert isinstance(answers[1], InvalidSequence)
    assert answers[1].loc == (1,)
    assert answers[0] == answers[2]


def test_ten_megabytes_are_answered_by_the_tokens_that_the_model_keeps(
    predictors: dict[str, tuple[Made, Predictor]],
) -> None:
    predictor, hashed = predictors["text"][1], predictors["hashed"][1]  # they keep the first 12 words
    head = "how far is the moon ? is it far ? is it"
    assert len(head.split()) == 12
    assert predictor.predict([head + " cat dog" * 1_250_000]) == predictor.predict([head])
    assert hashed.predict([head + " cat unheard" * 1_000_000]) == hashed.predict([head])
    assert predictor.predict(["x" * 10_000_000]) == predictor.predict(["zyxwvu"])
    assert hashed.predict(["x" * 10_000_000]) == hashed.predict(["x" * 40])


def test_tokens_get_a_label_each_whatever_they_are(predictors: dict[str, tuple[Made, Predictor]]) -> None:
    predictor = predictors["step"][1]
    tokens = ["the", "", " ", "New York", "😀", "moon"]
    [answer] = predictor.predict([tokens])
    assert isinstance(answer, StepPrediction)
    assert answer.tokens == tokens
    assert len(answer.labels) == len(answer.confidences) == 6
    [split] = predictor.predict(["the moon"])
    assert isinstance(split, StepPrediction)
    assert split.tokens == ["the", "moon"]


# Gates


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["text", "series"])
def test_gates_are_those_of_stepping_the_cells_and_outputs_those_of_the_torch_layers(
    cell: str, kind: str, tmp_path: Path
) -> None:
    make = make_text if kind == "text" else make_series
    tables = {"ngram_buckets": 30, "pair_buckets": 17} if kind == "text" else {}
    made = make(tmp_path / "artifact", cell=cell, num_layers=2, bidirectional=True, **tables)  # type: ignore[operator]
    predictor = Predictor.load(made.folder)
    item = "the unheard cat sat, unseen" if kind == "text" else made.items[2]
    explanation = predictor.gates(item)
    x = made.features(item).astype(np.float32)
    model = SequenceClassifier(made.config)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in classifier_weights(made.weights).items()})
    T = len(x)
    assert [(layer.layer, layer.direction) for layer in explanation.layers] == [
        (0, "left_to_right"), (0, "right_to_left"), (1, "left_to_right"), (1, "right_to_left"),
    ]  # fmt: skip
    for number, layer in enumerate(model.recurrent):
        with torch.inference_mode():
            backwards = torch.arange(T - 1, -1, -1)[None]
            outputs = layer(torch.from_numpy(x)[None], backwards)[0].numpy()
        pair = explanation.layers[2 * number : 2 * number + 2]
        np.testing.assert_allclose(np.concatenate([one.outputs for one in pair], axis=1), outputs, rtol=0, atol=1e-6)
        for one in pair:
            stepped = from_weights(
                made.config.cell, made.weights, f"recurrent.{number}.{one.direction}", made.config.reset_after
            )
            state = stepped.initial_state(1)
            for t in range(T) if one.direction == "left_to_right" else range(T - 1, -1, -1):
                state, gates = stepped.step(x[t : t + 1], state)
                assert one.gates.keys() == gates._asdict().keys()
                for name, gate in gates._asdict().items():
                    np.testing.assert_allclose(one.gates[name][t], gate[0], rtol=0, atol=1e-6)
        x = outputs
    assert explanation["candidate"] is explanation.layers[0].gates["candidate"]


def test_gates_of_a_model_with_a_stem_are_those_of_the_steps_that_it_leaves(convolved_artifact: Made) -> None:
    made = convolved_artifact
    weights = {name: array.astype(np.float64) for name, array in made.weights.items()}
    for item in made.items:
        x = made.features(item).astype(np.float64)
        read = block_by_hand(weights, "stem", x, stride=3)
        explanation = Predictor.load(made.folder).gates(item)
        assert [layer.direction for layer in explanation.layers] == ["left_to_right", "right_to_left"]
        for layer in explanation.layers:
            stepped = from_weights("gru", weights, f"recurrent.0.{layer.direction}", reset_after=True)
            state = stepped.initial_state(1)
            order = range(len(read)) if layer.direction == "left_to_right" else reversed(range(len(read)))
            for t in order:
                state, gates = stepped.step(read[t : t + 1], state)
                for name, gate in gates._asdict().items():
                    np.testing.assert_allclose(layer.gates[name][t], gate[0], rtol=0, atol=1e-5)
            assert len(layer.outputs) == -(-len(x) // 3)


def test_gates_of_tokens_name_them_and_wrong_items_are_refused(
    predictors: dict[str, tuple[Made, Predictor]],
) -> None:
    assert predictors["step"][1].gates(["the", ""]).tokens == ["the", ""]
    assert predictors["text"][1].gates("the moon").tokens is None
    with pytest.raises(InvalidSequence):
        predictors["series"][1].gates([[1, "x"]])


# A process that serves


def test_a_process_that_predicts_by_onnx_runtime_never_loads_torch(made: Made, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_bytes(orjson.dumps(made.items))
    program = (
        "import sys, orjson\n"
        "from pathlib import Path\n"
        "from gatewise.predictor import Predictor\n"
        "predictor = Predictor.load(sys.argv[1])\n"
        "items = orjson.loads(Path(sys.argv[2]).read_bytes())\n"
        "answers = predictor.predict(items)\n"
        "predictor.gates(items[0])\n"
        "heavy = ('torch', 'pytorch_lightning', 'onnx', 'bentoml', 'training', 'pandas')\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "print(orjson.dumps([loaded, [answer.model_dump() for answer in answers]]).decode())\n"
    )
    command = [sys.executable, "-c", program, str(made.folder), str(tmp_path / "items.json")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded, answers = orjson.loads(done.stdout)
    assert loaded == []
    kind: type[Prediction | StepPrediction] = StepPrediction if made.config.task == "step" else Prediction
    for item, answer in zip(made.items, answers, strict=True):
        shown(kind.model_validate(answer), made, item)


def test_the_artifact_that_is_explained_is_the_one_that_was_loaded(series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    predictor = Predictor.load(folder)
    (folder / "weights.safetensors").write_bytes(_safetensors(weights_of(series_artifact.config, seed=9)))
    with pytest.raises(ArtifactCorrupt, match=r"weights\.safetensors"):
        predictor.gates(series_artifact.items[0])
    assert Artifact(series_artifact.folder).manifest == predictor.manifest
