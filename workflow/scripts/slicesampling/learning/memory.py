"""The memory of a device: peak, free memory, and the recognition of out-of-memory errors."""

import contextlib
import resource
from pathlib import Path

import torch

STATUS, CLEAR_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")

NO_MEMORY = (
    "unable to find an engine",  # a convolution without workspace, by cuDNN's heuristics
    "unable to find a valid cudnn algorithm",  # the same with cudnn.benchmark
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cublas_status_alloc_failed",
    "cuda out of memory",
    "cuda error: out of memory",
)
"""Messages of plain RuntimeErrors that mean out of memory, in lower case."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of any class means that a device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in NO_MEMORY)


def free_memory(device: torch.device) -> int:
    """Return the unallocated bytes of a GPU, without those that this process caches."""
    return torch.cuda.mem_get_info(device)[0]


def available_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that this process can use: unallocated ones and those that it caches."""
    return free_memory(device) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak for `peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is that of the whole process
            CLEAR_REFERENCES.write_text("5")  # 5: reset the peak resident size, see proc(5)


def peak_memory(device: torch.device) -> float:
    """Return the peak memory since `reset_peak_memory` in MiB, of a GPU or otherwise of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10
