"""Drift for a person at a terminal: each measure's histogram then and now, and what moved it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence

import numpy as np
import orjson
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from gatewise.drift import (
    ENOUGH,
    MAJOR,
    MODERATE,
    Drift,
    DriftReference,
    Histogram,
    Measured,
    stability_terms,
)
from gatewise.errors import ArtifactMissing, InvalidConfig, ModelConflict
from gatewise.predictor import Predictor

# What to do about a model that was made without, as an imported one is.
NO_STATISTICS = "They are of rows that training holds out, which an imported model has none of: gatewise train DATA"
_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLOURS = {"major": "red", "moderate": "yellow"}
_TIMEOUT_SECONDS = 10.0


def fetch(url: str, predictor: Predictor) -> Drift:
    """Ask a running service for its drift.

    Raises:
        InvalidConfig: there is no Gatewise at the URL.
        ModelConflict: it serves another model than this one.
        ArtifactMissing: it tells no drift.
    """
    page = f"{url.rstrip('/')}/model"
    if not page.startswith(("http://", "https://")):
        raise InvalidConfig(f"--url: {url!r} does not begin with http:// or https://")
    try:
        with urllib.request.urlopen(page, timeout=_TIMEOUT_SECONDS) as response:
            card = orjson.loads(response.read())
        digest, told = card["digest"], card["drift"]
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"--url: no model answers at {page}: {error}") from None
    except (KeyError, TypeError):
        raise InvalidConfig(f"--url: what answers at {page} tells no drift; is it this Gatewise?") from None
    if digest != predictor.manifest.digest:
        raise ModelConflict(
            f"the service at {url} serves {card['name']}:{card['version']}, which is not this model; name that one"
        )
    if told is None:
        raise ArtifactMissing(f"the service at {url} serves a model without drift statistics. {NO_STATISTICS}")
    try:
        return Drift.model_validate(told)
    except ValidationError:
        raise InvalidConfig(f"--url: what answers at {page} tells drift otherwise; use its own Gatewise") from None


def drift_table(reference: DriftReference, drift: Drift, labels: Sequence[str]) -> Table:
    """A row for each measure, the one that moved most first."""
    caption = (
        f"PSI above {MODERATE} and above chance is moderate, above {MAJOR} major; told from {ENOUGH} sequences on. "
        "Bins run from low to high"
    )
    table = Table("measure", "PSI", "chance", "state", "reference", "now", "what moved most", caption=caption)
    for name, one in _by_movement(drift):
        bins = reference.histograms[name]
        state = Text(one.state, style=_COLOURS.get(one.state, ""))
        moved = _moved(bins, one, labels)
        table.add_row(
            Text(name), f"{one.psi:.3f}", f"{one.chance:.3f}", state, blocks(bins.shares), blocks(one.now), Text(moved)
        )
    return table


def worst(drift: Drift) -> str:
    """The measure that moved most."""
    return _by_movement(drift)[0][0]


def blocks(shares: Sequence[float]) -> str:
    """A histogram in characters: an empty bin is blank, and the fullest one a whole block."""
    heights = np.ceil(8 * np.array(shares) / max(*shares, 1e-12)).astype(int)
    return "".join(_BLOCKS[height] for height in heights) if len(shares) > 1 else _BLOCKS[-1]


def _by_movement(drift: Drift) -> list[tuple[str, Measured]]:
    return sorted(drift.measures.items(), key=lambda pair: -pair[1].psi / max(MODERATE, pair[1].chance))


def _moved(bins: Histogram, one: Measured, labels: Sequence[str]) -> str:
    most = int(stability_terms(bins.shares, one.now).argmax())
    return f"{bins.bin_names(labels)[most]}: {bins.shares[most]:.1%} -> {one.now[most]:.1%}"
