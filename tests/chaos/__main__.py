"""``python -m tests.chaos``: break the running system on purpose, and hold it to its promises.

    --size smoke|nightly|release    how much of everything (docs/reliability.md)
    --seed N                        the same faults at the same moments again
    --sets A,B                      some scenarios only; names in docs/reliability.md
    --bus postgres|nats             which bus carries the room events
    --mutants                       break our own code on purpose, and see that the suite notices

Exit code 0 when every invariant held (or every mutant but one was caught), 1 otherwise.
"""

import argparse
import asyncio
import os
import sys

from tests.chaos import mutants, runner
from tests.chaos.scenarios.scenario import SIZES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sets", default="", help="letters, comma-separated; default: all")
    parser.add_argument("--bus", choices=("postgres", "nats"), default="postgres")
    parser.add_argument("--mutants", nargs="?", const="", default=None, metavar="m1,m2")
    parser.add_argument("--no-shrink", action="store_true", help="report a failure as it is")
    parser.add_argument("--keep", metavar="FOLDER", help="where logs and verdicts are kept")
    options = parser.parse_args()
    if options.mutants is not None:
        return asyncio.run(mutants.hunt([m for m in options.mutants.split(",") if m], options.seed))
    return asyncio.run(
        runner.run(
            runner.Options(
                size=options.size,
                seed=options.seed,
                sets=[name for name in options.sets.split(",") if name],
                bus=options.bus,
                shrink=not options.no_shrink,
                keep=options.keep,
            )
        )
    )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Temporal's native library may crash the interpreter as it exits.
    os._exit(code)
