"""Which model version is live.

A switch is one assignment: a request sees the old model or the new one, never a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gatewise import __version__
from gatewise.errors import InvalidConfig
from service.drift import DriftWatch
from service.errors import NotReady
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from gatewise.predictor import Predictor


@dataclass(frozen=True)
class LiveModel:
    """A predictor that serves, with what it is called and what `GET /model` says of it."""

    predictor: Predictor
    max_timesteps: int
    watch: DriftWatch | None = None
    card: dict[str, Any] = field(init=False)
    channels: int = field(init=False)  # 0 of a model of texts

    def __post_init__(self) -> None:
        card = describe(self.predictor, self.max_timesteps)
        object.__setattr__(self, "card", card)
        object.__setattr__(self, "channels", len(self.predictor.manifest.channels or ()))

    def page(self) -> bytes:
        """The card as it is now, drift included, as JSON."""
        return orjson.dumps({**self.card, "drift": self.watch and self.watch.drift.model_dump()})

    @property
    def identity(self) -> dict[str, str]:
        """What every answer says of the model that gave it."""
        return {"name": self.card["name"], "version": self.card["version"]}


class ModelRegistry:
    """Holds the live model."""

    def __init__(self) -> None:
        self._live: LiveModel | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a model is live; it was replayed before it came here."""
        return self._live is not None

    @property
    def live(self) -> LiveModel:
        """The model that new requests go to.

        Raises:
            NotReady: there is none.
        """
        if self._live is None:
            raise NotReady("no model is loaded yet")
        return self._live

    def switch(self, model: LiveModel | None) -> LiveModel | None:
        """Make a model live, or none; the one before is returned, and finishes the requests that it has."""
        before, self._live = self._live, model
        return before


def load_live(settings: ServiceSettings) -> LiveModel:
    """Load the model that the settings name.

    Raises:
        InvalidConfig: none is named, or the engine and device do not exist.
        GatewiseError: it cannot be found or used; the message says why.
    """
    predictor = load_predictor(settings)
    reference = predictor.drift_reference()
    watch = DriftWatch(predictor, reference, settings.drift_sequences, settings.drift_seconds) if reference else None
    return LiveModel(predictor, settings.max_timesteps, watch)


def load_predictor(settings: ServiceSettings) -> Predictor:
    """Resolve, verify, load and replay the model that the settings name."""
    if settings.model is None:
        raise InvalidConfig(
            "GATEWISE_MODEL: not set; name an artifact's folder or a stored model, such as questions:production"
        )
    # Late, so that the settings can be read and refused without opening the store or ONNX Runtime.
    from gatewise.predictor import Predictor
    from gatewise.store import resolve

    path, version = resolve(settings.model)
    return Predictor.load(Path(path), engine=settings.engine, device=settings.device, version=version)


def describe(predictor: Predictor, max_timesteps: int) -> dict[str, Any]:
    """The model's card."""
    manifest = predictor.manifest
    return {
        "name": manifest.name,
        "version": predictor.version,
        "kind": manifest.kind,
        "task": manifest.task,
        "labels": list(manifest.labels),
        "input": {
            "item": _item_in_words(manifest.kind, manifest.task, manifest.channels),
            "channels": None if manifest.channels is None else list(manifest.channels),
            "allow_missing": manifest.allow_missing,
            "max_length": manifest.max_length,
            "max_timesteps": max_timesteps,
        },
        "abstaining": manifest.abstaining and manifest.abstaining.model_dump(),
        "label_sets": manifest.label_sets and manifest.label_sets.model_dump(),
        "metrics": manifest.metrics,
        "data": manifest.data,
        "created_at": manifest.created_at,
        "digest": manifest.digest,
        "drift": None,
        "engine": predictor.engine_name,
        "device": predictor.engine.device,
        "trained_with": manifest.gatewise_version,
        "gatewise": __version__,
    }


def _item_in_words(kind: str, task: str, channels: tuple[str, ...] | None) -> str:
    if kind == "text":
        return "a string" if task == "sequence" else "a list of tokens, or a string that is split at white space"
    if channels is not None and len(channels) == 1:
        return "a list of readings, [v, v, ...]"
    return f"a list of timesteps, each a list of {len(channels or ())} readings, one for each channel"
