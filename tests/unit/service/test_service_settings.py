from __future__ import annotations

import pytest

from gatewise.errors import InvalidConfig
from service.settings import ServiceSettings, load_settings, settings_for_decorator


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ServiceSettings.model_fields:
        monkeypatch.delenv(f"GATEWISE_{field.upper()}", raising=False)


def test_every_setting_has_a_default() -> None:
    settings = load_settings()
    assert settings == ServiceSettings.model_construct()
    assert (settings.model, settings.engine, settings.workers) == (None, "auto", 1)


def test_each_setting_is_read_from_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "model": "a:b",
        "engine": "onnx",
        "device": "cpu",
        "timeout_seconds": "1.5",
        "queue_seconds": "0.5",
        "drift_seconds": "60.5",
        "trace_sample": "0.5",
        "store_seconds": "2.5",
        "admin_token": "0123456789abcdef0123456789abcdef",
    }
    numbers = {name: "2048" for name in ServiceSettings.model_fields if name not in values} | {"workers": "2"}
    for name, value in (values | numbers).items():
        monkeypatch.setenv(f"GATEWISE_{name.upper()}", value)
    settings = load_settings()
    assert values["admin_token"] not in repr(settings)
    read = {name: str(value) for name, value in settings}
    assert settings.admin_token is not None
    read["admin_token"] = settings.admin_token.get_secret_value()
    assert read == values | numbers


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("GATEWISE_WORKERS", "many", "GATEWISE_WORKERS: input should be a valid integer"),
        ("GATEWISE_WORKERS", "0", "GATEWISE_WORKERS: input should be greater than or equal to 1, got '0'"),
        ("GATEWISE_TIMEOUT_SECONDS", "nan", "GATEWISE_TIMEOUT_SECONDS: "),
        ("GATEWISE_MAX_BODY_BYTES", "-1", "GATEWISE_MAX_BODY_BYTES: "),
        ("GATEWISE_ENGINE", "tensorrt", "GATEWISE_ENGINE: input should be 'auto', 'onnx' or 'torch', got 'tensorrt'"),
        (
            "GATEWISE_MAX_BODY_BYTE",
            "1",
            "GATEWISE_MAX_BODY_BYTE: no such setting; did you mean GATEWISE_MAX_BODY_BYTES?",
        ),
        ("GATEWISE_ADMIN_TOKEN", "secret", "GATEWISE_ADMIN_TOKEN: needs 32 characters or more"),
        ("GATEWISE_XYZ", "1", "GATEWISE_XYZ: no such setting; known are GATEWISE_MODEL, "),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidConfig) as error:
        load_settings()
    assert error.value.message.startswith(message)
    assert "secret" not in error.value.message


@pytest.mark.parametrize(
    "name",
    ["GATEWISE_SERVICE_HOST", "GATEWISE_SERVICE_PORT_HTTP", "GATEWISE_PORT", "GATEWISE_PORT_3000_TCP_ADDR"],
)
def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:3000")
    assert load_settings() == ServiceSettings.model_construct()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_DEVICE", "")
    assert load_settings().device is None


@pytest.mark.parametrize(
    ("engine", "sees_gpu", "device"),
    [("auto", True, "cuda"), ("torch", True, "cuda"), ("onnx", True, None), ("auto", False, None)],
)
def test_device_auto_is_cuda_where_torch_runs_and_sees_a_gpu(
    engine: str, sees_gpu: bool, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_engine = pytest.importorskip("gatewise.torch_engine")
    monkeypatch.setattr(torch_engine, "sees_gpu", lambda: sees_gpu)
    monkeypatch.setenv("GATEWISE_DEVICE", "auto")
    monkeypatch.setenv("GATEWISE_ENGINE", engine)
    assert load_settings().device == device


def test_device_auto_is_the_cpu_where_torch_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("GATEWISE_DEVICE", "auto")
    assert load_settings().device is None


def test_the_decorator_gets_defaults_where_the_settings_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_WORKERS", "many")
    assert settings_for_decorator().workers == 1
    monkeypatch.setenv("GATEWISE_WORKERS", "3")
    assert settings_for_decorator().workers == 3
