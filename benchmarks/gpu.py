"""One command for the first hour on a GPU: is it right, how fast is it, and what will the paper's experiment take?

Prints as it goes, and leaves tables (gpu.md), all numbers (gpu.json) and what else the parts said (gpu.log). Each part
runs in a process of its own that is ended when its time is up, and begun again for the rows after one that failed. The
exit status is 1 where a check of correctness failed.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

MINUTES = 25
PACKAGES = (
    *("torch", "triton", "numpy", "pandas", "scipy", "nibabel", "pydicom", "isal", "pillow", "matplotlib", "pyyaml"),
    *("jsonschema", "tabulate", "tqdm", "monai", "psutil", "statsmodels", "highdicom", "simpleitk", "snakemake"),
)
"""Whatever a part may import; torch, numpy and pandas are needed by all."""
ROW_SHARE = 0.6
"""Share of the time of a part after which a row counts as hanging, if the part has other rows."""
MEASURED_SHARE = 0.3
"""Share of the time of a part in which steps are timed, in all rows; the rest is for start, warm-up and compilation."""
REHEARSED_SECONDS = 0.1
"""Seconds for which a row is measured in a rehearsal."""
LOOK = 0.05
"""Polling interval of the notes of a part, seconds."""


class Part(NamedTuple):
    """A part of the benchmark: its title, the module that has a function of its name, its share of the minutes, how
    many rows are timed, and what to say of its table."""

    title: str
    module: str
    share: float
    timed_rows: int = 1
    note: str = ""


PARTS = {
    "machine": Part("What was met", "gpu", 0.5),
    "agreement": Part(
        "Check: the same weights on the CPU and here",
        "gpu_checks",
        2.5,
        note="Differences from float32 on the CPU with the same dropout: of the loss of a mini-batch; of its gradient, "
        "as a share of its length; the mean and the most of the probability of liver; the mean of the entropy; and the "
        "rank correlation of the slices' entropies. Accepted are the first, the second, the third, the fifth and the "
        "sixth, in this order.",
    ),
    "tiles": Part(
        "Check: the largest tiles against small ones",
        "gpu_checks",
        2.5,
        note="The difference is the mean of the probability (of the entropy, for samples), over the volume.",
    ),
    "resume": Part(
        "Check: a training that was stopped and resumed",
        "gpu_checks",
        2,
        note="Differences of all weights, as a share of their length.",
    ),
    "memory": Part("Check: too little memory", "gpu_checks", 1.5),
    "precision": Part("Steps of a training, by precision", "gpu_speed", 1.5, 4),
    "data": Part("Steps of a training, by where the patches come from", "gpu_speed", 2, 4),
    "switches": Part("Steps of a training, by what is done otherwise", "gpu_speed", 6, 13),
    "sampling": Part("Monte Carlo dropout of one volume", "gpu_speed", 2),
    "validation": Part("Validation", "gpu_speed", 1, 2),
    "experiment": Part("The paper's experiment, by the library's plan", "gpu_speed", 3.5),
}
CHECKS = [name for name, part in PARTS.items() if part.module == "gpu_checks"]


def machine(setting: Any) -> dict[str, Any]:
    """Return rows that say what is measured on."""
    import torch

    def cpu(earlier: dict[str, Any]) -> dict[str, Any]:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
        return {"": f"{(names or [platform.machine()])[0]}, {os.cpu_count()} cores, {setting.threads} threads used"}

    def card(earlier: dict[str, Any]) -> dict[str, Any]:
        from gpu_work import LeftOut

        if setting.device == "cpu":
            raise LeftOut("GPU only")
        properties = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        return {
            "": f"{properties.name}, {properties.multi_processor_count} multiprocessors, compute capability "
            f"{properties.major}.{properties.minor}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free; CUDA "
            f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        }

    def driver(earlier: dict[str, Any]) -> dict[str, Any]:
        from gpu_work import LeftOut

        if setting.device == "cpu":
            raise LeftOut("GPU only")
        query = "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.memory"
        done = subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, check=True)
        return {"": "; ".join(done.stdout.split("\n")[:2])}

    return {"CPU": cpu, "GPU": card, "driver": driver}


# What a part does, in its own process.


class Task(NamedTuple):
    """What the process of a part is to do: `earlier` holds the rows that are there already, `fail` how to misbehave."""

    part: str
    record: Path
    log: Path
    threads: int
    seconds: float
    rehearse: bool
    earlier: dict[str, Any]
    fail: str


def work(task: Task) -> None:
    """Work off the rows of a part, and note for each that it begins and what came out; end at the first that fails."""
    os.setsid()  # so that all that it starts can be ended with it
    with task.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    print(f"--- {task.part}", file=sys.stderr, flush=True)

    def note(**event: Any) -> None:
        with task.record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(event, default=float) + "\n")

    row = None
    try:
        import gpu_work
        import torch

        scale, device = (gpu_work.REHEARSAL, "cpu") if task.rehearse else (gpu_work.FULL, "cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("torch finds no CUDA device; --rehearse goes without")  # noqa: TRY301
        torch.set_num_threads(task.threads)
        setting = gpu_work.Setting(scale, device, task.threads, task.seconds, task.record.parent)
        rows = getattr(importlib.import_module(PARTS[task.part].module), task.part)(setting)
        earlier = dict(task.earlier)
        note(rows=list(rows))
        for row in [name for name in rows if name not in earlier]:
            note(begun=row)
            misbehave(task.fail)
            gpu_work.refresh(setting)
            started = time.perf_counter()
            try:
                earlier[row] = rows[row](earlier)
            except gpu_work.LeftOut as reason:
                note(row=row, left_out=str(reason))
            except ModuleNotFoundError as error:
                note(row=row, left_out=f"needs {error.name}")
            else:
                note(row=row, result=earlier[row], seconds=time.perf_counter() - started)
    except ModuleNotFoundError as error:
        note(row=row, left_out=f"needs {error.name}")
    except Exception as error:
        traceback.print_exc()
        note(row=row, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def misbehave(how: str) -> None:
    """Fail as a test asks for."""
    if how == "raise":
        raise RuntimeError("as asked for")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(3600)


# What the command does with the parts.


class Run:
    """Runs a part in processes, one after the other, until each of its rows has a result or the time is up.

    `rows` holds for each row its `result` (the cells) and `seconds`, or why it `failed` or was `left_out`.
    """

    def __init__(self, name: str, given: argparse.Namespace, folder: Path, limit: float) -> None:
        self.name, self.given, self.limit = name, given, limit
        self.record = folder / name / "record"
        self.record.parent.mkdir()
        self.record.touch()
        self.rows: dict[str, dict[str, Any]] = {}
        self.names: list[str] = []
        self.begun: tuple[str, float] | None = None
        self.read = 0
        # A new interpreter each; a rehearsal, which never meets CUDA, forks one that has imported torch already.
        self.processes = multiprocessing.get_context(given.start or ("forkserver" if given.rehearse else "spawn"))

    def __call__(self) -> dict[str, Any]:
        started = time.monotonic()
        end = started + self.limit
        while True:
            done = len(self.rows)
            reason = self.process(end)
            if self.begun is not None:
                self.note({"row": self.begun[0], "failed": reason})
            if not self.names or time.monotonic() >= end or len(self.rows) == done:
                break
            if all(name in self.rows for name in self.names):
                break
        if not self.names and not self.rows:
            self.note({"row": None, "failed": reason})
        for name in self.names:
            if name not in self.rows:
                self.note({"row": name, "left_out": f"the part's {self.limit:.0f} s were up"})
        return {"title": PARTS[self.name].title, "seconds": time.monotonic() - started, "rows": self.rows}

    def process(self, end: float) -> str:
        """Run the rows that are left in one process until it ends, a row hangs, or the time is up; return which."""
        given = self.given
        seconds = REHEARSED_SECONDS if given.rehearse else self.limit * MEASURED_SHARE / PARTS[self.name].timed_rows
        earlier = {name: row.get("result", {}) for name, row in self.rows.items()}
        fail = "" if earlier else dict(each.split(":") for each in given.fail).get(self.name, "")
        log = given.output / "gpu.log"
        task = Task(self.name, self.record, log, given.threads, seconds, given.rehearse, earlier, fail)
        process = self.processes.Process(target=work, args=(task,))
        process.start()
        try:
            while True:
                code = process.exitcode
                self.look()
                now = time.monotonic()
                if code is not None:
                    return f"the process ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"
                if now >= end:
                    return f"the part's {self.limit:.0f} s were up"
                longest = self.limit * (ROW_SHARE if len(self.names) > 1 else 1)
                if self.begun is not None and now - self.begun[1] > longest:
                    return f"took more than {longest:.0f} s"
                time.sleep(LOOK)
        finally:
            process.kill()
            process.join()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it has started

    def look(self) -> None:
        """Take in what the process has noted since the last look."""
        text = self.record.read_bytes()[self.read :]
        complete = text[: text.rfind(b"\n") + 1]
        self.read += len(complete)
        for line in complete.splitlines():
            event = json.loads(line)
            if "rows" in event:
                self.names = event["rows"]
            elif "begun" in event:
                self.begun = (event["begun"], time.monotonic())
            else:
                self.note(event)

    def note(self, event: dict[str, Any]) -> None:
        self.begun = None
        name = event.pop("row") or "all"
        self.rows[name] = event
        print(f"  {name}: {in_words(event)}", flush=True)


def faults(parts: dict[str, Any]) -> list[str]:
    """Return the rows of checks that say no, or that could not be had although there is a GPU."""
    found = []
    for name in CHECKS:
        for row, event in parts.get(name, {"rows": {}})["rows"].items():
            if not event.get("result", {}).get("ok") and event.get("left_out") != "GPU only":
                found.append(f"{name}, {row}: {in_words(event)}")
    return found


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " × ".join(cell(each) for each in value)
    return str(value).replace("|", "\\|").replace("\n", " ")


RAW = ("text", "losses")
"""What has no column: text goes below the table, the rest is among the numbers alone."""


def in_words(event: dict[str, Any]) -> str:
    if "result" not in event:
        (kind,) = (kind for kind in ("failed", "left_out") if kind in event)
        return f"{kind.replace('_', ' ')}: {cell(event[kind])}"
    return ", ".join(f"{key} {cell(value)}".strip() for key, value in event["result"].items() if key not in RAW)


def table(name: str, part: dict[str, Any]) -> str:
    """Return a part in Markdown: its title, a table with a line for each row, and what is to be said of it."""
    results = [event.get("result", {}) for event in part["rows"].values()]
    columns = list(dict.fromkeys(key for result in results for key in result if key not in RAW)) or [""]
    lines = [f"## {part['title']}", "", f"| | {' | '.join(columns)} |", f"|:---|{'---:|' * len(columns)}"]
    for row, event in part["rows"].items():
        cells = [cell(event["result"].get(key)) for key in columns] if "result" in event else [in_words(event)]
        cells += [""] * (len(columns) - len(cells))
        lines.append(f"| {cell(row)} | {' | '.join(cells)} |")
    notes = [PARTS[name].note, *(result["text"] for result in results if "text" in result)]
    return "\n".join([*lines, *(f"\n{note.rstrip()}" for note in notes if note)]) + "\n"


def report(results: dict[str, Any], output: Path) -> None:
    """Write the tables, and all numbers."""
    missing = [name for name, version in results["packages"].items() if version is None]
    there = ", ".join(f"{name} {version}" for name, version in results["packages"].items() if version is not None)
    wrong = faults(results["parts"])
    lines = ["# The first hour on a GPU" + (", rehearsed on a CPU at tiny sizes" if results["rehearsal"] else ""), ""]
    lines += [f"Python {results['python']}, {there}. Missing: {', '.join(missing) or 'nothing'}.", ""]
    checked = sum(len(results["parts"][name]["rows"]) for name in CHECKS if name in results["parts"])
    lines += [f"**{len(wrong)} of {checked} checks failed.**", *(f"- {each}" for each in wrong), ""]
    lines += [table(name, results["parts"][name]) for name in PARTS if name in results["parts"]]
    (output / "gpu.md").write_text("\n".join(lines), encoding="utf-8")
    (output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu"), help="folder for what is left (default: gpu)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for all, at most (default: {MINUTES})")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"of {', '.join(PARTS)}; what stands "
        "in the folder of other parts, from the same machine and versions, is kept",
    )
    parser.add_argument("--rehearse", action="store_true", help="run all parts on the CPU at tiny sizes, in a minute")
    parser.add_argument("--threads", type=int, help="CPU threads of a part (default: 8, or 1 to rehearse)")
    parser.add_argument("--fail", nargs="+", default=[], help=argparse.SUPPRESS)  # PART:raise, PART:die, PART:hang
    parser.add_argument("--start", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.threads = given.threads or (1 if given.rehearse else min(8, os.cpu_count() or 1))
    return given


def main() -> int:
    given = arguments()
    multiprocessing.set_forkserver_preload(["torch", "torch._dynamo", "gpu_step"])
    given.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "rehearsal": given.rehearse,
        "machine": platform.node(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }
    before = given.output / "gpu.json"
    parts = {}
    if given.only and before.exists():
        kept = json.loads(before.read_text(encoding="utf-8"))
        parts = kept.pop("parts")
        if kept != results:
            parts = {}
    if not parts:
        (given.output / "gpu.log").unlink(missing_ok=True)
    results["parts"] = parts
    missing = [name for name, found in results["packages"].items() if found is None]
    print(f"missing packages: {', '.join(missing) or 'none'}", flush=True)
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only or PARTS:
            print(f"{PARTS[name].title} ({name})", flush=True)
            limit = min(60 * given.minutes * PARTS[name].share / MINUTES, end - time.monotonic())
            parts[name] = Run(name, given, Path(folder), limit)()
            report(results, given.output)
    wrong = faults(parts)
    print(f"{len(wrong)} checks failed; tables: {given.output / 'gpu.md'}", *wrong, sep="\n", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
