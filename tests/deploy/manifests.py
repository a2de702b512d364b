"""The Kubernetes manifests, rendered by kustomize and held to strict schemas."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.custom_resources import INFERENCE_SERVICE, PREDICTOR_FIELDS, SERVICE_MONITOR

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("local", "gpu", "production", "kserve")
# The oldest release whose fields we use, and the newest that the validator knows.
RELEASES = ("1.29", "1.37")

Resource = dict[str, Any]


def render(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    own = Path(sys.executable).with_name("kubectl")
    kubectl = own if own.exists() else shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here, and PyPI has none for this machine", allow_module_level=True)
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def check(resource: Resource, release: str = RELEASES[-1]) -> None:
    """Hold a resource to its schema: no unknown kind, no unknown field.

    Raises:
        ValueError: it is not what Kubernetes takes; the message names the place.
    """
    try:
        if resource.get("kind") == "ServiceMonitor":
            jsonschema.validate(resource, SERVICE_MONITOR)
        elif resource.get("kind") == "InferenceService":
            _check_inference_service(resource, release)
        else:
            kubernetes_validate.validate(resource, release, strict=True)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
        raise ValueError(f"{resource.get('kind')}: {error.message} at {list(error.path)}") from None
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        raise ValueError(f"no such kind: {error}") from None


def _check_inference_service(resource: Resource, release: str) -> None:
    own = copy.deepcopy(resource)
    predictor = own.get("spec", {}).get("predictor", {})
    pod = {name: predictor.pop(name) for name in list(predictor) if name not in PREDICTOR_FIELDS}
    jsonschema.validate(own, INFERENCE_SERVICE)
    metadata = {"name": resource["metadata"]["name"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}, release, strict=True
    )


def pod_specs(resources: list[Resource]) -> dict[str, Resource]:
    """The pod of each workload, by the workload's kind and name."""
    found = {}
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] in ("Deployment", "Job"):
            pod = spec["template"]["spec"]
        elif resource["kind"] == "CronJob":
            pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        elif resource["kind"] == "InferenceService":
            pod = spec["predictor"]
        else:
            continue
        found[f"{resource['kind']}/{resource['metadata']['name']}"] = pod
    return found


def containers(pod: Resource) -> list[Resource]:
    """All containers of a pod, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]
