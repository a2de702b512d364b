"""Following the pointer: what is loaded when, and what is let go."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewise.errors import ArtifactCorrupt
from gatewise.store import Store
from service import registry, switching
from service.metrics import Metrics
from service.registry import LiveModel, ModelRegistry
from service.runtime import Runtime
from service.settings import load_settings
from service.switching import Switch, followed
from tests.artifacts import make_series
from tests.unit.gatewise.test_store import make_artifact
from tests.unit.service.fakes import FakePredictor


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The service's own store."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return Store()


class Followed:
    """A switch over a store with three versions, whose models are fakes; `loaded` are those that it asked for."""

    def __init__(self, store: Store, tmp: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
        self.store, self.loaded, self.shadows = store, [], []  # type: ignore[var-annotated]
        self.versions = [store.add(make_artifact(tmp / f"a{i}", size=i + 1), "questions").version for i in range(3)]
        store.promote(f"questions:{self.versions[0]}")
        self.broken: set[str] = set()
        monkeypatch.setenv("GATEWISE_MODEL", model)
        monkeypatch.setattr(registry, "load_live", self._load)
        monkeypatch.setattr(switching, "LOOK_SECONDS", 1e6)  # the tests look themselves
        self.registry = ModelRegistry()
        self.registry.switch(self._model(store.get(model).version))

    def _model(self, version: str) -> LiveModel:
        return LiveModel(FakePredictor(version=version), 100)  # type: ignore[arg-type]

    def _load(self, settings: Any) -> LiveModel:
        version = settings.model.partition(":")[2]
        self.loaded.append(version)
        if version in self.broken:
            raise ArtifactCorrupt("its weights are damaged")
        return self._model(version)

    @property
    def live(self) -> str:
        return self.registry.live.identity["version"]

    def run(self, test: Callable[[Switch], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            def make_shadow(model: LiveModel | None, sample: float) -> None:
                self.shadows.append(model and (model.identity["version"], sample))

            switch = Switch(load_settings(), self.registry, Metrics(), self.registry.switch, make_shadow)  # type: ignore[arg-type]
            try:
                await switch.look()
                await test(switch)
            finally:
                switch.close()

        asyncio.run(asyncio.wait_for(whole(), 60))


@pytest.fixture
def following(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(store, tmp_path, monkeypatch, "questions:production")


def test_a_moved_pointer_is_followed_and_one_that_stands_costs_a_stat(
    following: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(switch: Switch) -> None:
        assert following.loaded == []
        asked: list[str] = []
        get = switch._store.get
        monkeypatch.setattr(switch._store, "get", lambda reference: asked.append(reference) or get(reference))
        for _ in range(3):
            await switch.look()
        assert asked == []
        following.store.promote(f"questions:{following.versions[2]}")
        await switch.look()
        assert (following.live, following.loaded) == (following.versions[2], [following.versions[2]])
        following.store.rollback("questions")
        await switch.look()
        assert following.live == following.versions[0]
        assert switch.problem is None
        assert asked == ["questions:production"] * 2

    following.run(test)


def test_the_newest_version_is_followed_where_no_pointer_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Followed(store, tmp_path, monkeypatch, "questions")

    async def test(switch: Switch) -> None:
        assert following.live == following.versions[2]
        store.promote(f"questions:{following.versions[1]}")
        await switch.look()
        assert following.live == following.versions[2]
        newest = store.add(make_artifact(tmp_path / "newest", size=9), "questions").version
        await switch.look()
        assert following.live == newest

    following.run(test)


@pytest.mark.parametrize(
    ("model", "is_followed"),
    [("questions", True), ("questions:latest", True), ("questions:production", True), ("questions:2026", False)],
)
def test_only_what_can_move_is_followed(
    store: Store, model: str, is_followed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWISE_MODEL", model)
    assert followed(load_settings()) is is_followed


def test_a_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_MODEL", str(make_artifact(tmp_path / "artifact")))
    assert not followed(load_settings())


def test_a_version_that_cannot_be_loaded_is_tried_again_after_ever_longer_times(
    following: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(switching, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    first, second, third = following.versions

    async def test(switch: Switch) -> None:
        following.broken = {second}
        following.store.promote(f"questions:{second}")
        tries = []
        for _ in range(100):
            before = len(following.loaded)
            await switch.look()
            if len(following.loaded) > before:
                tries.append(clock[0] - 1000)
            clock[0] += 1
        assert tries == [0, 5, 15, 35, 75]
        assert following.live == first
        assert switch.problem == f"questions:production cannot be followed, {first} goes on: its weights are damaged"
        # The pointer moves: at once, and the times are short again.
        following.store.promote(f"questions:{third}")
        await switch.look()
        assert (following.live, switch.problem) == (third, None)
        following.store.rollback("questions")
        await switch.look()
        assert following.live == third
        following.broken = set()
        clock[0] += 5
        await switch.look()
        assert (following.live, switch.problem) == (second, None)

    following.run(test)


def test_a_shadow_is_loaded_for_each_pair_and_one_that_cannot_be_leaves_the_champion_alone(
    following: Followed,
) -> None:
    first, second, third = following.versions

    async def test(switch: Switch) -> None:
        following.store.cast_shadow(f"questions:{second}", 0.25)
        await switch.look()
        assert following.shadows[-1] == (second, 0.25)
        following.store.promote(f"questions:{third}")
        await switch.look()
        assert following.shadows[-2:] == [None, (second, 0.25)]
        following.store.promote(f"questions:{second}")
        await switch.look()
        assert following.shadows[-1] is None
        following.broken = {first}
        following.store.cast_shadow(f"questions:{first}", 0.5)
        await switch.look()
        assert following.live == second
        assert following.shadows[-1] is None
        assert switch.problem == f"questions:{first} cannot shadow it: its weights are damaged"

    following.run(test)


def test_models_that_have_left_are_freed_under_load_without_the_garbage_collector(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [
        store.add(make_series(tmp_path / f"m{size}", hidden_size=size).folder, "prices").version for size in (4, 8)
    ]
    store.promote(f"prices:{versions[0]}")
    monkeypatch.setenv("GATEWISE_MODEL", "prices:production")
    monkeypatch.setattr(switching, "LOOK_SECONDS", 0.01)
    loaded: list[weakref.ref[Any]] = []
    load = registry.load_predictor

    def remember(settings: Any) -> Any:
        predictor = load(settings)
        loaded.append(weakref.ref(predictor))
        return predictor

    monkeypatch.setattr(registry, "load_predictor", remember)
    body = json.dumps({"sequences": [[[0.5, 1.0]] * 20, [[1.0, 2.0]] * 7]}).encode()

    async def test() -> None:
        runtime = Runtime()
        await runtime.open()
        loop = asyncio.get_running_loop()
        answered = [0]

        async def never() -> dict[str, Any]:
            return await loop.create_future()  # type: ignore[no-any-return]

        async def ask() -> None:
            while True:
                await runtime.predict(body, never, loop.time() + 30)
                answered[0] += 1
                await asyncio.sleep(0.001)

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for number in range(20):
            wanted = store.rollback("prices") if number % 2 else store.promote(f"prices:{versions[1]}")
            while runtime.registry.live.identity["version"] != wanted.version:
                await asyncio.sleep(0.01)
            so_far = answered[0]
            while answered[0] < so_far + 20:
                await asyncio.sleep(0.01)
        assert len(loaded) == 21
        assert sum(ref() is not None for ref in loaded) == 1
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await runtime.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(asyncio.wait_for(test(), 200))
    finally:
        gc.enable()
