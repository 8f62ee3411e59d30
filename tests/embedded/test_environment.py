"""What the children are told."""

from pathlib import Path

import pytest

from embedded.environment import Environment
from store.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "EVERTURN_DEMO", "EVERTURN_SECRET_KEYS"):
        monkeypatch.delenv(name, raising=False)


def test_only_migrations_know_the_owner(tmp_path: Path) -> None:
    environment = Environment.of(Settings(), tmp_path)
    password = environment.keys.owner_password
    assert any(password in value for value in environment.migrations().values())
    for env in (
        environment.process("edge", demo_data=True),
        environment.process("worker", demo_data=True),
        environment.demo_model(),
    ):
        assert not any(password in value for value in env.values())


def test_the_demo_model_is_told_none_of_our_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTURN_SECRET_KEYS", "not-for-everyone")
    told = Environment.of(Settings(), tmp_path).demo_model()
    assert not [name for name in told if name.startswith(("EVERTURN_", "OPENAI_"))]


def test_what_somebody_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Environment.of(Settings(), tmp_path).process("edge", demo_data=True)
    assert ours["EVERTURN_DEMO"] == "1"
    assert ours["EVERTURN_PRIVATE_HOSTS"] == "127.0.0.1,localhost,::1"
    monkeypatch.setenv("EVERTURN_DEMO", "0")
    monkeypatch.setenv("EVERTURN_SECRET_KEYS", "theirs")
    monkeypatch.setenv("EVERTURN_PRIVATE_HOSTS", "db.example.org")
    monkeypatch.setenv("EVERTURN_DEMO_PASSWORD", "chosen")
    monkeypatch.setenv("EVERTURN_BUS_URL", "nats://bus.example.org")
    theirs = Environment.of(Settings(), tmp_path).process("edge", demo_data=True)
    assert theirs["EVERTURN_DEMO"] == "0"
    assert theirs["EVERTURN_SECRET_KEYS"] == "theirs"
    assert theirs["EVERTURN_PRIVATE_HOSTS"] == "db.example.org"
    assert theirs["EVERTURN_DEMO_PASSWORD"] == "chosen"
    assert theirs["EVERTURN_BUS_URL"] == "nats://bus.example.org"


def test_a_profile_for_another_temporal_does_not_leak_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "cloud.example.org:7233")
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    env = Environment.of(Settings(), tmp_path).process("worker", demo_data=True)
    assert {name for name in env if name.startswith("TEMPORAL_")} == {"TEMPORAL_CONFIG_FILE"}


def test_edge_and_worker_do_not_share_a_metrics_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTURN_METRICS_PORT", "9000")
    environment = Environment.of(Settings(), tmp_path)
    assert environment.process("edge", demo_data=False)["EVERTURN_METRICS_PORT"] == "9000"
    assert environment.process("worker", demo_data=False)["EVERTURN_METRICS_PORT"] == "9001"


@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        ({}, True),
        ({"OPENAI_API_KEY": "sk-1"}, False),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}, False),
        ({"EVERTURN_DEMO_MODEL_URL": "http://127.0.0.1:9/v1"}, False),
    ],
)
def test_the_demo_model_runs_while_nobody_named_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], runs: bool
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    environment = Environment.of(Settings(), tmp_path)
    assert environment.runs_demo_model == runs
    told = environment.process("worker", demo_data=False).get("EVERTURN_DEMO_MODEL_URL")
    assert told == (
        f"http://127.0.0.1:{environment.demo_model_port}/v1"
        if runs
        else settings.get("EVERTURN_DEMO_MODEL_URL")
    )
