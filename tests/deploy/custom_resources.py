"""Strict schemas for the resources that are not Kubernetes' own, as far as our manifests use them.

Field names are those of prometheus-operator's monitoring.coreos.com/v1 and KServe's serving.kserve.io/v1beta1. A field
that is not here fails: who needs it looks it up there, and adds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]


def _object(fields: Schema, required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": fields, "required": list(required)}


_TEXT = {"type": "string"}
_DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
_NAMES = {"type": "object", "additionalProperties": _TEXT}
_META = _object({"name": _TEXT, "namespace": _TEXT, "labels": _NAMES, "annotations": _NAMES}, ["name"])

SERVICE_MONITOR = _object(
    {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": _META,
        "spec": _object(
            {
                "selector": _object({"matchLabels": _NAMES}),
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object(
                        {"port": _TEXT, "path": _TEXT, "interval": _DURATION, "scrapeTimeout": _DURATION}, ["port"]
                    ),
                },
            },
            ["selector", "endpoints"],
        ),
    },
    ["apiVersion", "kind", "metadata", "spec"],
)

# Beside these a predictor has the fields of a pod.
PREDICTOR_FIELDS = {
    "minReplicas": {"type": "integer", "minimum": 0},
    "maxReplicas": {"type": "integer", "minimum": 1},
    "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
    "scaleTarget": {"type": "integer", "minimum": 1},
    "timeout": {"type": "integer", "minimum": 1},
}

INFERENCE_SERVICE = _object(
    {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": _META,
        "spec": _object({"predictor": _object(PREDICTOR_FIELDS)}, ["predictor"]),
    },
    ["apiVersion", "kind", "metadata", "spec"],
)
