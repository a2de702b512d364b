"""Which version of a model is in production, and what was before: one small JSON file a model.

BentoML's store has no stages. The file lies beside it; readers need no lock, because it is only ever replaced whole.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gatewise.durable import replace_text
from gatewise.errors import ModelConflict


class Promotion(BaseModel):
    """One move of the pointer: from `previous` to `version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    previous: str | None
    action: Literal["promote", "rollback"]
    at: datetime


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    # The versions that a rollback goes back through; the last is production.
    stack: list[str] = []
    history: list[Promotion] = []


class ProductionPointer:
    """The pointer of one model. Whoever moves it holds the model's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def version(self) -> str | None:
        """The version in production, None before the first promotion.

        Raises:
            ModelConflict: the file is damaged.
        """
        stack = self._read().stack
        return stack[-1] if stack else None

    def history(self) -> list[Promotion]:
        """Every move, newest first."""
        return self._read().history[::-1]

    def promote(self, version: str) -> bool:
        """Point at `version`; False when it does already. A damaged file is set aside and begun anew."""
        try:
            state = self._read()
        except ModelConflict:
            self.path.replace(self.path.with_suffix(".damaged"))
            state = _State()
        previous = state.stack[-1] if state.stack else None
        if previous == version:
            return False
        state.stack.append(version)
        self._record(state, Promotion(version=version, previous=previous, action="promote", at=datetime.now(UTC)))
        return True

    def rollback(self, is_stored: Callable[[str], bool]) -> str:
        """Point at what was production before, passing over versions deleted since.

        Raises:
            ModelConflict: there is none.
        """
        state = self._read()
        if not state.stack:
            raise ModelConflict(f"{self.path.stem!r} was never promoted, so there is nothing to roll back")
        previous = state.stack.pop()
        while state.stack and (state.stack[-1] == previous or not is_stored(state.stack[-1])):
            state.stack.pop()
        if not state.stack:
            raise ModelConflict(
                f"no version of {self.path.stem!r} was in production before {previous} and is still stored; "
                f"promote the version that you want instead"
            )
        version = state.stack[-1]
        self._record(state, Promotion(version=version, previous=previous, action="rollback", at=datetime.now(UTC)))
        return version

    def _record(self, state: _State, promotion: Promotion) -> None:
        state.history.append(promotion)
        replace_text(self.path, state.model_dump_json(indent=1) + "\n")

    def _read(self) -> _State:
        try:
            return _State.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return _State()
        except ValidationError:
            raise ModelConflict(f"{self.path} is damaged; promote a version of the model to write it anew") from None
