"""The Kubernetes manifests are what a cluster takes, and agree with the image and with each other."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import yaml

from service.settings import ServiceSettings
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    RELEASES,
    ROOT,
    Resource,
    check,
    containers,
    pod_specs,
    render,
)

SECRETS = [
    {"name": "gatewise-database", "key": "url"},
    {"name": "gatewise-admin", "key": "token", "optional": True},
]
RENDERED = {overlay: render(KUBERNETES / "overlays" / overlay) for overlay in OVERLAYS}


def only(kind: str, overlay: str = "production") -> Resource:
    [found] = [resource for resource in RENDERED[overlay] if resource["kind"] == kind]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_is_one_that_kubernetes_takes(overlay: str, release: str) -> None:
    assert len(RENDERED[overlay]) >= 6
    for resource in RENDERED[overlay]:
        check(resource, release)


def unknown_kind(resource: Resource) -> None:
    resource["kind"] = "Deploymint"


def unknown_field(resource: Resource) -> None:
    resource["spec"]["replicaz"] = 2


def unknown_field_of_a_container(resource: Resource) -> None:
    pod = next(iter(pod_specs([resource]).values()))
    containers(pod)[0]["readinessProb"] = {}


def wrong_type(resource: Resource) -> None:
    pod = next(iter(pod_specs([resource]).values()))
    containers(pod)[0]["ports"] = [{"containerPort": "3000"}]


@pytest.mark.parametrize("spoil", [unknown_kind, unknown_field, unknown_field_of_a_container, wrong_type])
@pytest.mark.parametrize(("kind", "overlay"), [("Deployment", "production"), ("InferenceService", "kserve")])
def test_an_unknown_kind_or_field_fails(kind: str, overlay: str, spoil: Callable[[Resource], None]) -> None:
    resource = copy.deepcopy(only(kind, overlay))
    spoil(resource)
    with pytest.raises(ValueError):  # noqa: PT011 - each says another thing
        check(resource)


def test_an_unknown_field_of_a_service_monitor_fails() -> None:
    resource = copy.deepcopy(only("ServiceMonitor"))
    resource["spec"]["endpoints"][0]["intervall"] = "5s"
    with pytest.raises(ValueError, match="intervall"):
        check(resource)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_meets_the_restricted_pod_security_standard(overlay: str) -> None:
    pods = pod_specs(RENDERED[overlay])
    assert len(pods) == 3
    for pod in pods.values():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_name_that_is_referred_to_exists(overlay: str) -> None:
    resources = RENDERED[overlay]
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
    for pod in pod_specs(resources).values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            for variable in container["env"]:
                source = variable["valueFrom"]
                if "configMapKeyRef" in source:
                    assert ("ConfigMap", source["configMapKeyRef"]["name"]) in names
                else:
                    assert source["secretKeyRef"] in SECRETS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_the_manifests(overlay: str) -> None:
    assert "Secret" not in {resource["kind"] for resource in RENDERED[overlay]}
    assert "postgresql://" not in yaml.safe_dump_all(RENDERED[overlay])


def test_service_and_trainings_of_production_take_the_same_shared_store_where_one_is_named() -> None:
    pods = pod_specs(RENDERED["production"])
    for pod in pods.values():
        variables = {variable["name"]: variable["valueFrom"] for variable in pod["containers"][0]["env"]}
        reference = variables["GATEWISE_STORE"]["configMapKeyRef"]
        assert (reference["key"], reference["optional"]) == ("store", True)
    assert "store" not in only("ConfigMap")["data"]


def test_selectors_find_the_pods_of_the_deployment() -> None:
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for kind, path in (
        ("Deployment", ("selector", "matchLabels")),
        ("Service", ("selector",)),
        ("PodDisruptionBudget", ("selector", "matchLabels")),
        ("NetworkPolicy", ("podSelector", "matchLabels")),
    ):
        selector = only(kind)["spec"]
        for key in path:
            selector = selector[key]
        assert selector.items() <= labels, kind
    monitored = only("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= only("Service")["metadata"]["labels"].items()
    assert only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == only("Deployment")["metadata"]["name"]


def test_a_pod_has_time_to_drain_the_longest_request() -> None:
    pod = pod_specs(RENDERED["production"])["Deployment/gatewise"]
    [container] = pod["containers"]
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + 1 + ServiceSettings.model_construct().timeout_seconds + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_in_the_manifests_are_settings_of_the_service(overlay: str) -> None:
    known = {f"GATEWISE_{name.upper()}" for name in ServiceSettings.model_fields}
    for pod in pod_specs(RENDERED[overlay]).values():
        for container in containers(pod):
            names = {variable["name"] for variable in container["env"]} - {"NAME"}
            assert names <= known


def test_user_port_and_store_are_those_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [container] = pod_specs(RENDERED["production"])["Deployment/gatewise"]["containers"]
    assert "USER 10001:10001" in dockerfile
    assert f"EXPOSE {container['ports'][0]['containerPort']}" in dockerfile
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"BENTOML_HOME={mounts['store']} " in dockerfile


def test_the_autoscaler_uses_the_metric_that_the_adapter_makes_of_one_of_the_service() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]
    [metric] = only("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rules[0]["name"]["as"]
    documented = re.findall(r"^    (gatewise_\w+)", (ROOT / "service/metrics.py").read_text(), re.MULTILINE)
    assert rules[0]["seriesQuery"].partition("_bucket")[0] in documented


def test_the_gpu_overlay_asks_for_a_gpu_and_the_image_that_uses_it() -> None:
    [container] = pod_specs(RENDERED["gpu"])["Deployment/gatewise"]["containers"]
    assert container["image"] == "gatewise-gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
