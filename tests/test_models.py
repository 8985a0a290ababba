"""What the configuration asks for, and what a machine has: device, precision, memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from slicesampling import UserError
from slicesampling.models import (
    CPU_TILE_GIB,
    DATA_SHARE,
    DEVICE_SHARE,
    Compute,
    computing,
    fingerprint,
    home_of_data,
)

AUTO = {"device": "auto", "precision": "auto", "threads": 1, "tile_gib": "auto"}
FREE = 10 * 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a GPU of 10 GiB that has bfloat16, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (FREE, 2 * FREE))
    return monkeypatch


def test_without_a_gpu_it_is_the_cpu_in_float32_with_a_fixed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed, because other tiles round differently, and the same seed must give the same result on every CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    compute = computing(AUTO)
    assert compute == Compute(torch.device("cpu"), torch.float32, CPU_TILE_GIB * 2**30)
    assert compute.precision == "float32"
    assert computing(AUTO | {"precision": "bfloat16", "tile_gib": 0.5})[1:] == (torch.bfloat16, 2**29)
    with pytest.raises(UserError, match=r"compute\.device is cuda, but torch finds no CUDA device"):
        computing(AUTO | {"device": "cuda"})
    for setting in ("auto", "files"):
        assert home_of_data(setting, compute, 1) is None


def test_a_gpu_is_used_with_what_it_has(gpu: pytest.MonkeyPatch) -> None:
    compute = computing(AUTO)
    assert compute == Compute(torch.device("cuda", 0), torch.bfloat16, DEVICE_SHARE * FREE)
    assert computing(AUTO | {"device": "cpu"}).device.type == "cpu"
    assert home_of_data("auto", compute, int(DATA_SHARE * FREE)) == compute.device
    assert home_of_data("auto", compute, int(DATA_SHARE * FREE) + 1) is None
    assert home_of_data("device", compute, 2 * FREE) == compute.device
    assert home_of_data("files", compute, 1) is None


def test_a_gpu_without_bfloat16_takes_float16(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert computing(AUTO).precision == "float16"
    with pytest.raises(UserError, match="bfloat16, which this GPU has not; accepted here: auto, float32, float16"):
        computing(AUTO | {"precision": "bfloat16"})


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
