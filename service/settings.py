"""What an operator may set: every `GATEWISE_*` environment variable, read once by `load_settings`."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gatewise.errors import InvalidConfig

PREFIX = "GATEWISE_"
_MEBIBYTE = 1024 * 1024
_TOKEN_LENGTH = 32

# Kubernetes gives every container such variables for each Service of the namespace, and one may be called `gatewise`:
# GATEWISE_SERVICE_HOST, GATEWISE_PORT, GATEWISE_PORT_3000_TCP_ADDR. They are no settings, and no field may end so.
_FROM_KUBERNETES = re.compile(
    r"GATEWISE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class ServiceSettings(BaseSettings):
    """The service's settings; `model` is `GATEWISE_MODEL`, and so on. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    model: str | None = Field(
        default=None, description="an artifact's folder, or name, name:version or name:production from the store"
    )
    store: str | None = Field(
        default=None,
        description="URL of a store that many machines share, such as s3://bucket/models; name:production is followed "
        "there, and what is served is kept in this machine's own",
    )
    store_seconds: float = Field(
        default=2.0, ge=0.1, le=3600, description="how often a machine asks the shared store for the pointer"
    )
    admin_token: SecretStr | None = Field(
        default=None,
        min_length=_TOKEN_LENGTH,
        description="bearer token of POST /admin/promote and /admin/rollback, 32 characters or more, such as `openssl "
        "rand -hex 32` gives; without one these routes do not exist",
    )
    database: str | None = Field(
        default=None,
        description="where feedback is kept: sqlite:////an/absolute/path.db or postgresql://user:password@host/name; "
        "by default an SQLite file beside the stored models, made when the first feedback comes",
    )
    engine: Literal["auto", "onnx", "torch"] = Field(default="auto", description="what runs the network")
    device: str | None = Field(
        default=None,
        description="device of the torch engine, such as cuda; auto is cuda where torch is installed and sees a GPU; "
        "the CPU by default",
    )
    workers: int = Field(default=1, ge=1, le=256, description="processes, each with its own model and queue")
    timeout_seconds: float = Field(
        default=30.0, ge=0.01, le=3600, description="a request's whole time, from its first byte to its answer"
    )
    max_body_bytes: int = Field(default=10 * _MEBIBYTE, ge=1024, le=1024 * _MEBIBYTE, description="one request's body")
    max_pending_bytes: int = Field(
        default=256 * _MEBIBYTE,
        ge=1024,
        description="bodies and unread answers held at once by a worker; beyond it requests get 429",
    )
    max_sequences: int = Field(default=4096, ge=1, le=1_000_000, description="sequences in one request")
    max_timesteps: int = Field(default=32_768, ge=1, le=10_000_000, description="timesteps of one encoded sequence")
    queue_steps: int = Field(
        default=1_000_000, ge=1, description="timesteps that wait for a worker's model; beyond it requests get 429"
    )
    queue_seconds: float = Field(
        default=0.15,
        gt=0,
        le=3600,
        description="a request that would wait longer for the model, or ten times its own work, gets 429 at once",
    )
    max_batch_items: int | None = Field(
        default=None, ge=1, le=4096, description="sequences in one batch; 32 on the CPU and 256 elsewhere by default"
    )
    max_batch_steps: int = Field(
        default=32_768, ge=1, description="timesteps in one batch, padding counted; one longer sequence runs alone"
    )
    drift_sequences: int = Field(
        default=10_000, ge=1_000, le=10_000_000, description="sequences in a worker's window of drift, at most"
    )
    drift_seconds: float = Field(default=86_400.0, ge=1, description="age of the sequences in that window, at most")
    trace_sample: float = Field(
        default=0.01, ge=0, le=1, description="share of requests that are traced where their caller does not say"
    )


def load_settings(environ: Mapping[str, str] | None = None) -> ServiceSettings:
    """Read the settings from the environment.

    Args:
        environ: where unknown names are looked for; the process's environment by default.
    Raises:
        InvalidConfig: a variable is wrong or unknown; the message begins with its name.
    """
    _refuse_unknown(os.environ if environ is None else environ)
    try:
        return _with_device(ServiceSettings())
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(map(str, first["loc"])).upper()
        if first["loc"] == ("admin_token",):  # which nobody may read in a log
            raise InvalidConfig(
                f"{name}: needs {_TOKEN_LENGTH} characters or more; try: openssl rand -hex 32"
            ) from None
        raise InvalidConfig(f"{name}: {_lower_first(first['msg'])}, got {first['input']!r}") from None


def settings_for_decorator() -> ServiceSettings:
    """The settings for what BentoML must know when the class is defined, or the defaults where they are wrong.

    An import is no place to fail: the deployment hook reads them again, and says what is wrong.
    """
    try:
        return load_settings()
    except InvalidConfig:
        return ServiceSettings.model_construct()


def _with_device(settings: ServiceSettings) -> ServiceSettings:
    """The same settings, with `auto` made out."""
    if settings.device != "auto":
        return settings
    return settings.model_copy(update={"device": "cuda" if settings.engine != "onnx" and _sees_gpu() else None})


def _sees_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    from gatewise import torch_engine

    return torch_engine.sees_gpu()


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [PREFIX + field.upper() for field in ServiceSettings.model_fields]
    for name in environ:
        unknown = name.startswith(PREFIX) and name not in known
        if unknown and not _FROM_KUBERNETES.fullmatch(name):
            near = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), ServiceSettings.model_fields, n=1)
            mend = f"did you mean {PREFIX}{near[0].upper()}?" if near else f"known are {', '.join(known)}"
            raise InvalidConfig(f"{name}: no such setting; {mend}")


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]
