"""Verdicts for people: one paragraph a scenario, then the table of invariants."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.runner import Verdict

MOST_SHOWN = 6


def show(verdict: "Verdict") -> None:
    """Print what became of a scenario."""
    scenario = verdict.scenario
    mark = "held" if verdict.passed else "FAILED"
    print(f"\n{scenario.letter} {scenario.title} ({scenario.promises}): {mark},"
          f" {verdict.seconds:.0f} s")  # fmt: skip
    if verdict.figures:
        print("  " + " · ".join(f"{name} {value}" for name, value in verdict.figures.items()))
    if verdict.schedule:
        shown = [str(fault) for fault in verdict.schedule[:12]]
        more = len(verdict.schedule) - len(shown)
        print(f"  faults: {', '.join(shown)}{f' and {more} more' if more else ''}")
    for name, wrong in verdict.wrong.items():
        for text in wrong[:MOST_SHOWN]:
            print(f"  {name}: {text}")
        if len(wrong) > MOST_SHOWN:
            print(f"  {name}: and {len(wrong) - MOST_SHOWN} more")
    print(end="", flush=True)


def table(verdicts: Sequence["Verdict"]) -> None:
    """Print scenarios against invariants."""
    names = sorted({name for v in verdicts for name in v.wrong if name.startswith("I")},
                   key=lambda name: int(name[1:]))  # fmt: skip
    print("\n| set | " + " | ".join(names) + " | scenario |")
    print("| --- |" + " --- |" * (len(names) + 1))
    for v in verdicts:
        cells = [
            "–" if name not in v.wrong else "✓" if not v.wrong[name] else f"✗ {len(v.wrong[name])}"
            for name in names
        ]
        own = "✓" if not v.wrong.get("scenario") else f"✗ {len(v.wrong['scenario'])}"
        print(f"| {v.scenario.letter} | " + " | ".join(cells) + f" | {own} |")
    for v in verdicts:
        if v.shrunk is not None:
            print(f"{v.scenario.letter} still fails with: {', '.join(map(str, v.shrunk))}")
        elif not v.passed:
            print(
                f"{v.scenario.letter}: run it again with --seed {v.seed} --sets {v.scenario.letter}"
            )
