"""`gatewise models promote --shadow` and `gatewise models compare`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gatewise.cli import main
from gatewise.shadow import Comparison
from gatewise.store import Store
from tests.unit.gatewise.test_store import make_artifact


def gatewise(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return [Store().add(make_artifact(tmp_path / f"a{i}", size=i + 1), "questions").version for i in range(2)]


def test_a_shadow_is_cast_listed_and_ended(versions: list[str]) -> None:
    first, second = versions
    assert gatewise("promote", f"questions:{first}").exit_code == 0
    cast = gatewise("promote", f"questions:{second}", "--shadow", "--sample", "0.25")
    assert cast.output.splitlines()[0] == f"questions:{second} shadows questions:production, for 0.25 of the requests"
    assert "shadow" in gatewise("list").output
    assert gatewise("promote", "questions", "--no-shadow").output == "nothing shadows questions any more\n"
    assert gatewise("promote", "questions", "--no-shadow").output == "nothing shadows questions\n"
    refused = gatewise("promote", f"questions:{first}", "--shadow")
    assert (refused.exit_code, "is production" in refused.output) == (4, True)


def test_what_shadows_found_is_shown_as_a_table_and_as_json(versions: list[str]) -> None:
    first, second = versions
    nothing = gatewise("compare", "questions")
    assert (nothing.exit_code, "--shadow" in nothing.output) == (4, True)
    found = Comparison(champion=first, challenger=second, failed=1, dropped=2)
    for label in ("NUM", "NUM", "NUM", "LOC"):
        found.add([label], ["NUM"])
        found.champion_seconds.add(0.002)
        found.challenger_seconds.add(0.001)
    Store().comparisons("questions").add(found)
    shown = gatewise("compare", "questions").output
    assert shown.splitlines() == [
        f"{second} beside {first}",
        "  rows 4, failed 1, requests dropped 2",
        "  agreement 75.0% (30.1% to 95.4% at 95 %)",
        "  engine ms       mean      p50      p99",
        "    champion       2.00     2.00     2.00",
        "    challenger     1.00     1.00     1.00",
        "       1 x LOC -> NUM",
    ]
    [told] = json.loads(gatewise("compare", "questions", "--json").output)
    assert (told["rows"], told["agreement"], told["failed"], told["dropped"]) == (4, 0.75, 1, 2)
    assert told["differences"] == {"LOC": {"NUM": 1}}
    assert told["champion_ms"]["mean"] == pytest.approx(2.0)
    assert told["challenger_ms"]["p50"] == pytest.approx(1.0, rel=0.025)
