"""What the log says of ordinary requests: one line for some seconds, since a line each costs as much as parsing.

Errors that are the service's own fault are logged one by one where they are caught.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

logger = logging.getLogger("gatewise.access")

INTERVAL_SECONDS = 10.0


class Traffic:
    """Counts answers, and says what they were at the end of every interval that had any."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._seconds = self._slowest = 0.0

    def count(self, status: int, seconds: float) -> None:
        """One request was answered."""
        if not self._statuses:
            asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self.flush)
        self._statuses[status] += 1
        self._seconds += seconds
        self._slowest = max(self._slowest, seconds)

    def flush(self) -> None:
        """Write the line, if there is anything to say, and begin anew."""
        total = self._statuses.total()
        if not total:
            return
        by_status = ", ".join(f"{count} x {status}" for status, count in sorted(self._statuses.items()))
        mean, slowest = 1000 * self._seconds / total, 1000 * self._slowest
        logger.info("%d requests: %s; mean %.1f ms, slowest %.1f ms", total, by_status, mean, slowest)
        self._statuses.clear()
        self._seconds = self._slowest = 0.0
