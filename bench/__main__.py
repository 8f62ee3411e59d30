"""``python -m bench``: every benchmark, one after another; figures go to ``bench/results/``."""

import subprocess
import sys

BENCHMARKS = ("bench.turn_latency", "bench.sockets", "bench.tool_step")

for module in BENCHMARKS:
    print(f"== {module}", flush=True)
    finished = subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], check=False)
    if finished.returncode != 0:
        sys.exit(finished.returncode)
