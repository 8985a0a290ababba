"""Run the whole experiment at the smallest size again and again, killing its processes with -9 at random moments.

    .venv/bin/python tests/kill_at_random.py --runs 50 [--seed 1] [--kills 3]

Each run is started again after each kill until it ends, and its tables must be those of an undisturbed run, byte for
byte. What a kill leaves behind is what a user would meet: a lock, which is removed as Snakemake says, orphans that go
on, and half-done work. Prints a line a run, and ends with an error if any table differs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONS = ["--snakefile", str(ROOT / "Snakefile"), "--cores", "2", "--rerun-incomplete", "--configfile"]
OPTIONS += [str(ROOT / "tests/smallest.yaml"), str(ROOT / "tests/slurm/whole.yaml")]


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in `folder`; what it prints goes to a file there, which orphans may hold on to."""
    with (folder / "output.log").open("wb") as output:
        command = [sys.executable, "-m", "snakemake", *arguments, *OPTIONS]
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)


def processes_in(folder: Path) -> list[int]:
    """The ids of all processes that work in `folder`: Snakemake, its jobs, and orphans of earlier ones."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def disturbed(folder: Path, kills: int, generator: random.Random, duration: float) -> tuple[int, int]:
    """Run to the end with so many kills, each within `duration` seconds of a start; return kills and starts."""
    killed = starts = 0
    while True:
        process = snakemake(folder)
        starts += 1
        if killed < kills:
            try:
                process.wait(generator.uniform(1, duration))
            except subprocess.TimeoutExpired:
                chosen = processes_in(folder)
                generator.shuffle(chosen)
                for victim in chosen[: generator.randint(1, len(chosen))]:
                    try:
                        os.kill(victim, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                killed += 1
        if process.wait() == 0:
            return killed, starts
        output = (folder / "output.log").read_text(encoding="utf-8")
        if "--unlock" in output:
            snakemake(folder, "--unlock").wait()
        elif killed >= kills and starts > kills + 10:
            raise SystemExit(f"does not end:\n{output[-3000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3, help="in each run")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, prepared = Path(scratch) / "undisturbed", Path(scratch) / "prepared"
        prepared.mkdir()
        snakemake(prepared, "results/phantom").wait()
        shutil.copytree(prepared, undisturbed)
        started = time.monotonic()
        disturbed(undisturbed, 0, generator, 0)
        duration = time.monotonic() - started
        tables = {path.name: path.read_bytes() for path in (undisturbed / "results/tables").iterdir()}
        print(f"undisturbed: {duration:.0f} s, {len(tables)} tables")
        faults = 0
        for number in range(1, arguments.runs + 1):
            folder = Path(scratch) / f"run{number}"
            shutil.copytree(prepared, folder)
            killed, starts = disturbed(folder, arguments.kills, generator, duration / 2)
            found = {path.name: path.read_bytes() for path in (folder / "results/tables").iterdir()}
            different = [name for name, content in tables.items() if found.get(name) != content]
            print(f"run {number}: {killed} kills, {starts} starts, tables that differ: {different}", flush=True)
            faults += bool(different)
            for process in processes_in(folder):
                os.kill(process, signal.SIGKILL)
            shutil.rmtree(folder)
    if faults:
        raise SystemExit(f"{faults} of {arguments.runs} runs gave other tables")


if __name__ == "__main__":
    main()
