"""The memory of a device: its peak in a stretch of work, what is free, and whether an error says it was too little."""

import contextlib
import resource
from pathlib import Path

import torch

STATUS, CLEAR_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")

NO_MEMORY = (
    "unable to find an engine",  # a convolution without workspace, as cuDNN's heuristics put it
    "unable to find a valid cudnn algorithm",  # the same with cudnn.benchmark
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cublas_status_alloc_failed",
    "cuda out of memory",
    "cuda error: out of memory",
)
"""What plain RuntimeErrors say that stand for too little memory, in lower case."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that a device's memory did not suffice, whatever its class."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in NO_MEMORY)


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that nobody holds, without those that this process keeps for its next tensors."""
    return torch.cuda.mem_get_info(device)[0]


def available_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that this process can fill: what nobody holds, and what it keeps unused."""
    return free_memory(device) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new stretch for `peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is that of the whole process
            CLEAR_REFERENCES.write_text("5")  # 5: the highest resident size starts anew, see proc(5)


def peak_memory(device: torch.device) -> float:
    """Return the most memory held since `reset_peak_memory`, in MiB: of a GPU, otherwise of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10
