"""The administrator's routes: who may use them, what they take, and that they are not there without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewise.store import Store
from tests.unit.gatewise.test_store import make_artifact
from tests.unit.service.serving import serving

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two versions of `questions`, the first in production."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    found = [Store().add(make_artifact(tmp_path / f"a{i}", size=i + 1), "questions").version for i in range(2)]
    Store().promote(f"questions:{found[0]}")
    return found


def asked(
    monkeypatch: pytest.MonkeyPatch, test: Callable[[httpx.AsyncClient], Awaitable[None]], **settings: object
) -> None:
    async def whole() -> None:
        async with serving(
            monkeypatch, **{"model": "questions:production", "admin_token": TOKEN, **settings}
        ) as client:
            await test(client)

    asyncio.run(asyncio.wait_for(whole(), 60))


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"authorization": "Basic Zm9vOmJhcg=="}, 401, "unauthorized"),
        ({"authorization": TOKEN}, 401, "unauthorized"),
        ({"authorization": "Bearer"}, 403, "forbidden"),
        ({"authorization": f"Bearer {TOKEN}0"}, 403, "forbidden"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 403, "forbidden"),
        ({"authorization": "Bearer é".encode("latin-1").decode("latin-1")}, 403, "forbidden"),
    ],
)
@pytest.mark.parametrize("route", ["promote", "rollback"])
def test_nobody_passes_without_the_token(
    route: str, headers: dict[str, str], status: int, code: str, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        response = await client.post(f"/admin/{route}", headers=encoded, json={"version": versions[1]})
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)

    asked(monkeypatch, test)
    assert Store().get("questions:production").version == versions[0]


def test_without_a_token_set_the_routes_do_not_exist(versions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for route in ("/admin/promote", "/admin/rollback"):
            response = await client.post(route, headers=BEARER, json={"version": versions[1]})
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
            assert "admin" not in response.json()["error"].partition(";")[2]
        paths = (await client.get("/docs.json")).json()["paths"]
        assert not [path for path in paths if "admin" in path]

    asked(monkeypatch, test, admin_token="")


def test_a_promotion_and_a_rollback_answer_with_what_was_and_what_is(
    versions: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = versions

    async def test(client: httpx.AsyncClient) -> None:
        def moved(version: str, previous: str, changed: bool = True) -> dict[str, Any]:
            return {"model": {"name": "questions", "version": version}, "previous": previous, "changed": changed}

        post = client.post
        assert (await post("/admin/promote", headers=BEARER, json={"version": second})).json() == moved(second, first)
        assert Store().get("questions:production").version == second
        again = await post("/admin/promote", headers=BEARER, json={"model": f"questions:{second}"})
        assert again.json() == moved(second, second, changed=False)
        assert (await post("/admin/rollback", headers=BEARER)).json() == moved(first, second)
        assert (await client.get("/admin/promote")).status_code == 405
        paths = (await client.get("/docs.json")).json()["paths"]
        assert paths["/admin/promote"]["post"]["security"] == [{"admin": []}]

    with caplog.at_level("INFO", logger="gatewise.service"):
        asked(monkeypatch, test)
    said = [record.message for record in caplog.records if "/admin/" in record.message]
    assert said[0] == f"/admin/promote: the production pointer of questions went from {first} to {second}"
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("route", "body", "status", "code", "loc"),
    [
        ("promote", b"", 400, "malformed_json", ["body", 0]),
        ("promote", b"{", 400, "malformed_json", ["body", 1]),
        ("promote", b"[]", 422, "invalid_request", []),
        ("promote", b"{}", 422, "invalid_request", ["version"]),
        ("promote", b'{"model": "questions"}', 422, "invalid_request", ["version"]),
        ("promote", b'{"version": 3}', 422, "invalid_request", ["version"]),
        ("promote", b'{"version": "2", "model": "questions:2"}', 422, "invalid_request", ["version"]),
        ("promote", b'{"version": "2", "shadow": true}', 422, "invalid_request", ["shadow"]),
        ("promote", b'{"version": "nothing"}', 404, "model_not_found", None),
        ("promote", b'{"version": "../../etc"}', 404, "model_not_found", None),
        ("promote", b'{"model": "answers:2026"}', 404, "model_not_found", None),
        ("rollback", b'{"version": "2"}', 422, "invalid_request", ["version"]),
        ("rollback", b'{"model": "questions:2"}', 422, "invalid_request", ["model"]),
        ("rollback", b"{}", 409, "model_conflict", None),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    route: str,
    body: bytes,
    status: int,
    code: str,
    loc: list[str | int] | None,
    versions: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        response = await client.post(f"/admin/{route}", headers=BEARER, content=body)
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert [detail["loc"] for detail in response.json()["details"]][:1] == ([loc] if loc is not None else [])

    asked(monkeypatch, test)
    assert Store().get("questions:production").version == versions[0]


def test_a_damaged_version_and_a_service_that_follows_nothing_are_conflicts(
    versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (Store().get(f"questions:{versions[1]}").path / "model.onnx").write_bytes(b"damaged")

    async def promote(client: httpx.AsyncClient) -> None:
        response = await client.post("/admin/promote", headers=BEARER, json={"version": versions[1]})
        assert (response.status_code, response.json()["code"]) == (409, "model_conflict")
        reasons.append(response.json()["error"])

    reasons: list[str] = []
    asked(monkeypatch, promote)
    asked(monkeypatch, promote, model=f"questions:{versions[0]}")
    assert "model.onnx" in reasons[0]
    assert reasons[1] == f"GATEWISE_MODEL is questions:{versions[0]}, which no promotion moves; serve NAME:production"
