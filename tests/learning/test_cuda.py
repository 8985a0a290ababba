"""Law of GPUs: there the library computes what it computes on the CPU, each process on its own GPU and nowhere else.

The GPUs are those of `fake_cuda`: tensors must not meet across devices, but the arithmetic is the CPU's, and so are the
results, bit for bit. What CUDA itself does is not seen: see there.
"""

import copy
import io
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from fake_cuda import CPU, FakeCuda, fake_cuda
from slicesampling.cohort.grids import Grid
from slicesampling.cohort.volumes import Preprocessed, save_preprocessed
from slicesampling.domain.records import write_table
from slicesampling.jobs import job
from slicesampling.learning.checkpoint import Checkpoint
from slicesampling.learning.compute import Compute, computing, device_name
from slicesampling.learning.inference import sample
from slicesampling.learning.networks.aunet import build_network
from slicesampling.learning.networks.interface import load_model
from slicesampling.learning.progress import Progress
from slicesampling.learning.training import INFERENCE_BYTES, train
from test_training import NETWORK, SETTINGS, Interruption, problem, same, timeless

SECTION = {
    **{"device": "auto", "precision": "float32", "threads": 1, "tile_gib": 0.25},
    **{"training_data": "auto", "training_processes": 1, "checkpoint_minutes": 60},
}
"""The `compute` section of the configuration."""
GPU = [torch.device("cuda", number) for number in range(2)]


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with fake_cuda() as cuda:
        yield cuda


def of(device: str) -> Any:
    """Return the context in which auto means this device."""
    return fake_cuda() if device == "cuda" else nullcontext()


# What the GPUs themselves are like.


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda gpu, cpu: gpu + cpu, "Expected all tensors to be on the same device, .* cuda:0 and cpu!"),
        (lambda gpu, cpu: gpu.cuda(1) + gpu, "Expected all tensors to be on the same device, .* cuda:1 and cuda:0!"),
        (lambda gpu, cpu: torch.cat([cpu, gpu]), "Expected all tensors to be on the same device"),
        (lambda gpu, cpu: torch.add(gpu, gpu, out=cpu), "Expected all tensors to be on the same device"),
        (lambda gpu, cpu: cpu[0].add_(gpu[0]), "Expected all tensors to be on the same device"),
        (lambda gpu, cpu: cpu[gpu.long()], r"indices should be either on cpu or on the same device .* \(cpu\)"),
        (lambda gpu, cpu: cpu.normal_(generator=torch.Generator("cuda")), "Expected a 'cpu' device type for generator"),
        (lambda gpu, cpu: gpu.normal_(generator=torch.Generator()), "a 'cuda' device type for generator but .* 'cpu'"),
        (lambda gpu, cpu: torch.randn(3, device="cuda", generator=torch.Generator()), "Expected a 'cuda' device type"),
        (lambda gpu, cpu: gpu.numpy(), "can't convert cuda:0 device type tensor to numpy"),
        (lambda gpu, cpu: np.asarray(gpu), "can't convert cuda:0 device type tensor to numpy"),
        (lambda gpu, cpu: gpu.pin_memory(), "cannot pin"),
        (lambda gpu, cpu: gpu.to("cuda:2"), "invalid device ordinal"),
        (lambda gpu, cpu: torch.cuda.mem_get_info(2), "invalid device ordinal"),
        (lambda gpu, cpu: torch.cuda.set_device("cuda"), "Expected a torch.device with a specified index"),
    ],
)
def test_what_torch_refuses_is_refused(cuda: FakeCuda, refused: Callable, message: str) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        refused(torch.ones(3, device="cuda"), torch.ones(3))


def test_what_torch_allows_is_allowed_and_lies_where_it_should(cuda: FakeCuda) -> None:
    cpu, gpu, other = torch.ones(3), torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
    views = [gpu[:2], gpu.view(3, 1), gpu.detach(), torch.nn.Parameter(gpu), gpu.to(GPU[0]), gpu.to(gpu)]
    assert all(view.data_ptr() == gpu.data_ptr() and view.device == GPU[0] for view in views)
    made = [torch.zeros_like(cpu, device="cuda"), torch.as_tensor(cpu.numpy(), device="cuda"), cpu.cuda(), gpu.double()]
    made += [gpu.new_zeros(3), torch.zeros_like(gpu), torch.tensor([1], device="cuda"), torch.arange(3, device=GPU[0])]
    made += [gpu * cpu[0], torch.where(gpu > 0, gpu, cpu[0]), gpu[torch.tensor([2, 1])], gpu[[0, 1]], gpu.sum()]
    made += [
        cpu.pin_memory().to("cuda", non_blocking=True),
        cpu.to(gpu),
        gpu.bernoulli_(generator=torch.Generator("cuda")),
    ]
    assert {tensor.device for tensor in made} == {GPU[0]}
    assert {tensor.device for tensor in [gpu.cpu(), gpu.new_zeros(3, device="cpu"), gpu.to("cpu"), cpu + 1]} == {CPU}
    assert (gpu.copy_(cpu).device, cpu.copy_(gpu).device, other.copy_(gpu).device) == (GPU[0], CPU, GPU[1])
    assert (cpu.pin_memory().is_pinned(), cpu.is_pinned(), gpu.is_cuda, cpu.is_cuda) == (True, False, True, False)
    assert gpu.tolist() == [1.0] * 3
    assert repr(gpu) == "tensor([1., 1., 1.], device='cuda:0')"
    with torch.cuda.stream(torch.cuda.Stream(1)):
        assert torch.ones(1).to("cuda").device == GPU[1]
    assert cuda.used == set(GPU)


def test_gradients_and_moments_lie_with_the_weights(cuda: FakeCuda) -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2)).to("cuda:1")
    twin = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters())
    # The gradient of a product needs a tensor that C++ makes from nothing.
    (network(torch.rand(1, 1, 4, 4, 4, device="cuda:1")).prod() + network[0].weight.prod()).backward()
    optimizer.step()
    kept = [*network.state_dict().values(), *twin.state_dict().values(), *(p.grad for p in network.parameters())]
    kept += [moment for state in optimizer.state.values() for name, moment in state.items() if name != "step"]
    assert {tensor.device for tensor in kept} == {GPU[1]} == cuda.used


def test_a_file_says_where_its_tensors_were(cuda: FakeCuda) -> None:
    file = io.BytesIO()
    torch.save([torch.ones(2, device="cuda:1"), torch.ones(2)], file)
    for to, expected in (
        (None, [GPU[1], CPU]),
        ("cpu", [CPU] * 2),
        ("cuda", [GPU[0]] * 2),
        ({"cuda:1": "cpu"}, [CPU] * 2),
    ):
        file.seek(0)
        assert [tensor.device for tensor in torch.load(file, map_location=to, weights_only=True)] == expected


def test_the_current_gpu_is_the_threads_own_and_the_first_in_a_new_one(cuda: FakeCuda) -> None:
    devices = []
    torch.cuda.set_device(1)
    thread = threading.Thread(target=lambda: devices.append(torch.ones(1).to("cuda").device))
    thread.start()
    thread.join()
    assert devices == [GPU[0]]
    assert torch.ones(1, device="cuda").device == torch.Generator("cuda").device == GPU[1]
    assert torch.cuda.current_stream().device == GPU[torch.cuda.current_device()] == GPU[1]


def test_a_stream_must_wait_for_another(cuda: FakeCuda) -> None:
    side, pinned = torch.cuda.Stream(), torch.ones(3, pin_memory=True)
    with torch.cuda.stream(side):
        sent = pinned.to("cuda", non_blocking=True)
        copied = side.record_event()
        more = sent + 1
    for early, message in (
        (lambda: sent * 2, "a tensor is used that another stream may not have written"),
        (lambda: sent.tolist(), "a tensor is used that another stream may not have written"),
        (lambda: pinned.zero_(), "a tensor is written to that another stream may still read"),
        (lambda: more.to("cpu"), "a tensor is used that another stream may not have written"),
    ):
        with pytest.raises(RuntimeError, match=message):
            early()
    torch.cuda.current_stream().wait_event(copied)
    returned = (sent * 2).to("cpu", non_blocking=True)
    with pytest.raises(RuntimeError, match="a tensor is used that another stream may not have written"):
        returned.numpy()
    with pytest.raises(RuntimeError, match="a tensor is used that another stream may not have written"):
        more.sum()
    torch.cuda.synchronize()
    assert returned.numpy().tolist() == more.tolist() == [2.0] * 3
    pinned.zero_()


@pytest.mark.parametrize("recorded", [False, True])
def test_memory_of_a_side_stream_is_kept_while_another_reads_it(recorded: bool) -> None:
    with nullcontext() if recorded else pytest.raises(RuntimeError, match="memory is freed"), fake_cuda():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            sent = torch.ones(3, device="cuda")
        torch.cuda.current_stream().wait_stream(side)
        sent * 2
        if recorded:
            sent.record_stream(torch.cuda.current_stream())
        del sent


def test_afterwards_there_is_no_gpu() -> None:
    with fake_cuda():
        pass
    assert not torch.cuda.is_available()
    assert "device" not in vars(torch.Tensor)
    with pytest.raises(AssertionError, match="not compiled with CUDA"):
        torch.ones(1, device="cuda")


# What the library does with them.


def test_auto_takes_the_gpu_with_its_number(cuda: FakeCuda) -> None:
    for name in ("auto", "cuda"):
        compute = computing(SECTION | {"device": name, "precision": "auto"})
        assert (compute.device, compute.precision) == (GPU[0], "bfloat16")
    assert device_name(compute.device) == torch.cuda.get_device_name(0)
    assert computing(SECTION | {"device": "cpu"}).device == CPU


def run(
    folder: Path,
    training_data: str = "auto",
    precision: str = "float32",
    epochs: int | None = SETTINGS.epochs,
    minutes: float = 60.0,
    progress: Callable[[Progress], None] = lambda now: None,
) -> dict[str, Any]:
    """Train on what auto means here, with the training data on the device or in files."""
    compute = computing(SECTION | {"precision": precision, "training_data": training_data})
    training_set, validation = problem()
    checkpoint = Checkpoint(folder / "checkpoint.pt", "same", minutes)
    network, settings = build_network(NETWORK, compute.device), SETTINGS._replace(epochs=epochs)
    return train(network, training_set, validation, settings, compute, (1, "initial", "training"), checkpoint, progress)


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("cpu"))


def test_an_interrupted_training_on_a_gpu_is_an_undisturbed_one_on_the_cpu(
    on_cpu: dict[str, Any], cuda: FakeCuda, tmp_path: Path
) -> None:
    """With the training data from files, then on the device, and once more from files; the model is kept on the CPU."""

    def interrupt(now: Progress) -> None:
        if now.step == 8:
            raise Interruption

    with pytest.raises(Interruption):
        run(tmp_path, "device", minutes=0, progress=interrupt)
    resumed = run(tmp_path, "files")
    assert same(on_cpu, resumed)
    assert timeless(on_cpu.history) == timeless(resumed.history)
    assert {tensor.device for tensor in resumed.state.values()} == {CPU}
    assert cuda.used == {GPU[0]}


@pytest.mark.slow
@pytest.mark.parametrize(("spare", "where"), [(2**20, "go to cuda:0"), (0, "stay in their files")])
def test_training_volumes_go_to_the_gpu_where_they_fit_beside_the_training(
    on_cpu: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, spare: int, where: str
) -> None:
    """What is free is asked after the first steps have taken their memory; the model is the same either way."""
    caplog.set_level("INFO")
    with fake_cuda(free=INFERENCE_BYTES + spare):
        assert same(on_cpu, run(tmp_path))
    assert where in caplog.text


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_runs_on_a_gpu(on_cpu: dict[str, Any], cuda: FakeCuda, tmp_path: Path, precision: str) -> None:
    mixed = run(tmp_path, "device", precision, epochs=1)
    assert not same(on_cpu, mixed)
    assert mixed.history[0]["loss"] == pytest.approx(on_cpu.history[0]["loss"], abs=0.02)


def test_the_mean_of_samples_is_the_same_on_a_gpu() -> None:
    image = np.random.default_rng(0).integers(-1000, 1000, (7, 45, 38)).astype(np.int16)
    means = []
    for device in ("cpu", "cuda"):
        with of(device):
            compute = computing(SECTION | {"tile_gib": 1e-3})
            network = build_network(NETWORK, compute.device)
            network.initialise(torch.Generator().manual_seed(1))
            mean = sample(network.eval(), image, SETTINGS.window, compute, 3, (1,), keep_mean=True).mean_probability
            assert mean.device.type == device
            means.append(mean.cpu())
    assert torch.equal(*means)


class Scripts:
    """The scripts of the workflow that compute on a device, in a folder that has what they read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        training_set, (validation,) = problem()
        grid = Grid(validation.mask.shape, np.eye(4))
        for name, volume in [*((volume.name, volume) for volume in training_set.volumes), ("val", validation)]:
            preprocessed = Preprocessed(volume.image, volume.mask, grid, grid, volume.mask)
            save_preprocessed(self.folder / "volumes" / name, preprocessed)
        ledger = [(volume.name, z) for volume in training_set.volumes for z in volume.slices]
        write_table(self.folder / "ledger.tsv", pd.DataFrame(ledger, columns=["volume", "slice"]))

    def run(self, script: str, section: dict[str, Any], output: Path, **params: Any) -> None:
        """Run one as Snakemake does; `output` is the folder of the files that it makes."""
        names = ("model.pt", "history.tsv", "masks", "calibration.tsv", "slices.tsv", "volumes.tsv")
        snakemake = SimpleNamespace(
            input=SimpleNamespace(
                ledger=self.folder / "ledger.tsv",
                volumes=[self.folder / "volumes"],
                model=output / "model.pt",
            ),
            output=SimpleNamespace(**{name.split(".")[0]: output / name for name in names}),
            params=SimpleNamespace(**params),
            wildcards=SimpleNamespace(model="initial", seed="1"),
            config={"compute": section},
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                job, "start", lambda _: sys.stderr
            )  # no log file, so that this process's output stays its own
            path = ROOT / f"workflow/scripts/{script}.py"
            runpy.run_path(str(path), {"snakemake": snakemake, "__real_file__": sys.argv[0]})

    def train(self, section: dict[str, Any], output: Path, epochs: int | None = SETTINGS.epochs) -> None:
        training = SETTINGS._asdict()
        end = {"epochs": epochs, "patience": training.pop("patience")}
        del training["epochs"]
        checkpoint, validation = output / "checkpoint.pt", ["val"]
        params = {"checkpoint": checkpoint, "validation": validation, "network": NETWORK, "training": training}
        params |= {"answers": "annotations", "closed": None}
        self.run("train", section, output, **params, end=end)

    def infer(self, section: dict[str, Any], output: Path) -> None:
        self.run("predict", section, output, volumes=["a", "val"], dilation=3)
        self.run("uncertainty", section, output, volumes=["a", "b"], settings={"samples": 3, "dilation": 3})


@pytest.mark.slow
def test_the_scripts_make_the_same_files_on_a_gpu(on_cpu: dict[str, Any], tmp_path: Path) -> None:
    """Also where the model was trained on the other kind of device."""
    scripts = Scripts(tmp_path)
    scripts.prepare()
    for device in ("cpu", "cuda"):
        with of(device) as cuda:
            scripts.train(SECTION, tmp_path / device)
            scripts.infer(SECTION, tmp_path / device)
            if cuda:
                assert cuda.used == {GPU[0]}
    for path in sorted((tmp_path / "cpu").rglob("*.*")):
        if path.name.startswith(("calibration", "slices", "volumes")) or path.suffix == ".gz":
            assert (tmp_path / "cuda" / path.relative_to(tmp_path / "cpu")).read_bytes() == path.read_bytes(), path
    model = load_model(tmp_path / "cuda/model.pt", Compute(CPU))  # in a process that has no GPU
    assert all(torch.equal(value, on_cpu.state[name]) for name, value in model.network.state_dict().items())


# Run by torchrun in two processes.
SCRIPT = """
import os, sys
sys.path[:0] = [{library!r}, {tests!r}, {here!r}]
from pathlib import Path
from fake_cuda import fake_cuda
from test_cuda import SECTION, Scripts

folder = Path({folder!r})
with fake_cuda() as cuda:
    Scripts(folder).train(SECTION | {{"training_processes": 2, "training_data": "files"}}, folder, epochs=1)
    (folder / ("used" + os.environ["RANK"])).write_text(" ".join(str(device) for device in cuda.used))
"""


@pytest.mark.slow
def test_two_processes_each_train_on_their_own_gpu(on_cpu: dict[str, Any], tmp_path: Path) -> None:
    """From files, so that a thread brings them to the GPU; the loss agrees with one process's to rounding."""
    Scripts(tmp_path).prepare()
    script = tmp_path / "script.py"
    folders = {"library": ROOT / "workflow/scripts", "tests": ROOT / "tests", "here": Path(__file__).parent}
    texts = {name: str(path) for name, path in (folders | {"folder": tmp_path}).items()}
    script.write_text(SCRIPT.format(**texts), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:8000]
    assert [(tmp_path / f"used{rank}").read_text() for rank in range(2)] == ["cuda:0", "cuda:1"]
    together = pd.read_csv(tmp_path / "history.tsv", sep="\t")["loss"]
    alone = [row["loss"] for row in on_cpu.history][: len(together) - 1]  # the last interval ends with the epoch
    assert together[: len(alone)].tolist() == pytest.approx(alone, rel=0.01)
    assert together[0] == pytest.approx(alone[0], rel=1e-5)
