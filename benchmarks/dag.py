"""Seconds to build the graph of jobs of the paper's configuration, 484 volumes, and its jobs, by the number of seeds.

    python benchmarks/dag.py [--seeds 1 3] [--repeats 3]

The time is that of a whole `snakemake -n`, median of the repeats.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def dry_run(seeds: int) -> tuple[float, int]:
    """Return the seconds of a dry run in an empty folder, and the number of jobs it names."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "seeds.yaml"
        overlay.write_text(f"seeds: {list(range(1, seeds + 1))}")
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--snakefile", str(ROOT / "Snakefile")]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--configfile", str(overlay)], cwd=folder, check=True, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
    jobs = re.search(r"^total +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    assert jobs is not None
    return seconds, int(jobs[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print("| seeds | jobs | seconds |\n|---:|---:|---:|")
    for seeds in arguments.seeds:
        times, jobs = zip(*(dry_run(seeds) for _ in range(arguments.repeats)), strict=True)
        print(f"| {seeds} | {jobs[0]} | {statistics.median(times):.1f} |")


if __name__ == "__main__":
    main()
