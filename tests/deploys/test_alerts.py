"""The alarm rules are valid, and fire when they should and not before."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from embedded.processes import ROOT

FOLDER = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
# Names of PromQL itself and of labels, which stand where a metric's name might.
METRIC = re.compile(r"\b(?:everturn|temporal)_[a-z_]+\b")


def metrics_of(rules: list[dict[str, Any]]) -> set[str]:
    """Names of all metrics that the rules look at."""
    return {name for rule in rules for name in METRIC.findall(rule["expr"])}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        # CI installs it; elsewhere it is in Debian's package "prometheus".
        assert not os.environ.get("EVERTURN_REQUIRE_PROMTOOL"), "promtool is missing"
        pytest.skip("promtool is not installed")
    return found


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_agrees(promtool: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_tests_would_notice_a_rule_that_is_blunt(promtool: str, tmp_path: Path) -> None:
    """Each rule is seen to fire: with its threshold out of reach, the tests fail."""
    for number, rule in enumerate(RULES):
        blunt = [dict(each) for each in RULES]
        blunt[number]["expr"] = f"({rule['expr']}) and vector(1) == 2"
        folder = tmp_path / str(number)
        folder.mkdir()
        text = yaml.safe_dump({"groups": [{"name": "everturn", "rules": blunt}]})
        (folder / "alerts.yml").write_text(text)
        shutil.copy(FOLDER / "alerts_test.yml", folder)
        done = subprocess.run(
            [promtool, "test", "rules", "alerts_test.yml"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0, rule["alert"]


def test_every_rule_says_what_to_do() -> None:
    assert len(RULES) >= 5
    for rule in RULES:
        assert rule["for"]
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert len(rule["annotations"]["description"]) > 40
        assert metrics_of([rule]), rule["alert"]
