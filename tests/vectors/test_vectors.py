"""The reference client over every recorded stream and every case derived from it.

The page's store runs the same files (frontend/src/domain/vectors.test.ts).
"""

from typing import Any

import pytest

from tests.system import System
from tests.vectors import derive, files, record
from tests.vectors.run import run
from tests.vectors.truth import Truth, shown


@pytest.mark.parametrize("name", files.names())
async def test_the_reference_client_ends_in_the_same_state(name: str) -> None:
    vector = files.vector(name)
    wrong = {}
    for case in vector["cases"]:
        try:
            await run(vector, case)
        except AssertionError as error:
            wrong[case["name"]] = str(error)
    text = "\n\n".join(f"{case}: {error}" for case, error in list(wrong.items())[:5])
    assert not wrong, f"{len(wrong)} of {len(vector['cases'])} cases; the first:\n{text}"


def test_the_cases_are_what_the_recordings_give() -> None:
    made = {name: vector for r in files.recordings() for name, vector in derive.vectors(r).items()}
    assert sorted(made) == files.names()
    for name, vector in made.items():
        written = (files.FOLDER / f"{name}.json").read_text()
        assert written == files.text_of(vector), "run python -m tests.vectors.derive"


@pytest.mark.parametrize("name", files.recordings())
def test_the_recorded_answers_agree_with_the_stream(name: str) -> None:
    """The states that clients are held to are what the real server answered."""
    recorded = files.recorded(name)
    stream = recorded["stream"]
    assert shown(recorded["after"]) == shown(Truth(recorded, len(stream)).rest())
    for late in recorded["late"]:
        truth = Truth(recorded, late["at"])
        assert late["joined"] == {
            "project_id": recorded["project_id"], "seq": truth.seq, "recovered": False,
            "live": truth.live(),
        }  # fmt: skip


# What tools take and give is theirs.
OPAQUE = {"result", "parameters", "usage"}


def shape(*values: Any) -> Any:
    """The names of all fields and of those within, as far as any of the values shows them."""
    if objects := [value for value in values if isinstance(value, dict)]:
        return {
            key: None if key in OPAQUE else shape(*[o[key] for o in objects if key in o])
            for key in set().union(*objects)
        }
    if lists := [value for value in values if isinstance(value, list)]:
        return [shape(*[item for value in lists for item in value])]
    return None


def shapes(recorded: dict[str, Any]) -> dict[str, Any]:
    """Per kind of frame and of answer, how it looks."""
    frames: dict[str, list[Any]] = {}
    for frame in recorded["stream"]:
        done = " done" if frame["data"].get("done") else ""
        frames.setdefault(frame["type"] + done, []).append(frame)
    found = {kind: shape(*heard) for kind, heard in frames.items()}
    found["joined"] = shape(recorded["joined"])
    found["messages"] = shape(*recorded["after"]["messages"].values())
    found["conversations"] = shape(recorded["after"]["conversations"])
    return found


@pytest.mark.parametrize("play", [record.plain, record.tools], ids=lambda play: play.__name__)
async def test_the_system_still_sends_such_frames(system: System, play: record.Play) -> None:
    team = await system.team()
    today = await record.recorded(team, play, probes=0)
    assert shapes(today) == shapes(files.recorded(play.__name__)), (
        "run python -m tests.vectors.record"
    )
