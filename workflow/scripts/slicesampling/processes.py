"""One training in several processes, a GPU each: the mini-batch is split, and what it sums up is summed over all."""

import os
import sys
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed, nn

Value = TypeVar("Value")


class Group(NamedTuple):
    """This process's number among those of a training, and how many they are; 0 and 1 for one on its own."""

    rank: int
    size: int


def group() -> Group:
    if distributed.is_available() and distributed.is_initialized():
        return Group(distributed.get_rank(), distributed.get_world_size())
    return Group(0, 1)


def launched() -> bool:
    """Return whether this process is one of those that `launch` has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_rank() -> int:
    """Return this process's number among those on its node, and so that of its GPU; 0 for one on its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launch(script: str, processes: int) -> None:
    """Run `script` with torchrun in so many processes, in place of this one; returns in each of those, or for one.

    Takes the place of this process, so that signals and the exit status are torchrun's.
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
    """The sum over all processes, whose gradient is that of all of them."""

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
    """Return the sum of `values` over all processes; each backpropagates through its own part alone."""
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
    """Return the values of a list that was dealt to the processes like cards, each having worked off its hand."""
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
