"""The second before a worker stops listening, in which clients are told to send their next request elsewhere.

On SIGTERM uvicorn closes every connection that seems idle at once, also one whose next request is on its way or waits
unread: that request would be lost. So the signal is passed on a second late, and until then every answer says
`connection: close`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

NOTICE_SECONDS = 1.0


class Drain:
    """Whether the worker is about to stop."""

    def __init__(self) -> None:
        self.has_begun = False

    def watch(self) -> None:
        """Take SIGTERM from the server that runs this loop; only in a process whose main thread this is."""
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            self.has_begun = True
            loop.call_soon_threadsafe(loop.call_later, NOTICE_SECONDS, before, number, None)

        signal.signal(signal.SIGTERM, begin)
