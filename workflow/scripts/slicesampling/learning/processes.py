"""One training in several processes, one GPU each: they split the mini-batch and add up its sums."""

import os
import sys
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed, nn

Value = TypeVar("Value")


class Group(NamedTuple):
    """The rank of this process and the number of processes of a training; 0 and 1 for a single process."""

    rank: int
    size: int


def group() -> Group:
    if distributed.is_available() and distributed.is_initialized():
        return Group(distributed.get_rank(), distributed.get_world_size())
    return Group(0, 1)


def launched() -> bool:
    """Return whether `launch` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_rank() -> int:
    """Return the rank of this process on its node, which is the number of its GPU; 0 for a single process."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launch(script: str, processes: int) -> None:
    """Replace this process by torchrun with `processes` processes of `script`; return in each of them.

    With one process, return at once. Signals and the exit status are those of torchrun.
    """
    if processes == 1:
        return
    if not launched():
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            script,
        ]
        sys.stderr.flush()
        os.execv(sys.executable, command)
    distributed.init_process_group()  # NCCL between GPUs, Gloo between CPUs


class _Sum(torch.autograd.Function):
    """The sum over all processes, with the gradient summed over all processes."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def total(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes; each backpropagates only through its own part."""
    if group().size == 1:
        return values
    everywhere = values.detach().clone()
    distributed.all_reduce(everywhere)
    return values + (everywhere - values.detach())


def anywhere(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is true in any process."""
    if group().size == 1:
        return flag
    flags = torch.tensor(int(flag), device=device)
    distributed.all_reduce(flags)
    return bool(flags)


def gathered(values: list[Value]) -> list[Value]:
    """Return the values of all processes in the original order, where each process had every n-th item."""
    size = group().size
    if size == 1:
        return values
    hands: list[list[Value]] = [[] for _ in range(size)]
    distributed.all_gather_object(hands, values)
    return [hands[i % size][i // size] for i in range(sum(len(hand) for hand in hands))]


class BatchNorm(nn.BatchNorm3d):
    """Batch norm over the mini-batch of all processes; `nn.SyncBatchNorm` does the same on GPUs only."""

    def forward(self, features: Tensor) -> Tensor:
        size = group().size
        if size == 1 or not self.training:
            return super().forward(features)
        axes, values = (0, 2, 3, 4), features.float()
        count = size * features.numel() // features.shape[1]
        mean = _Sum.apply(values.sum(dim=axes)) / count
        centred = values - mean.view(1, -1, 1, 1, 1)
        variance = _Sum.apply(centred.square().sum(dim=axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)).to(features.dtype)
