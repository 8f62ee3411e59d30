"""What must not drift: documents name every setting, event, code, tool and queue, and no other."""

import re
from pathlib import Path

import pytest

from activities.tools.registry import default_tools
from api.frames import BODIES
from store.datasource.pools import Pools
from store.errors import Refusal
from store.settings import Settings
from workflows.events import DURABLE_EVENT_TYPES
from workflows.types import Queue, ToolStatus, TurnCode, TurnStatus

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()


def named(word: str) -> bool:
    return re.search(rf"(?<![A-Za-z_]){re.escape(word)}(?![A-Za-z_])", PROTOCOL) is not None


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert named(name.upper()), f"docs/protocol.md §2 does not name {name.upper()}"


@pytest.mark.parametrize("kind", [*DURABLE_EVENT_TYPES, *BODIES, "welcome", "project_joined"])
def test_every_frame_is_documented(kind: str) -> None:
    # conversation_created/updated/deleted share a line.
    assert named(kind) or named(f"{kind.rpartition('_')[0]}_created/updated/deleted")


@pytest.mark.parametrize(
    "code",
    [
        *TurnCode,
        *TurnStatus,
        *ToolStatus,
        *Queue,
        *(kind.code for kind in Refusal.__subclasses__()),
    ],
)
def test_every_code_is_documented(code: str) -> None:
    assert named(str(code)), f"docs/protocol.md does not name {code}"


def test_every_tool_is_documented() -> None:
    for tool in default_tools(Pools((), ROOT)):
        assert named(tool.name)


def test_every_decision_has_its_parts() -> None:
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert len(records) > 5
    for place, record in enumerate(records, 1):
        text = record.read_text()
        assert record.name.startswith(f"{place:04}-")
        assert text.startswith(f"# {place:04} ")
        for part in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"**{part}.**" in text, f"{record.name} has no {part}"


def test_links_of_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
