"""A store that machines share: one pointer for all, whoever moves it, and nothing that is not whole."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from gatewise import shared
from gatewise.errors import ArtifactError, InvalidConfig, ModelConflict, ModelNotFound, StoreUnavailable
from gatewise.store import Store, resolve
from tests.unit.gatewise.test_store import make_artifact

_numbers = itertools.count()


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield (tmp_path / "remote").as_uri()
        return
    address = f"memory://store{next(_numbers)}"
    yield address
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def publisher(url: str, tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher", url)


@pytest.fixture
def replica(url: str, tmp_path: Path) -> Store:
    return Store(tmp_path / "replica", url)


@pytest.fixture
def versions(publisher: Store, tmp_path: Path) -> list[str]:
    """Three versions that only the publisher holds."""
    return [
        publisher.add(make_artifact(tmp_path / f"artifact{size}", size=size), "questions").version for size in (1, 2, 3)
    ]


def test_a_replica_gets_the_pointer_and_the_version_that_it_names(
    publisher: Store, replica: Store, versions: list[str]
) -> None:
    assert not replica.pull("questions")
    publisher.promote(f"questions:{versions[0]}")
    publisher.promote(f"questions:{versions[1]}")
    assert replica.pull("questions")
    assert not replica.pull("questions")
    here, there = replica.get("questions:production"), publisher.get("questions:production")
    assert here.version == there.version == versions[1]
    assert {path.name: path.read_bytes() for path in here.path.iterdir()} == {
        path.name: path.read_bytes() for path in there.path.iterdir()
    }
    # What is not needed is not downloaded.
    assert [version.version for version in replica.list("questions")] == [versions[1]]
    assert replica.history("questions") == publisher.history("questions")


def test_whoever_rolls_back_rolls_all_back(publisher: Store, replica: Store, versions: list[str]) -> None:
    for version in versions:
        publisher.promote(f"questions:{version}")
    replica.pull("questions")
    assert replica.rollback("questions").version == versions[1]
    assert publisher.pull("questions")
    assert publisher.get("questions:production").version == versions[1]
    assert publisher.rollback("questions").version == versions[0]
    with pytest.raises(ModelConflict, match="no version"):
        publisher.rollback("questions")


def test_a_shadow_is_brought_with_the_pointer(publisher: Store, replica: Store, versions: list[str]) -> None:
    publisher.promote(f"questions:{versions[0]}")
    publisher.cast_shadow(f"questions:{versions[2]}", 0.5)
    replica.pull("questions")
    shadow = replica.shadow("questions")
    assert shadow is not None
    assert (shadow.version, shadow.sample) == (versions[2], 0.5)
    assert replica.get(f"questions:{versions[2]}").is_production is False
    assert replica.end_shadow("questions")
    publisher.pull("questions")
    assert publisher.shadow("questions") is None


def test_two_publishers_at_once_leave_one_history_in_which_no_move_is_lost(
    publisher: Store, replica: Store, versions: list[str]
) -> None:
    for version in versions:
        publisher.promote(f"questions:{version}")
        replica.pull("questions")
    begun = len(publisher.history("questions"))
    moved = {publisher: 0, replica: 0}

    def promote(store: Store, first: int) -> None:
        for i in range(10):
            moved[store] += store.promote(f"questions:{versions[(first + i) % 2]}").changed

    threads = [threading.Thread(target=promote, args=(store, i)) for i, store in enumerate(moved)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.pull("questions")
    replica.pull("questions")
    history = publisher.history("questions")[::-1]
    assert history == replica.history("questions")[::-1]
    assert all(later.previous == earlier.version for earlier, later in itertools.pairwise(history))
    assert len(history) - begun == sum(moved.values()) > 0


def test_the_loser_of_a_race_moves_again_from_what_the_winner_left(
    publisher: Store, replica: Store, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.promote(f"questions:{versions[0]}")
    replica.pull("questions")
    publisher.promote(f"questions:{versions[0]}")
    write, raced = shared._create, []

    def write_second(files: object, path: str, data: bytes) -> None:
        if not raced:
            raced.append(path)
            publisher.promote(f"questions:{versions[1]}")
        write(files, path, data)

    monkeypatch.setattr(shared, "_create", write_second)
    publisher_first = replica.cast_shadow  # a move of another kind, so that both can be seen
    replica.import_(str(publisher.get(f"questions:{versions[2]}").path))
    publisher_first(f"questions:{versions[2]}", 0.1)
    assert replica.get("questions:production").version == versions[1]
    shadow = replica.shadow("questions")
    assert shadow is not None
    assert shadow.version == versions[2]


def test_a_version_damaged_on_its_way_leaves_the_replica_as_it_was(
    publisher: Store, replica: Store, versions: list[str], url: str
) -> None:
    publisher.promote(f"questions:{versions[0]}")
    replica.pull("questions")
    publisher.promote(f"questions:{versions[1]}")
    archive = f"{url}/questions/{versions[1]}.tar.gz"
    with fsspec.open(archive, "rb") as file:
        data = file.read()
    with fsspec.open(archive, "wb") as file:
        file.write(data[: len(data) // 2])
    with pytest.raises(ArtifactError):
        replica.pull("questions")
    assert replica.get("questions:production").version == versions[0]
    with fsspec.open(archive, "wb") as file:
        file.write(data)
    assert replica.pull("questions")
    assert replica.get("questions:production").version == versions[1]


def test_while_the_shared_store_is_away_nothing_moves_and_what_is_here_is_taken(
    publisher: Store, versions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.promote(f"questions:{versions[0]}")
    # A file stands where the store's folder should be.
    (tmp_path / "file").write_text("")
    broken = (tmp_path / "file" / "store").as_uri()
    away = Store(publisher.home, broken)
    with pytest.raises(StoreUnavailable, match="cannot be used now"):
        away.promote(f"questions:{versions[1]}")
    with pytest.raises(StoreUnavailable):
        away.pull("questions")
    monkeypatch.setenv("GATEWISE_STORE", broken)
    assert resolve("questions:production", home=publisher.home)[1] == versions[0]


def test_a_new_machine_finds_production_by_its_name_alone(
    publisher: Store, versions: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.promote(f"questions:{versions[1]}")
    monkeypatch.setenv("GATEWISE_STORE", url)
    path, version = resolve("questions:production", home=tmp_path / "new")
    assert version == versions[1]
    assert path.is_relative_to(tmp_path / "new")
    with pytest.raises(ModelNotFound):
        resolve("answers:production", home=tmp_path / "new")


def test_one_process_of_a_machine_asks_the_shared_store(replica: Store, url: str) -> None:
    with (
        replica.following("questions"),
        pytest.raises(ModelConflict, match="another process"),
        Store(replica.home, url).following("questions"),
    ):
        pass
    with Store(replica.home, url).following("questions"):
        pass


def test_a_shared_store_is_a_url() -> None:
    with pytest.raises(InvalidConfig, match="GATEWISE_STORE: '/some/folder' is no URL"):
        Store(shared="/some/folder")
