"""A worker's way from one version of its model to the next, while it serves.

The worker looks at one file twice a second: the pointer of `name:production`, or what says which version of `name` is
the newest. When that has moved, the version is loaded and replayed in a thread, beside the live one, and takes over by
one assignment between two batches; what was asked before stays with the model that was live then. A version that
cannot be used changes nothing but what is said of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from gatewise.errors import GatewiseError, ModelConflict
from service import registry
from service.metrics import Metrics
from service.registry import LiveModel, ModelRegistry
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from gatewise.production import Shadow
    from gatewise.shadow import Comparisons
    from gatewise.store import Store

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("gatewise.service")

LOOK_SECONDS = 0.5
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 5.0, 300.0


@dataclass(frozen=True)
class Wanted:
    """What the reference means now."""

    version: str
    shadow: Shadow | None


class Switch:
    """Follows what GATEWISE_MODEL means; only made where that can move (`followed`).

    Args:
        make_live, make_shadow: what to do with a version that has been loaded; on the event loop.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        live: ModelRegistry,
        metrics: Metrics,
        make_live: Callable[[LiveModel], None],
        make_shadow: Callable[[LiveModel | None, float], None],
    ) -> None:
        from gatewise.store import Store

        assert settings.model is not None
        self.name, _, wanted = settings.model.partition(":")
        self.is_production = wanted == "production"
        self._settings, self._registry, self._metrics = settings, live, metrics
        self._make_live, self._make_shadow = make_live, make_shadow
        self._store = Store(shared=settings.store)
        self._path = self._store.moves_with(settings.model)
        self._seen: object = None
        self._shadow: Shadow | None = None
        self._retry_at, self._retry_seconds = float("inf"), _FIRST_RETRY_SECONDS
        self._failure: str | None = None
        # One thread, so that memory which it takes from the system for one version serves the next.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gatewise-load")
        self._task = asyncio.create_task(self._look_for_ever())
        shares = self._store.is_shared and self.is_production
        self._replica = Replica(self._store, self.name, settings.store_seconds, metrics) if shares else None

    @property
    def comparisons(self) -> Comparisons:
        """Where this model's shadows are kept."""
        return self._store.comparisons(self.name)

    @property
    def problem(self) -> str | None:
        """Why the live model may not be the one that should be live; None where it is."""
        found = [self._failure, self._replica.problem if self._replica else None]
        return "; ".join(filter(None, found)) or None

    def close(self) -> None:
        """Follow no longer."""
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._replica:
            self._replica.close()

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Follow the pointer, if it has moved since the last time, or the last time failed a while ago."""
        seen = _stamp(self._path)
        if seen == self._seen and time.monotonic() < self._retry_at:
            return
        if seen != self._seen:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        self._seen = seen
        self._failure, self._retry_at = None, float("inf")
        try:
            wanted = await self._in_thread(self._resolve)
            has_moved = await self._follow(wanted.version)
        except Exception as error:  # whatever it is, the model that is live goes on
            live = self._registry.live.identity["version"]
            self._fail(f"{self._settings.model} cannot be followed, {live} goes on", error)
        else:
            if has_moved or wanted.shadow != self._shadow:
                await self._follow_shadow(wanted.shadow)
        self._metrics.set_behind(self._failure is not None)

    async def _follow(self, version: str) -> bool:
        """Make a version live; whether it was not."""
        before = self._registry.live.identity["version"]
        if version == before:
            return False
        started = time.monotonic()
        self._make_live(await self._in_thread(self._load, version))
        self._metrics.count_switch(is_done=True)
        seconds = time.monotonic() - started
        logger.info("%s:%s is live, after %s; loading took %.2f s", self.name, version, before, seconds)
        return True

    async def _follow_shadow(self, shadow: Shadow | None) -> None:
        self._make_shadow(None, 0.0)
        self._shadow = None
        if shadow is not None:
            try:
                self._make_shadow(await self._in_thread(self._load, shadow.version), shadow.sample)
            except Exception as error:  # the champion goes on alone
                self._fail(f"{self.name}:{shadow.version} cannot shadow it", error)
                return
            logger.info("%s:%s shadows it, for %g of the requests", self.name, shadow.version, shadow.sample)
        self._shadow = shadow

    def _fail(self, what: str, error: Exception) -> None:
        is_known = isinstance(error, GatewiseError)
        self._failure = f"{what}: {error.message if isinstance(error, GatewiseError) else repr(error)}"
        self._metrics.count_switch(is_done=False)
        again = "(next try in %.0f s, or when the pointer moves)"
        logger.error(f"%s {again}", self._failure, self._retry_seconds, exc_info=None if is_known else error)
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    # These run in the thread.

    def _resolve(self) -> Wanted:
        assert self._settings.model is not None
        version = self._store.get(self._settings.model)
        shadow = self._store.shadow(self.name) if self.is_production else None
        return Wanted(version.version, shadow)

    def _load(self, version: str) -> LiveModel:
        return registry.load_live(self._settings.model_copy(update={"model": f"{self.name}:{version}"}))


class Replica:
    """Keeps this machine's pointer what the shared store's is; one process of a machine asks for all.

    Attributes:
        problem: why it cannot, as the process knows that asks.
    """

    def __init__(self, store: Store, name: str, seconds: float, metrics: Metrics) -> None:
        self._store, self._name, self._seconds, self._metrics = store, name, seconds, metrics
        self._ended = threading.Event()
        self.problem: str | None = None
        # A daemon: a store that does not answer must not keep the process from ending.
        threading.Thread(target=self._work, name="gatewise-replica", daemon=True).start()

    def close(self) -> None:
        """Ask no longer."""
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
            # Another process that asks may end, and then this one does.
            with suppress(ModelConflict), self._store.following(self._name):
                while not self._ended.wait(self._seconds):
                    self._pull()

    def _pull(self) -> None:
        try:
            if self._store.pull(self._name):
                logger.info("the production pointer of %s has moved in the shared store", self._name)
        except Exception as error:  # serving goes on with what is here
            problem = error.message if isinstance(error, GatewiseError) else repr(error)
            if self.problem is None:
                logger.error("%s is not followed, and is asked again: %s", self._name, problem)
            self.problem = problem
            self._metrics.count_store_failure()
        else:
            self.problem = None


def followed(settings: ServiceSettings) -> bool:
    """Whether what GATEWISE_MODEL means may move: not a folder, nor a version."""
    from gatewise.store import Store, is_folder

    model = settings.model
    return model is not None and not is_folder(model) and Store().moves_with(model) is not None


def _stamp(path: Path | None) -> object:
    """What changes whenever the file is replaced."""
    if path is None:
        return None
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None
