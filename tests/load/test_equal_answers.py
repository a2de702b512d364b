"""Ten thousand requests at once, and every answer is the one that the offline Predictor gives alone."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.predictor import Predictor
from gatewise.schema import Prediction
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import TEXTS, make_series, make_text
from tests.live import TOLERANCE, Client, Reply, Server, assert_predicts, clients, predict, serve

pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(900)]

REQUESTS, CONNECTIONS, ITEMS = 10_000, 256, 1500
KINDS = ("text", "series")
# No request is late or refused, however slow the machine.
PATIENT = {"timeout_seconds": 600, "queue_seconds": 3600}


@dataclass(frozen=True)
class Case:
    """An artifact, items of random lengths, and what the offline Predictor says of each."""

    folder: Path
    items: list[Any]
    expected: list[Prediction]

    def request(self, *places: int) -> bytes:
        return predict(self.items[place] for place in places)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    random = np.random.default_rng(11)
    lengths = np.clip(random.lognormal(mean=2.5, sigma=1.0, size=ITEMS), 1, 200).astype(int)
    if request.param == "text":
        make_text(folder, max_length=None, hidden_size=12, ngram_buckets=64, pair_buckets=128)
        known = " ".join(TEXTS).split()
        unknown = ["".join(random.choice(list(string.ascii_lowercase + "éßñ"), size=n)) for n in range(1, 60, 5)]
        items: list[Any] = [" ".join(random.choice(known + unknown, size=length)) for length in lengths]
    else:
        encoder = TimeSeriesEncoderConfig(
            channels=("a", "b", "c"), mean=(1, 0, -1), scale=(2, 1, 3), allow_missing=True
        )
        make_series(folder, encoder=encoder, hidden_size=12, bidirectional=True, head="all")
        items = [random.normal(scale=2, size=(length, 3)).round(4).tolist() for length in lengths]
        for item in items[::3]:
            item[len(item) // 2][1] = None
    predictor = Predictor.load(folder)
    answers: list[Any] = [predictor.predict([item])[0] for item in items]
    # A label is only sure where its probability leads by more than the tolerance.
    sure = [i for i, answer in enumerate(answers) if lead(answer) > 10 * TOLERANCE]
    assert len(sure) > 0.9 * ITEMS
    return Case(folder, [items[i] for i in sure], [answers[i] for i in sure])


def lead(answer: Prediction) -> float:
    """How far the label's probability is above the next."""
    second, first = sorted(answer.probabilities.values())[-2:]
    return first - second


def ask_all(server: Server, requests: Sequence[bytes], connections: int = CONNECTIONS) -> list[Reply]:
    """Send the requests over so many connections, each its next one as soon as its answer is there."""
    replies: list[Any] = [None] * len(requests)
    places = iter(range(len(requests)))

    async def ask_some(client: Client) -> None:
        for place in places:
            replies[place] = await client.ask(requests[place])

    async def ask() -> None:
        async with clients(server.port, connections) as opened:
            await asyncio.gather(*map(ask_some, opened))

    asyncio.run(ask())
    return replies


def test_every_answer_under_load_is_the_offline_predictors(case: Case, tmp_path: Path) -> None:
    random = np.random.default_rng(12)
    # One request in ten has several sequences.
    counts = np.where(random.random(REQUESTS) < 0.1, random.integers(2, 20, size=REQUESTS), 1)
    asked = [random.integers(len(case.items), size=count).tolist() for count in counts]
    with serve(tmp_path, case.folder, **PATIENT) as server:
        replies = ask_all(server, [case.request(*places) for places in asked])
        metrics = server.metrics()
    for places, reply in zip(asked, replies, strict=True):
        assert_predicts(reply, [case.expected[place] for place in places])
    assert metrics.requests() == {200: REQUESTS}
    assert metrics["gatewise_batch_items_sum"] == counts.sum()
    assert metrics["gatewise_queue_steps"] == 0
    # They did share batches, or nothing has been shown.
    assert metrics["gatewise_batch_items_count"] < counts.sum() / 4
    assert metrics["gatewise_batch_padding_ratio_sum"] > 0


def test_an_answer_does_not_depend_on_its_company(case: Case, tmp_path: Path) -> None:
    steps = np.array([len(item.split() if isinstance(item, str) else item) for item in case.items])
    subjects = [int(np.abs(steps - length).argmin()) for length in (1, 20, 100)]
    with serve(tmp_path, case.folder, **PATIENT) as server:
        for subject in subjects:
            # Lengths within a doubling of its own, so that it does share batches.
            near = np.flatnonzero((steps >= steps[subject] / 2) & (steps <= steps[subject] * 2))
            asked = in_company(subject, near)
            replies = ask_all(server, [case.request(*places) for places in asked], 64)
            found = []
            for places, reply in zip(asked, replies, strict=True):
                assert_predicts(reply, [case.expected[place] for place in places])
                answers = zip(places, reply.json()["predictions"], strict=True)
                found += [list(answer["probabilities"].values()) for place, answer in answers if place == subject]
            assert len(found) >= 200
            assert np.ptp(np.array(found), axis=0).max() <= TOLERANCE
        metrics = server.metrics()
    assert metrics["gatewise_batch_items_count"] < metrics["gatewise_batch_items_sum"] / 2


def in_company(subject: int, others: np.ndarray) -> list[list[int]]:
    """Requests that ask for the subject 200 times: alone or among others, with others' requests before and after."""
    random = np.random.default_rng(13)
    asked: list[list[int]] = []
    for k in range(200):
        company = random.choice(others, size=random.integers(1, 8)).tolist()
        asked += [[place] for place in company] if k % 2 else [company]
        asked.append([subject] if k % 3 else [*company[:3], subject, *company[3:]])
    return asked
