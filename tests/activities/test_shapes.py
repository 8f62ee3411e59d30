"""P16: whatever a model's server sends, people get the right text or a failure they can read."""

import json

import pytest

from activities.errors import MAX_PROVIDER_TEXT_CHARS
from tests.activities.office import Office
from tests.model_server import expected
from workflows.types import TurnStatus

TEXT = "#text:5"
RIGHT = {
    "text": TEXT,
    "no done": f"#nodone {TEXT}",
    "cut by length": f"#length {TEXT}",
    "emoji over chunks": "#emoji",
    "surrogate pairs over chunks": "#split",
}
# Wrong once, and right when it is asked again.
PASSING = {
    "busy": f"#429:1:1 {TEXT}",
    "busy until a time": f"#429:1:date+1 {TEXT}",
    "broken": f"#500:1 {TEXT}",
    "cut after no token": f"#cut:0 {TEXT}",
    "cut after a token": f"#cut:1 {TEXT}",
    "cut after the last token": f"#cut:4 {TEXT}",
    "cut after a byte": f"#cutbytes:1 {TEXT}",
    "cut in a chunk": f"#cutbytes:300 {TEXT}",
    "cut between chunks": f"#cutbytes:500 {TEXT}",
    "silence": f"#hang {TEXT}",
    "a byte a minute": f"#drip {TEXT}",
    "comments alone": f"#keepalive {TEXT}",
    "an error inside a 200": f"#error200 {TEXT}",
    "an error object": f"#errorobject {TEXT}",
    "half an object": f"#halfobject {TEXT}",
    "a page": f"#html {TEXT}",
    "an image": f"#wrongtype {TEXT}",
    "nothing": f"#emptybody {TEXT}",
    "empty choices": f"#emptychoices {TEXT}",
    "done without a reason": f"#noreason {TEXT}",
    "calls that never come": f"#nocalls {TEXT}",
    "half a line": f"#junk {TEXT}",
    "bytes that are no text": f"#badutf8 {TEXT}",
    "null": f"#nullchunk {TEXT}",
    "junk that claims to be gzip": f"#gzipjunk {TEXT}",
}
# Wrong, and not asked again.
FINAL = {
    "redirect": ("#redirect", "model_refused"),
    "bad request": ("#status:400", "model_refused"),
    "refused key": ("#status:401", "model_refused"),
    "unknown model": ("#status:404", "model_refused"),
    "too large": ("#status:413", "context_too_long"),
    "context": ("#ctx:0", "context_too_long"),
}
SENTENCES = {"emoji over chunks": "a👩‍🚀née\u0301 🚀🚀 end", "surrogate pairs over chunks": "x🚀y"}


@pytest.mark.parametrize("shape", [*RIGHT, *PASSING, *FINAL])
async def test_right_text_or_a_failure_and_never_a_part_for_the_whole(
    office: Office, shape: str
) -> None:
    office.settings.model_first_byte_seconds = office.settings.model_idle_seconds = 0.5
    marker = (RIGHT | PASSING | {name: marker for name, (marker, _) in FINAL.items()})[shape]
    turn = await office.ask(marker)
    attempts = 1
    if shape in RIGHT:
        await office.reply(turn)
    else:
        error = await office.fails(turn)
        message = await office.message(turn)
        assert (message.status, message.content, message.tool_calls) == ("streaming", "", [])
        assert error.non_retryable == (shape in FINAL)
        detail = ((await office.turn(turn)).last_error or {})["message"]
        assert 10 < len(detail) < MAX_PROVIDER_TEXT_CHARS + 200
        assert "CANARY" not in detail
        if shape in FINAL:
            assert error.type == FINAL[shape][1]
            await office.finish(turn, TurnStatus.FAILED, error.type or "")
            assert (await office.message(turn)).status == "failed"
            assert (await office.turn(turn)).detail == detail
            return
        attempts = 2
        await office.reply(turn, attempt=2)
    message = await office.message(turn)
    assert (message.status, message.epoch) == ("complete", attempts)
    assert message.content == SENTENCES.get(shape, expected(attempts, 5))
    # What the room was shown of the last attempt is the same, and nothing of another is in it.
    shown = ""
    for frame in office.publisher.frames:
        data = json.loads(frame)["data"]
        if data["epoch"] == attempts:
            assert data["offset"] == len(shown)
            shown += data["content"]
    assert shown == message.content
