"""``python -m tests.vectors.derive``: write the cases of ``tests/vectors/*.json`` again.

Every case is made from a recorded stream alone, so the files change only when a stream or a rule
here does. What a client must end in comes from `Truth`, never from a client.
"""

import copy
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.vectors import files
from tests.vectors.steps import Stream, is_delta, is_done

FOREIGN = "00000000-0000-4000-8000-999999999999"


def whole(s: Stream) -> None:
    case = s.case("everything, from the beginning").start(0)
    before = 0
    for quarter in (1, 2, 3):
        now = s.end * quarter // 4
        case.receive(before, now).state(now)
        before = now
    case.finish(before)


def joins(s: Stream) -> None:
    for k in range(1, s.end + 1):
        s.case(f"joined at {k}").start(k).finish(k)
    for k in range(s.end):
        ahead = min(k + (2, 5, s.end)[k % 3], s.end)
        s.case(f"joined at {k}, REST already at {ahead}").start(k, ahead).finish(k)
    if not any(f["type"].startswith("conversation_") for f in s.frames):
        for k in range(0, s.end, 3):
            until = (k + s.end) // 2
            case = s.case(f"joined at {k}, REST already at the end, heard until {until}")
            case.start(k, s.end).receive(k, until).mixed(k, until).finish(until)
    for late in s.recorded["late"]:
        s.rests.append(late["rest"])
        case = s.case(f"joined at {late['at']}, as it was answered")
        case.steps += [{"rest": len(s.rests) - 1}, {"open": True}, {"expect": {"join": None}}]
        case.frame({"type": "project_joined", "data": late["joined"], "timestamp": 0})
        case.expect(fetch=True).finish(late["at"])


def answers_under_way(s: Stream) -> None:
    for k in range(0, s.end, 2):
        until = min(k + 6, s.end)
        for hold in ("answers", "requests"):
            case = s.case(f"joined at {k}, REST's {hold} held until {until}").rest(k)
            case.steps += [{"open": True}, {"expect": {"join": None}}, {"hold": hold}]
            case.joined(k, recovered=False).receive(k, until).rest(until)
            case.steps.append({"release": True})
            case.finish(until)


def reconnects(s: Stream) -> None:
    for k in range(s.end):
        back = min(k + (1, 4, s.end)[k % 3], s.end)
        case = s.case(f"away from {k} to {back}").start(0).receive(0, k).reconnect(k).rest(back)
        case.joined(back, recovered=True).replay(k, back).finish(back)
        if k % 3 == 0:
            case = s.case(f"away from {k} to {back}, longer than the log").start(0).receive(0, k)
            case.reconnect(k).rest(back).joined(back, recovered=False).finish(back)


def two_joins(s: Stream) -> None:
    for k in range(0, s.end, 4):
        case = s.case(f"two snapshots at {k}").start(k).joined(k, recovered=False)
        case.finish(k)
        back = min(k + 4, s.end)
        case = s.case(f"two answers to a rejoin at {k}").start(0).receive(0, k).reconnect(k)
        case.rest(back).joined(back, recovered=True)
        missed = s.durables(k, back)
        if missed:
            case.replay(k, missed[0] + 1)
        case.joined(back, recovered=True)
        for place in missed[:1]:
            case.receive(place, place + 1)
        case.replay(missed[0] + 1 if missed else k, back).finish(back)


def duplicates(s: Stream) -> None:
    case = s.case("every frame twice").start(0)
    for k in range(s.end):
        case.receive(k, k + 1).receive(k, k + 1)
    case.finish(s.end)
    case = s.case("everything again when it is over").start(0).receive(0, s.end)
    for k in range(s.end):
        case.receive(k, k + 1)
    case.finish(s.end)
    case = s.case("each frame once more when it is over, the last first").start(0)
    case.receive(0, s.end)
    for k in reversed(range(s.end)):
        case.receive(k, k + 1).state(s.end)
    case.finish(s.end)


def _hole(s: Stream, k: int) -> tuple[int, str]:
    """Where the lack of piece `k` shows, and how."""
    lost = s.frames[k]["data"]
    for j in range(k + 1, s.end):
        data = s.frames[j]["data"]
        if s.frames[j]["type"] != "assistant_response" or data["message_id"] != lost["message_id"]:
            continue
        if is_done(s.frames[j]):
            return j, "refetch" if data["epoch"] == lost["epoch"] else ""
        return j, "join" if data["offset"] > 0 else ""
    return s.end, ""


def missing_deltas(s: Stream) -> None:
    for k in s.deltas():
        j, action = _hole(s, k)
        case = s.case(f"piece {k} missing").start(0).receive(0, k)
        if action == "join":
            case.receive(k + 1, j + 1).expect(join=s.seq(j)).rest(j + 1)
            heard = j + 1
            while heard < s.end and is_delta(s.frames[heard]) and heard < j + 3:
                # More of the same hole, before the answer: asked once is enough.
                case.receive(heard, heard + 1)
                heard += 1
            case.joined(heard, recovered=True).finish(heard)
        elif action == "refetch":
            case.rest(j + 1).receive(k + 1, j + 1)
            case.expect(refetch=s.frames[k]["data"]["conversation_id"]).finish(j + 1)
        else:
            case.finish(k + 1)


def missing_events(s: Stream) -> None:
    places = s.durables(0, s.end)
    for k, j in pairwise(places):
        for recovered in (True, False):
            name = f"event {s.seq(k + 1)} missing" + ("" if recovered else ", and from the log too")
            case = s.case(name).start(0).receive(0, k).receive(k + 1, j + 1)
            case.expect(join=s.seq(k)).rest(j + 1).joined(j + 1, recovered=recovered)
            if recovered:
                for place in (k, j):
                    case.receive(place, place + 1)
            case.finish(j + 1)


def reordered_deltas(s: Stream) -> None:
    deltas = s.deltas()
    for k in deltas:
        if k + 1 not in deltas or not _same(s, k, k + 1):
            continue
        case = s.case(f"piece {k + 1} before {k}").start(0).receive(0, k)
        case.receive(k + 1, k + 2).expect(join=s.seq(k)).receive(k, k + 1)
        case.rest(k + 2).joined(k + 2, recovered=True).finish(k + 2)

        j, action = _hole(s, k + 1)
        case = s.case(f"piece {k} again after {k + 1}").start(0).receive(0, k + 2)
        case.receive(k, k + 1)
        if action == "join":
            case.receive(k + 2, j + 1).expect(join=s.seq(j)).rest(j + 1)
            case.joined(j + 1, recovered=True).finish(j + 1)
        elif action == "refetch":
            case.rest(j + 1).receive(k + 2, j + 1)
            case.expect(refetch=s.frames[k]["data"]["conversation_id"]).finish(j + 1)
        else:
            case.finish(k + 2)


def _same(s: Stream, a: int, b: int) -> bool:
    """Whether two frames are pieces of one attempt."""
    return is_delta(s.frames[a]) and all(
        s.frames[a]["data"][x] == s.frames[b]["data"][x] for x in ("message_id", "epoch")
    )


def attempts(s: Stream) -> None:
    for k, frame in enumerate(s.frames):
        if not is_delta(frame) or frame["data"]["epoch"] == 1:
            continue
        data = frame["data"]
        older = [j for j in range(k) if is_delta(s.frames[j])
                 and s.frames[j]["data"]["message_id"] == data["message_id"]
                 and s.frames[j]["data"]["epoch"] < data["epoch"]]  # fmt: skip
        if not older:
            continue
        case = s.case(f"earlier attempts heard again after {k}").start(0).receive(0, k + 1)
        for j in older:
            case.receive(j, j + 1)
        case.state(k + 1).finish(k + 1)
        begun = [j for j in range(k) if _same(s, j, k)]
        if not begun and k + 2 < s.end and is_delta(s.frames[k + 2]) and _same(s, k + 2, k):
            # What is left of it does not fit what is known of the one before.
            case = s.case(f"an attempt's beginning missing at {k}").start(0).receive(0, k)
            case.receive(k + 2, k + 3).expect(join=s.seq(k)).rest(k + 3)
            case.joined(k + 3, recovered=True).finish(k + 3)
        # Another edge that is still at the earlier attempt.
        name = f"back at {k + 1} on an edge at an earlier attempt"
        _lagging(s, k + 1, older[-1] + 1, name, unchanged=True)


def shorter_texts(s: Stream) -> None:
    deltas = s.deltas()
    for k in deltas:
        if k - 1 in deltas and k + 1 in deltas and _same(s, k - 1, k):
            _lagging(s, k + 1, k, f"back at {k + 1} on an edge with less text")


def _lagging(s: Stream, k: int, at: int, name: str, *, unchanged: bool = False) -> None:
    """Come back on an edge that has all durable events and less of the text."""
    case = s.case(name).start(0).receive(0, k).reconnect(k).rest(k)
    snapshot = {"project_id": s.recorded["project_id"], "seq": s.seq(k), "recovered": True,
                "live": s.truths[at].live()}  # fmt: skip
    case.frame({"type": "project_joined", "data": snapshot, "timestamp": 0})
    if unchanged:
        case.state(k)
    for j in range(at, k):
        if is_delta(s.frames[j]):
            case.receive(j, j + 1)
    case.finish(k)


def overlaps(s: Stream) -> None:
    """Pieces that begin within what is known, among characters beyond U+FFFF."""
    case = s.case("pieces that begin within the one before").start(0)
    for k, frame in enumerate(s.frames):
        content = frame["data"].get("content", "")
        if max(content, default="") < "\U00010000":
            case.receive(k, k + 1)
            continue
        for place in range(len(content)):
            case.frame(_piece(frame, max(place - 2, 0), place + 1))
    if any("frame" in step for step in case.steps):
        case.finish(s.end)


def _piece(frame: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    piece = copy.deepcopy(frame)
    piece["data"]["offset"] += start
    piece["data"]["content"] = frame["data"]["content"][start:end]
    return piece


def wrong_texts(s: Stream) -> None:
    last: dict[str, int] = {}
    deltas = set(s.deltas())
    for k, frame in enumerate(s.frames):
        if k in deltas:
            last[frame["data"]["message_id"]] = k
        if not is_done(frame) or frame["data"]["message_id"] not in last:
            continue
        place = last[frame["data"]["message_id"]]
        wrong = copy.deepcopy(s.frames[place])
        for name, content in (
            ("another character", wrong["data"]["content"][:-1] + "¿"),
            ("one too many", wrong["data"]["content"] + "¿"),
        ):
            false = copy.deepcopy(wrong)
            false["data"]["content"] = content
            case = s.case(f"{name} in piece {place}").start(0).receive(0, place).frame(false)
            case.rest(k + 1).receive(place + 1, k + 1)
            case.expect(refetch=frame["data"]["conversation_id"]).finish(k + 1)


def other_rooms(s: Stream) -> None:
    case = s.case("another room's frames, presence and typing in between").start(0)
    project = {"project_id": s.recorded["project_id"]}
    foreign = copy.deepcopy(s.frames[s.durables(0, s.end)[-1]])
    foreign["data"]["project_id"] = FOREIGN
    for k, frame in enumerate(s.frames):
        case.receive(k, k + 1)
        if k % 4 == 0:
            case.frame(foreign)
            case.frame({"type": "presence", "data": {**project, "users": []}, "timestamp": 0})
        if k % 8 == 0 and "conversation_id" in frame["data"]:
            typing = {**project, "conversation_id": frame["data"]["conversation_id"],
                      "user_id": FOREIGN}  # fmt: skip
            case.frame({"type": "typing", "data": typing, "timestamp": 0})
    case.finish(s.end)


RULES: tuple[Callable[[Stream], None], ...] = (
    whole, joins, answers_under_way, reconnects, two_joins, duplicates, missing_deltas,
    missing_events, reordered_deltas, attempts, shorter_texts, overlaps, wrong_texts,
    other_rooms,
)  # fmt: skip


def vector(recorded: dict[str, Any]) -> dict[str, Any]:
    """A stream with all its cases."""
    stream = Stream(recorded)
    for rule in RULES:
        rule(stream)
    return {
        "about": recorded["about"],
        "project_id": recorded["project_id"],
        "frames": stream.frames,
        "joins": [{"seq": t.seq, "live": t.live()} for t in stream.truths],
        "rests": stream.rests,
        "states": stream.states,
        "cases": stream.cases,
    }


def cut(recorded: dict[str, Any]) -> dict[str, Any]:
    """The same stream with its texts in pieces of one character."""
    stream = [
        piece
        for frame in recorded["stream"]
        for piece in (
            [_piece(frame, n, n + 1) for n in range(len(frame["data"]["content"]))]
            if is_delta(frame) and frame["data"]["content"]
            else [frame]
        )
    ]
    return {**recorded, "stream": stream, "late": []}


def vectors(name: str) -> dict[str, dict[str, Any]]:
    """The vectors made from one recording, by their names."""
    recorded = files.recorded(name)
    made = {name: vector(recorded)}
    if name == "characters":
        made[f"{name}_cut"] = vector(cut(recorded))
    return made


def rewrite(only: set[str]) -> dict[str, dict[str, Any]]:
    """Write the vectors of all or some recordings again; what was written."""
    written: dict[str, dict[str, Any]] = {}
    for name in files.recordings():
        if not only or name in only:
            written |= vectors(name)
    for name, made in written.items():
        files.write(files.FOLDER / f"{name}.json", made)
    return written


if __name__ == "__main__":
    rewrite(set(sys.argv[1:]))
