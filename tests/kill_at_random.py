"""Run the experiment at the smallest size, up to its tables, again and again, killing its processes with -9.

    .venv/bin/python tests/kill_at_random.py --runs 50 [--seed 1] [--kills 4]

The kills of a run are spread over all of it: each comes when a number of jobs is done that was drawn before, and a
random moment later. It is started again until it ends, and its tables must be those of an undisturbed run, byte for
byte. A kill leaves behind what a user would meet: a lock, which is removed as Snakemake says, orphans that go on, and
half-done work. Prints a line for each run, and ends with an error where a table differs or a kill was not made.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = [f"results/tables/{name}.csv" for name in ("table2_annotations", "table4_dice", "table8_converged")]
"""Of all that is drawn and laid out, what shows any difference in annotations and models."""
OPTIONS = ["--snakefile", str(ROOT / "Snakefile"), "--cores", "2", "--rerun-incomplete", "--configfile"]
OPTIONS += [str(ROOT / "tests/smallest.yaml"), str(ROOT / "tests/slurm/whole.yaml")]


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in `folder`; what it prints goes to a file there, which orphans may hold on to."""
    with (folder / "output.log").open("wb") as output:
        command = [sys.executable, "-m", "snakemake", *(arguments or TABLES), *OPTIONS]
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


def jobs_done(folder: Path, of: int) -> int:
    """How many of the jobs `of` a whole run this one and its predecessors have done, by what Snakemake prints."""
    output = (folder / "output.log").read_text(encoding="utf-8")
    progress = re.findall(r"(\d+) of (\d+) steps", output) or [
        ("0", total) for total in re.findall(r"^total +(\d+)$", output, re.M)
    ]
    done, total = map(int, progress[-1]) if progress else (0, of)
    return of - total + done


def disturbed(folder: Path, moments: list[int], of: int, generator: random.Random) -> tuple[int, int]:
    """Run to the end, and kill when so many jobs `of` all are done; return kills and starts."""
    killed = starts = 0
    while True:
        process = snakemake(folder)
        starts += 1
        while process.poll() is None:
            time.sleep(0.1)
            if killed == len(moments) or jobs_done(folder, of) < moments[killed]:
                continue
            time.sleep(generator.uniform(0, 1))
            chosen = processes_in(folder)
            generator.shuffle(chosen)
            for victim in chosen[: generator.randint(1, max(len(chosen), 1))]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            killed += 1
        if process.returncode == 0:
            return killed, starts
        output = (folder / "output.log").read_text(encoding="utf-8")
        if "--unlock" in output:
            snakemake(folder, "--unlock").wait()
        elif starts > len(moments) + 10:
            raise SystemExit(f"does not end:\n{output[-3000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kills", type=int, default=4, help="in each run")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, prepared = Path(scratch) / "undisturbed", Path(scratch) / "prepared"
        prepared.mkdir()
        snakemake(prepared, "results/phantom").wait()
        shutil.copytree(prepared, undisturbed)
        started = time.monotonic()
        disturbed(undisturbed, [], 0, generator)
        (jobs,) = re.findall(r"^total +(\d+)$", (undisturbed / "output.log").read_text(encoding="utf-8"), re.M)[:1]
        tables = {path.name: path.read_bytes() for path in (undisturbed / "results/tables").iterdir()}
        print(f"undisturbed: {time.monotonic() - started:.0f} s, {jobs} jobs, {len(tables)} tables", flush=True)
        faults = 0
        for number in range(1, arguments.runs + 1):
            folder = Path(scratch) / f"run{number}"
            shutil.copytree(prepared, folder)
            moments = sorted(generator.sample(range(int(jobs) - 1), arguments.kills))
            killed, starts = disturbed(folder, moments, int(jobs), generator)
            found = {path.name: path.read_bytes() for path in (folder / "results/tables").iterdir()}
            different = [name for name, content in tables.items() if found.get(name) != content]
            print(
                f"run {number}: {killed} kills, after {moments} jobs, {starts} starts, tables that differ: {different}",
                flush=True,
            )
            faults += bool(different) or killed < arguments.kills
            for process in processes_in(folder):
                os.kill(process, signal.SIGKILL)
            shutil.rmtree(folder)
    if faults:
        raise SystemExit(f"{faults} of {arguments.runs} runs gave other tables or ended before their kills")


if __name__ == "__main__":
    main()
