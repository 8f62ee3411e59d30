"""One stream, seen from a client: the steps of a case, and the tables they refer to."""

from typing import Any

from tests.vectors.truth import Truth, digest

Frame = dict[str, Any]
Step = dict[str, Any]


def is_delta(frame: Frame) -> bool:
    """Whether a frame is a piece of text."""
    return frame["type"] == "assistant_response" and not frame["data"]["done"]


def is_done(frame: Frame) -> bool:
    """Whether a frame settles a message."""
    return frame["type"] == "assistant_response" and frame["data"]["done"]


class Stream:
    """A recorded stream with what the server knew at each of its positions.

    Position `k` is the moment after the first `k` frames.
    """

    def __init__(self, recorded: dict[str, Any]) -> None:
        self.recorded = recorded
        self.frames: list[Frame] = recorded["stream"]
        self.end = len(self.frames)
        self.truths = [Truth(recorded, count) for count in range(self.end + 1)]
        self.rests: list[dict[str, Any]] = []
        # Checkpoints of a text lag behind its deltas: REST moves on with durable events.
        self.rest_at: list[int] = []
        for position, truth in enumerate(self.truths):
            if position == 0 or not is_delta(self.frames[position - 1]):
                self.rests.append(truth.rest())
            self.rest_at.append(len(self.rests) - 1)
        self.states: dict[str, Any] = {}
        self.cases: list[dict[str, Any]] = []

    def seq(self, position: int) -> int:
        return self.truths[position].seq

    def deltas(self) -> list[int]:
        """Places of the pieces of text that hold some, of conversations that are there to stay."""
        kept = self.truths[self.end].conversations
        return [k for k, f in enumerate(self.frames)
                if is_delta(f) and f["data"]["content"]
                and f["data"]["conversation_id"] in kept]  # fmt: skip

    def durables(self, start: int, end: int) -> list[int]:
        """Places of the durable events of a range."""
        return [k for k in range(start, end) if not is_delta(self.frames[k])]

    def case(self, name: str) -> "Case":
        return Case(self, name)


class Case:
    """The steps of one case."""

    def __init__(self, stream: Stream, name: str) -> None:
        self.stream = stream
        self.name = name
        self.steps: list[Step] = []
        self._rest = -1
        # Per message the text that the client holds, where it is not all there is.
        self._held: Truth = stream.truths[0]
        # Per conversation the event number up to which REST has told all.
        self._told: dict[str, int] = {}

    def rest(self, position: int) -> "Case":
        """REST answers as of `position` from now on; it never goes back."""
        index = self.stream.rest_at[position]
        if index > self._rest:
            self._rest = index
            self.steps.append({"rest": index})
        return self

    def start(self, position: int, rest: int | None = None) -> "Case":
        """Join afresh at a position; REST may be ahead of it."""
        self.rest(position if rest is None else rest)
        self.steps += [{"open": True}, {"expect": {"join": None}}]
        return self.joined(position, recovered=False)

    def joined(self, position: int, *, recovered: bool) -> "Case":
        """The answer to a join."""
        self.steps.append({"joined": position, "recovered": recovered})
        return self if recovered else self.expect(fetch=True)

    def reconnect(self, position: int) -> "Case":
        """Lose the connection at a position, and come back."""
        self._held = self.stream.truths[position]
        self.steps.append({"open": True})
        return self.expect(join=self.stream.seq(position))

    def expect(self, **action: Any) -> "Case":
        self.steps.append({"expect": action})
        return self

    def frame(self, frame: Frame) -> "Case":
        self.steps.append({"frame": frame})
        return self

    def receive(self, start: int, end: int) -> "Case":
        """Hear a range of the stream."""
        for place in range(start, end):
            if self.stream.frames[place]["type"] == "conversation_created":
                # It may be opened at once.
                self.rest(place + 1)
            last = self.steps[-1].get("receive") if self.steps else None
            if last and last[1] == place:
                last[1] = place + 1
            else:
                self.steps.append({"receive": [place, place + 1]})
        return self

    def replay(self, start: int, end: int) -> "Case":
        """Hear the durable events of a range that was missed, its texts not."""
        for place in self.stream.durables(start, end):
            self.receive(place, place + 1)
            frame = self.stream.frames[place]
            if is_done(frame) and self._lacks(frame["data"]):
                conversation_id = frame["data"]["conversation_id"]
                self.expect(refetch=conversation_id)
                rest = self.stream.rests[self._rest]
                if conversation_id in rest["messages"]:
                    self._told[conversation_id] = rest["seq"]
        return self

    def _lacks(self, done: dict[str, Any]) -> bool:
        if done["seq"] <= self._told.get(done["conversation_id"], 0):
            return False
        held = self._held.messages.get(done["message_id"])
        text = held["content"] if held and held["epoch"] == done["epoch"] else ""
        return digest(text) != done["sha256"]

    def state(self, position: int) -> "Case":
        """Be in the state of a position."""
        self.stream.states[str(position)] = self.stream.truths[position].state()
        self.steps.append({"state": str(position)})
        return self

    def mixed(self, joined: int, position: int) -> "Case":
        """Be where REST was at the end when joining, and the events are at `position`."""
        end, truth = self.stream.truths[self.stream.end], self.stream.truths[position]
        heard = {f["data"]["turn_id"] for f in self.stream.frames[joined:position]
                 if f["type"] == "turn_status"}  # fmt: skip
        turns = {
            # A snapshot does not say why a turn waits.
            key: turn if key in heard else turn | {"detail": None}
            for key, turn in truth.state()["open_turns"].items()
        }
        name = f"{joined} to {position} over {self.stream.end}"
        self.stream.states[name] = end.state() | {"seq": truth.seq, "open_turns": turns}
        self.steps.append({"state": name})
        return self

    def finish(self, position: int) -> None:
        """Hear the rest of the stream and be in its last state."""
        self.receive(position, self.stream.end).state(self.stream.end)
        self.stream.cases.append({"name": self.name, "steps": self.steps})
