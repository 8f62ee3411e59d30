"""All scenarios, in the order in which they are run."""

from collections.abc import Sequence

from tests.chaos.scenarios import clients, deploys, hurting, model, points, sockets, tenants
from tests.chaos.scenarios.scenario import Scenario

ALL = (
    Scenario("A", "workers die at random", "P01 P02", hurting.workers),
    Scenario("AK", "processes die at named points", "P01 P29 P30", points.points),
    Scenario("AS", "workers hang", "P36", hurting.asleep, since=1),
    Scenario("B", "edges die", "P03", hurting.edges),
    Scenario("BS", "all edges restart at once", "P04", sockets.storm, since=1, judged=False),
    Scenario("C", "Temporal dies and hangs", "P05 P06 P36", hurting.temporal),
    Scenario("D", "PostgreSQL dies and hangs", "P07 P08 P09", hurting.postgres),
    Scenario("E", "the bus is cut", "P09 P17", hurting.bus),
    Scenario("F", "a model's server misbehaves", "P10–P16", model.matrix),
    Scenario("G", "people come and go", "P17 P18", clients.comings_and_goings),
    Scenario("H", "twice, at once, and stop", "P20 P21 P22", clients.twice_and_at_once),
    Scenario("I", "idle sockets", "P19", sockets.idle, since=1, judged=False),
    Scenario("J", "recorded histories", "P23", deploys.replays, judged=False),
    Scenario(
        "JD", "a deploy over running turns", "P23", deploys.live_deploys, since=1, judged=False
    ),
    Scenario(
        "K", "clocks, disks, giants, poison", "P24–P28", deploys.limits, since=1, judged=False
    ),
    Scenario("L", "tenants apart", "P31 P33 P35 P37", tenants.apart),
    Scenario("MS", "five minutes of mild trouble", "P34", hurting.short_soak, since=3),
    Scenario("M", "an hour of mild trouble", "P34", hurting.soak, since=2),
)


def chosen(letters: Sequence[str], size: int) -> list[Scenario]:
    """The scenarios asked for; without letters those of the size.

    Raises:
        SystemExit: A letter that is no scenario's.
    """
    known = {scenario.letter: scenario for scenario in ALL}
    if unknown := [letter for letter in letters if letter not in known]:
        raise SystemExit(f"no such set: {', '.join(unknown)}; there are {', '.join(known)}")
    if letters:
        return [known[letter] for letter in letters]
    return [scenario for scenario in ALL if scenario.since <= size]
