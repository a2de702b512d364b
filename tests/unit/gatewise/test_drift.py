"""Histograms, the index of stability and its states, against values worked out by hand and streams drawn by chance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from scipy.stats import chi2

from gatewise.artifact import DRIFT, Artifact, restate
from gatewise.batch import Encoded
from gatewise.drift import (
    ENOUGH,
    DriftReference,
    Histogram,
    Observation,
    Observer,
    chance_bound,
    fit_edges,
    population_stability_index,
)
from gatewise.errors import ArtifactCorrupt
from gatewise.predictor import Predictor
from tests.artifacts import SERIES_ENCODER, Made, make_series, reseal


def one_reference(**histograms: Histogram) -> DriftReference:
    return DriftReference(histograms=histograms)


def lengths(edges: tuple[float, ...], shares: tuple[float, ...], sequences: int = 1_000) -> Histogram:
    return Histogram(edges=edges, shares=shares, sequences=sequences, source="valid")


def test_the_index_is_what_a_hand_computes() -> None:
    # 0.99 p + 0.01 / 2: 0.5 stays, 0.8 is 0.797, 0.2 is 0.203.
    by_hand = (0.797 - 0.5) * math.log(0.797 / 0.5) + (0.203 - 0.5) * math.log(0.203 / 0.5)
    assert population_stability_index([0.5, 0.5], [0.8, 0.2]) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.40619, abs=1e-5)


def test_an_empty_bin_has_a_finite_term_and_one_that_is_empty_in_both_has_none() -> None:
    # 1 is 0.9925, 0 is 0.0025, 0.75 is 0.745, 0.25 is 0.25: three bins of four are told apart from two of two.
    by_hand = (0.745 - 0.9925) * math.log(0.745 / 0.9925) + (0.25 - 0.0025) * math.log(0.25 / 0.0025)
    assert population_stability_index([1, 0, 0, 0], [0.75, 0.25, 0, 0]) == pytest.approx(by_hand, rel=1e-12)


def test_the_index_is_the_same_either_way_and_nothing_for_equals() -> None:
    one, other = [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]
    assert population_stability_index(one, other) == pytest.approx(population_stability_index(other, one))
    assert population_stability_index(one, one) == 0


@pytest.mark.parametrize(("bins", "false_alarm"), [(2, 1e-3), (3, 1e-4), (10, 1e-4), (20, 1e-5)])
def test_the_bound_of_chance_is_that_of_the_chi_squared_distribution(bins: int, false_alarm: float) -> None:
    exact = (1 / 300 + 1 / 700) * chi2.ppf(1 - false_alarm, bins - 1)
    assert chance_bound(bins, 300, 700, false_alarm) == pytest.approx(exact, rel=0.05)


def test_edges_part_many_values_into_ten_equal_bins_with_open_ends() -> None:
    values = np.random.default_rng(0).permutation(1_000).astype(float)
    assert fit_edges(values) == tuple(100 * k - 0.5 for k in range(1, 10))


def test_few_values_have_a_bin_each_and_one_on_either_side() -> None:
    assert fit_edges(np.array([3.0, 1, 1, 2, 3, 3])) == (0.5, 1.5, 2.5, 3.5)
    low, high = fit_edges(np.zeros(50))
    assert -1e-3 < low < 0 < high < 1e-3


def test_a_value_that_most_have_does_not_hide_the_others() -> None:
    values = np.concatenate([np.zeros(950), np.linspace(0.1, 0.9, 50)])
    assert fit_edges(values) == (0.05,)


def test_every_sequence_weighs_one_however_long() -> None:
    histogram = lengths((1.5,), (0.5, 0.5))
    counts = histogram.count([np.array([1.0]), np.array([1.0, 2, 2, 2]), np.full(60, 2.0)])
    np.testing.assert_allclose(counts, [1.25, 1.75])


def test_missing_readings_have_a_bin_of_their_own() -> None:
    values = [np.array([1.0, np.nan]), np.array([2.0, 2.0])]
    histogram = Histogram.fit("channel:level", values, "valid", 2)
    assert histogram.bin_names(()) == ["below 0.5", "0.5 to 1.5", "1.5 to 2.5", "2.5 or more", "missing"]
    assert histogram.shares == (0, 0.25, 0.5, 0, 0.25)


def test_the_rarest_of_many_labels_share_a_bin() -> None:
    answered = [np.array([k]) for k in range(30) for _ in range(k + 1)]
    histogram = Histogram.fit("label", answered, "valid", 31)
    names = [f"label {k}" for k in range(31)]
    assert histogram.bin_names(names) == [*names[11:30], "other labels"]
    assert histogram.shares[0] == pytest.approx(12 / 465)
    assert histogram.shares[-1] == pytest.approx(66 / 465)
    np.testing.assert_array_equal(histogram.count([np.array([30]), np.array([29])]), [0] * 18 + [1, 1])


def answers(rng: np.random.Generator, rows: int, shift: dict[str, float] | None = None) -> list[Observation]:
    """Observations of a text model and of a channel, each measure drawn by itself; `shift` moves some."""
    moved = {"length": 0.0, "unknown_rate": 0.0, "channel:level": 0.0, "label": 0.0, "confidence": 0.0, **(shift or {})}
    found = []
    for _ in range(rows):
        is_flood = rng.random() < moved["label"]
        steps = int(rng.integers(1, 40))
        # The steps of a series resemble each other.
        level = rng.normal() + 0.3 * rng.normal(size=steps) + moved["channel:level"]
        found.append(
            {
                "length": np.array([float(rng.poisson(12 + moved["length"]) + 1)]),
                "unknown_rate": np.array([rng.binomial(20, 0.02 + moved["unknown_rate"]) / 20]),
                "channel:level": level,
                "label": np.array([2 if is_flood else int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))]),
                "confidence": np.array([rng.beta(8 - moved["confidence"], 2)]),
            }
        )
    return found


def reference_of(observations: list[Observation]) -> DriftReference:
    return DriftReference(
        histograms={
            name: Histogram.fit(name, [one[name] for one in observations], "valid", 4) for name in observations[0]
        }
    )


@pytest.mark.parametrize("rows", [60, 200, 2_000])
def test_a_stream_like_the_reference_is_never_called_drifted(rows: int) -> None:
    # 50 references with a window each: with 1 in 1000 allowed for each, two or more are as rare as 1 in 800.
    rng = np.random.default_rng(rows)
    alarms = 0
    for _ in range(50):
        reference = reference_of(answers(rng, rows))
        window = answers(rng, 300)
        alarms += reference.compare(reference.count(window), 300).state != "none"
    assert alarms <= 1


@pytest.mark.parametrize(
    ("measure", "shift"),
    [("length", 12.0), ("unknown_rate", 0.3), ("channel:level", 2.0), ("label", 0.6), ("confidence", 5.0)],
)
def test_what_shifts_is_what_moves(measure: str, shift: float) -> None:
    rng = np.random.default_rng(1)
    reference = reference_of(answers(rng, 800))
    drift = reference.compare(reference.count(answers(rng, 500, {measure: shift})), 500)
    assert drift.state == "major"
    assert {name: one.state for name, one in drift.measures.items()} == {
        name: "major" if name == measure else "none" for name in drift.measures
    }


def test_a_small_shift_is_moderate() -> None:
    drift = one_reference(length=lengths((4.5,), (0.5, 0.5), 10_000)).compare(np.array([700.0, 300.0]), 1_000)
    assert drift.measures["length"].psi == pytest.approx(0.16, abs=0.02)
    assert drift.state == "moderate"


def test_what_chance_can_do_to_a_small_reference_is_no_drift() -> None:
    counts = np.array([700.0, 300.0])
    assert one_reference(length=lengths((4.5,), (0.5, 0.5), 20)).compare(counts, 1_000).state == "none"


def test_the_state_is_unknown_until_enough_were_seen() -> None:
    reference = one_reference(length=lengths((4.5,), (0.5, 0.5)))
    assert reference.compare(np.array([ENOUGH - 1.0, 0]), ENOUGH - 1).state == "unknown"
    assert reference.compare(np.array([float(ENOUGH), 0]), ENOUGH).state == "major"


# --- what is measured of a sequence


def test_readings_are_measured_in_their_own_unit_and_missing_ones_are_missing(series_artifact: Made) -> None:
    predictor = Predictor.load(series_artifact.folder)
    readings = [[1.5, -2.0], [None, 7.25], [3.0, None]]
    found = Observer(predictor).inputs(predictor.encode(readings))
    np.testing.assert_allclose(found["channel:price"], [1.5, np.nan, 3.0], rtol=1e-6)
    np.testing.assert_allclose(found["channel:volume"], [-2.0, 7.25, np.nan], rtol=1e-6)
    assert found["length"] == [3.0]


def test_the_answer_is_what_the_predictor_says(made: Made) -> None:
    predictor = Predictor.load(made.folder)
    observer = Observer(predictor)
    [(encoded, logits)] = [result for result in predictor.run_each(made.items[:1]) if isinstance(result, tuple)]
    found, answer = observer.observe(encoded, logits), predictor.answer(encoded, logits)
    words = vars(answer)
    assert [made.manifest.labels[k] for k in found["label"]] == words.get("labels", [words.get("label")])
    np.testing.assert_allclose(found["confidence"], words.get("confidences", [words.get("confidence")]))


@pytest.mark.parametrize("item", ["a zebra far away", "the moon", "gnu gnu"])
def test_the_rate_of_unknown_words_is_counted(item: str, text_artifact: Made) -> None:
    predictor = Predictor.load(text_artifact.folder)
    words = item.split()
    known = {word for text in text_artifact.items for word in text.split()}
    found = Observer(predictor).inputs(predictor.encode(item))
    assert found["unknown_rate"] == [sum(word not in known for word in words) / len(words)]


def test_long_sequences_and_many_channels_are_looked_at_in_part(tmp_path: Path) -> None:
    channels = tuple(f"c{i}" for i in range(100))
    encoder = SERIES_ENCODER.model_copy(
        update={"channels": channels, "mean": (0.0,) * 100, "scale": (1.0,) * 100, "max_length": None}
    )
    made = make_series(tmp_path / "wide", encoder=encoder)
    predictor = Predictor.load(made.folder)
    readings = np.arange(1_000)[:, None] + np.zeros(100)
    found = Observer(predictor).inputs(Encoded(predictor.encode(readings).inputs))
    watched = [name for name in found if name.startswith("channel:")]
    assert len(watched) == 32
    assert {watched[0], watched[-1]} == {"channel:c0", "channel:c99"}
    np.testing.assert_array_equal(found["channel:c0"], np.arange(0, 1_000, 16))


# --- in the artifact


def with_drift(made: Made, folder: Path, content: bytes) -> Path:
    restate(made.folder, folder, files={DRIFT: content})
    return folder


def test_the_reference_comes_back_from_the_artifact_as_it_was(series_artifact: Made, tmp_path: Path) -> None:
    reference = reference_of(answers(np.random.default_rng(2), 300))
    folder = with_drift(series_artifact, tmp_path / "a", reference.model_dump_json().encode())
    again = Artifact(folder).drift_reference()
    assert again == reference
    assert Predictor.load(folder).drift_reference() == reference


def test_an_artifact_without_a_reference_loads_and_has_none(made: Made) -> None:
    assert Predictor.load(made.folder).drift_reference() is None


def test_a_changed_reference_is_found(series_artifact: Made, tmp_path: Path) -> None:
    reference = reference_of(answers(np.random.default_rng(2), 300))
    folder = with_drift(series_artifact, tmp_path / "a", reference.model_dump_json().encode())
    path = folder / DRIFT
    path.write_bytes(path.read_bytes().replace(b"valid", b"train", 1))
    with pytest.raises(ArtifactCorrupt, match=r"drift\.json: changed since it was written"):
        Artifact(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"edges": (2.0, 1.0), "shares": (0.5, 0.25, 0.25)},
        {"edges": (1.0,), "shares": (1.0,)},
        {"edges": (1.0,), "classes": (0, 1), "shares": (0.5, 0.5)},
        {"shares": (1.0,)},
    ],
)
def test_a_reference_whose_parts_disagree_is_corrupt_though_its_checksum_is_right(
    fields: dict[str, Any], series_artifact: Made, tmp_path: Path
) -> None:
    good = one_reference(length=lengths((1.0,), (0.5, 0.5)))
    folder = with_drift(series_artifact, tmp_path / "a", good.model_dump_json().encode())
    wrong = {"sequences": 5, "source": "valid", **fields}
    (folder / DRIFT).write_bytes(orjson.dumps({"histograms": {"length": wrong}}))
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=r"drift\.json"):
        Artifact(folder).drift_reference()
