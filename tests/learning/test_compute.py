"""What the configuration asks for, and what a machine has: device, precision, memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from slicesampling import UserError
from slicesampling.learning.compute import CPU_TILE_GIB, DEVICE_SHARE, PRECISIONS, Compute, computing, fingerprint

AUTO = {"device": "auto", "precision": "auto", "threads": 1, "tile_gib": "auto", "training_data": "auto"}
FREE = 10 * 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with two GPUs of 10 GiB that have bfloat16, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (FREE, 2 * FREE))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**30)
    yield monkeypatch
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False  # torch's defaults


def test_without_a_gpu_it_is_the_cpu_in_float32_with_a_fixed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed, because other tiles round differently, and the same seed must give the same result on every CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    compute = computing(AUTO)
    assert compute == Compute(torch.device("cpu"), "float32", CPU_TILE_GIB * 2**30, "auto")
    assert compute.memory_for_tiles() == CPU_TILE_GIB * 2**30
    assert computing(AUTO | {"precision": "bfloat16", "tile_gib": 0.5})[1:3] == ("bfloat16", 2**29)
    with pytest.raises(UserError, match=r"compute\.device is cuda, but torch finds no CUDA device"):
        computing(AUTO | {"device": "cuda"})
    with pytest.raises(
        UserError, match=r"precision is tf32, which CPU .* does not support; accepted here: auto, float32, b"
    ):
        computing(AUTO | {"precision": "tf32"})


def test_a_gpu_is_used_with_what_it_has(gpu: pytest.MonkeyPatch) -> None:
    compute = computing(AUTO)
    assert compute == Compute(torch.device("cuda:0"), "bfloat16", None, "auto")
    assert compute.memory_for_tiles() == DEVICE_SHARE * (FREE + 2 * 2**30)  # free, and kept unused by this process
    assert computing(AUTO | {"device": "cpu"}).device.type == "cpu"
    assert computing(AUTO | {"tile_gib": 2}).memory_for_tiles() == 2**31


def test_each_process_of_a_training_has_a_gpu_of_its_own(gpu: pytest.MonkeyPatch) -> None:
    gpu.setenv("LOCAL_RANK", "1")
    assert computing(AUTO).device == torch.device("cuda:1")
    gpu.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"compute\.training_processes: process 3 has no GPU; this job sees 2"):
        computing(AUTO)


def test_a_gpu_without_bfloat16_takes_float16(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert computing(AUTO).precision == "float16"
    with pytest.raises(
        UserError, match="bfloat16, which a GPU does not support; accepted here: auto, float32, tf32, float16"
    ):
        computing(AUTO | {"precision": "bfloat16"})


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_float32_on_a_gpu_is_rounded_to_tf32_only_where_that_is_asked_for(
    gpu: pytest.MonkeyPatch, precision: str
) -> None:
    computing(AUTO | {"precision": precision})
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")


def test_predictions_are_never_computed_in_bfloat16(gpu: pytest.MonkeyPatch) -> None:
    kinds = {name: computing(AUTO | {"precision": name}).prediction_dtype for name in PRECISIONS}
    assert kinds == {
        "float32": torch.float32,
        "tf32": torch.float32,
        "bfloat16": torch.float16,
        "float16": torch.float16,
    }
    assert computing(AUTO | {"device": "cpu", "precision": "bfloat16"}).prediction_dtype == torch.float32


def test_a_fingerprint_tells_any_change_of_settings_and_volumes_and_nothing_else(tmp_path: Path) -> None:
    settings, volume = {"filters": [4, 6], "dropout": 0.25}, np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "volume.npy", volume)
    same = fingerprint({"dropout": 0.25, "filters": [4, 6]}, np.load(tmp_path / "volume.npy", mmap_mode="r"))
    changed = volume.copy()
    changed[1, 2, 3] += 1
    others = [
        fingerprint(settings | {"dropout": 0.5}, volume),
        fingerprint(settings, changed),
        fingerprint(settings, volume.astype(np.uint16)),
        fingerprint(settings, volume.reshape(2, 4, 3)),
        fingerprint(settings, volume, volume),
    ]
    assert fingerprint(settings, volume) == same
    assert len({same, *others}) == 6
