"""What the benchmarks share: the library on the path, the machine in words, a process a variant, time and memory."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
sys.path.append(str(Path(__file__).parents[1] / "tests"))  # what they make to work on
sys.path.append(str(Path(__file__).parents[1] / "tests/page"))

import torch
from slicesampling.learning.compute import Compute, computing
from slicesampling.learning.memory import peak_memory

CPU = torch.device("cpu")


def machine(compute: Compute) -> str:
    """Return in words what the figures were measured on."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    device = (
        torch.cuda.get_device_name()
        if compute.device.type == "cuda"
        else f"{names[0] if names else platform.machine()}"
    )
    return f"{device}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}, {compute.precision}"


def compute_of(device: str, precision: str, threads: int) -> Compute:
    """Return the library's compute settings; every variant is measured with them."""
    return computing(
        {"device": device, "precision": precision, "threads": threads, "tile_gib": "auto", "training_data": "auto"}
    )


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median time of `work`, without a first time that warms up."""
    times = []
    for number in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_gib(device: torch.device = CPU) -> float:
    """Return the most memory that was held so far: of the GPU where it is one, otherwise of this process alone."""
    return peak_memory(device) / 2**10


def in_a_process(arguments: list[str]) -> Any:
    """Run this script again with other arguments, and return what it prints last, as JSON."""
    done = subprocess.run([sys.executable, sys.argv[0], *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])
