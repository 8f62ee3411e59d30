"""The compose file says the same as the code: settings, queues, Temporal's values."""

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from embedded import temporal
from embedded.processes import ROOT
from store.settings import Settings
from workflows.types import Queue

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


def test_every_reference_names_something() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        assert set(service["networks"]) <= set(COMPOSE["networks"]), name
        for config in service.get("configs", []):
            assert config["source"] in COMPOSE["configs"], name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"], name


def test_who_waits_for_health_waits_for_a_service_that_reports_it() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            else:
                assert SERVICES[other]["restart"].startswith("on-failure")


def test_one_worker_service_per_queue() -> None:
    queues = [each["command"][-1] for each in OURS.values() if "worker" in each["command"]]
    assert sorted(queues) == sorted(Queue)


def test_edges_and_tool_workers_share_the_files() -> None:
    for name in OURS:
        shares = "files:/var/lib/everturn" in OURS[name].get("volumes", [])
        assert shares == (name == "edge" or name.startswith("worker-tools-")), name


def test_two_edges_stand_behind_the_proxy() -> None:
    assert SERVICES["edge"]["deploy"]["replicas"] == 2
    assert "server edge:8000" in COMPOSE["configs"]["nginx"]["content"]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_told_only_what_they_know(name: str) -> None:
    known = {f"EVERTURN_{field.upper()}" for field in Settings.model_fields}
    told = {each for each in OURS[name]["environment"] if each.startswith("EVERTURN_")}
    assert told <= known
    assert ("EVERTURN_MIGRATIONS_DATABASE_URL" in told) == (name == "migrations")


@pytest.mark.parametrize("name", OURS)
def test_our_processes_have_no_powers(name: str) -> None:
    assert OURS[name]["read_only"]
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in OURS[name]["security_opt"]


def test_temporal_is_configured_as_in_the_embedded_stack() -> None:
    values = yaml.safe_load(COMPOSE["configs"]["temporal-dynamic-config"]["content"])
    for key, (entry,) in values.items():
        assert yaml.safe_load(temporal.DYNAMIC_CONFIG[key]) == entry["value"]
    namespace = COMPOSE["configs"]["temporal-namespace"]["content"]
    assert f"for name in {' '.join(temporal.SEARCH_ATTRIBUTES)}; do" in namespace


def test_only_loopback_is_published_unless_told_otherwise() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert ":-127.0.0.1:" in port


def test_the_image_holds_what_its_processes_import() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for folder in ("workflows", "store", "activities", "api", "worker", "migrations"):
        assert f"COPY {folder}/ {folder}/" in dockerfile
        assert f"!{folder}" in ignored
        assert Path(ROOT, folder).is_dir()
