"""Requests that never stop, and what became of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.predictor import Predictor
from gatewise.schema import Prediction
from tests.artifacts import TEXTS, make_text
from tests.live import CutShort, Unanswered, assert_predicts, clients, predict

Outcomes = Counter[str | int]


class Load:
    """A small model, and texts with what the offline Predictor says of each."""

    def __init__(self, folder: Path, texts: int = 200) -> None:
        self.folder = folder
        make_text(folder, max_length=None, hidden_size=12, ngram_buckets=64, pair_buckets=128)
        readable = [folder, *folder.rglob("*")]
        for path in readable:
            path.chmod(0o755 if path.is_dir() else 0o644)
        random = np.random.default_rng(5)
        words = " ".join(TEXTS).split()
        self.texts = [" ".join(random.choice(words, size=length)) for length in random.integers(1, 40, size=texts)]
        predictor = Predictor.load(folder)
        answers: list[Any] = [predictor.predict([text])[0] for text in self.texts]
        self.expected: list[Prediction] = answers
        self.requests = [predict([text]) for text in self.texts]

    async def ask(self, port: int, connections: int, stop: asyncio.Event, found: Outcomes, pause: float = 0.0) -> None:
        """Keep asking on so many connections until told to stop, a new connection wherever one was closed.

        Args:
            found: counts answers by their status, and lost requests by how they were lost.
            pause: seconds between an answer and the next request of a connection.
        """

        async def keep_asking(first: int) -> None:
            places = itertools.count(first)
            while not stop.is_set():
                async with clients(port, 1) as [client]:
                    while not stop.is_set():
                        place = next(places) % len(self.requests)
                        try:
                            reply = await client.ask(self.requests[place])
                        except (Unanswered, CutShort) as lost:
                            found[type(lost).__name__] += 1
                            break
                        found[reply.status] += 1
                        if reply.status == 200:
                            assert_predicts(reply, [self.expected[place]])
                        if reply.headers.get("connection") == "close":
                            found["closed with an answer"] += 1
                            break
                        await asyncio.sleep(pause)

        await asyncio.gather(*(keep_asking(first) for first in range(connections)))
