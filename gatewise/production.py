"""Which version of a model is in production, which shadows it, and what was before: one small JSON file a model.

BentoML's store has no stages. The file lies beside it; readers need no lock, because it is only ever replaced whole.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatewise.durable import replace_text
from gatewise.errors import ModelConflict


class Promotion(BaseModel):
    """One move of the pointer: from `previous` to `version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    previous: str | None
    action: Literal["promote", "rollback"]
    at: datetime


class Shadow(BaseModel):
    """A challenger that answers a copy of some requests, which nobody is given.

    Attributes:
        sample: share of the requests that are copied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    sample: float = Field(gt=0, le=1)


class PointerState(BaseModel):
    """What the pointer's file says.

    Attributes:
        stack: the versions that a rollback goes back through; the last is production.
        history: every move, oldest first.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    stack: list[str] = []
    history: list[Promotion] = []
    shadow: Shadow | None = None

    @property
    def version(self) -> str | None:
        """The version in production, None before the first promotion."""
        return self.stack[-1] if self.stack else None

    def promote(self, version: str) -> bool:
        """Point at `version`, which shadows no longer; False when nothing changed."""
        was_shadow = self.shadow is not None and self.shadow.version == version
        if was_shadow:
            self.shadow = None
        previous = self.version
        if previous == version:
            return was_shadow
        self.stack.append(version)
        self._record("promote", version, previous)
        return True

    def rollback(self, name: str, is_stored: Callable[[str], bool]) -> bool:
        """Point at what was production before, passing over versions deleted since.

        Raises:
            ModelConflict: there is none.
        """
        if not self.stack:
            raise ModelConflict(f"{name!r} was never promoted, so there is nothing to roll back")
        previous = self.stack.pop()
        while self.stack and (self.stack[-1] == previous or not is_stored(self.stack[-1])):
            self.stack.pop()
        if not self.stack:
            raise ModelConflict(
                f"no version of {name!r} was in production before {previous} and is still stored; "
                f"promote the version that you want instead"
            )
        version = self.stack[-1]
        if self.shadow is not None and self.shadow.version == version:
            self.shadow = None
        self._record("rollback", version, previous)
        return True

    def cast_shadow(self, shadow: Shadow | None) -> bool:
        """Let a challenger shadow production, or none; False when nothing changed.

        Raises:
            ModelConflict: it is production itself, or nothing is in production.
        """
        if shadow is not None and self.version is None:
            raise ModelConflict("nothing is in production that it could shadow; promote a version first")
        if shadow is not None and shadow.version == self.version:
            raise ModelConflict(f"{shadow.version} is production, and a shadow is another version")
        if self.shadow == shadow:
            return False
        self.shadow = shadow
        return True

    def to_json(self) -> str:
        """As it stands in the file."""
        return self.model_dump_json(indent=1) + "\n"

    def _record(self, action: Literal["promote", "rollback"], version: str, previous: str | None) -> None:
        self.history.append(Promotion(version=version, previous=previous, action=action, at=datetime.now(UTC)))


class ProductionPointer:
    """The pointer of one model on this machine. Whoever moves it holds the model's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> PointerState:
        """What it says now.

        Raises:
            ModelConflict: the file is damaged.
        """
        try:
            return PointerState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return PointerState()
        except ValidationError:
            raise ModelConflict(f"{self.path} is damaged; promote a version of the model to write it anew") from None

    def read_or_begin(self) -> PointerState:
        """What it says now; a damaged file is set aside and begun anew."""
        try:
            return self.read()
        except ModelConflict:
            self.path.replace(self.path.with_suffix(".damaged"))
            return PointerState()

    def write(self, state: PointerState) -> None:
        """Replace what it says."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, state.to_json())
