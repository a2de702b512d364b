"""The flags of a training that are settings of it."""

from __future__ import annotations

import re
from typing import Any

from gatewise.errors import InvalidConfig

# Flags of `train` that are settings of the same name.
_SETTING_FLAGS = (
    *("preset", "seed", "seeds", "epochs", "batch_size", "precision", "wide"),
    *("search", "max_latency_ms", "max_size_mb", "needs_streaming"),
    *("target_precision", "coverage", "folds", "examples"),
)


def settings_of(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings that the user gave: of --config, then --set, then the flags.

    Raises:
        InvalidConfig: one is unknown or does not fit, with its name.
    """
    from training.config import check_settings, read_toml

    settings: dict[str, Any] = read_toml(flags["config_file"]) if flags["config_file"] else {}
    for assignment in flags["assignments"]:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidConfig(f"--set: {assignment!r} is not NAME=VALUE")
        settings |= check_settings({name.strip(): _value(value.strip())}, "--set")
    given = {name: flags[name] for name in _SETTING_FLAGS if flags.get(name) is not None}
    if flags.get("sizes"):
        given["sizes"] = tuple(part.strip() for part in flags["sizes"].split(","))
    if flags["cells"]:
        given["cells"] = tuple(part.strip().lower() for part in flags["cells"].split(","))
    return settings | check_settings(given, "flags")


def _value(text: str) -> Any:
    """A setting's value from the command line: a TOML value, or a word or words that need no quotes there."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return tuple(part.strip() for part in text.split(",")) if "," in text else text


def seconds_of(text: str | None) -> float | None:
    """The seconds of a --max-time.

    Raises:
        InvalidConfig: it is no time.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise InvalidConfig(f"--max-time: {text!r} is not a time; say 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
