"""Where each system's answer holds the class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson


def _gatewise(body: bytes) -> Any:
    return list(orjson.loads(body)["predictions"][0]["probabilities"].values())


def _gatewise_each(body: bytes) -> Any:
    return [list(prediction["probabilities"].values()) for prediction in orjson.loads(body)["predictions"]]


def _plain(body: bytes) -> Any:
    return orjson.loads(body)["probabilities"]


def _bare(body: bytes) -> Any:
    return orjson.loads(body)


def _v2(body: bytes) -> Any:
    return orjson.loads(body)["outputs"][0]["data"]


READERS: dict[str, Callable[[bytes], Any]] = {
    "gatewise": _gatewise,
    "gatewise each": _gatewise_each,
    "plain": _plain,
    "bare": _bare,
    "v2": _v2,
}
