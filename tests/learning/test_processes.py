"""Law of several processes: what they compute together is what one process computes alone, to rounding.

A training that `launch` starts with torchrun is in `test_cuda`.
"""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from slicesampling.learning.processes import BatchNorm, gathered, group, launch, total
from slicesampling.learning.training import Run
from test_training import SETTINGS, forks, run, same

ONE_EPOCH = SETTINGS._replace(epochs=1, learning_rate=1.0)


def train_as(rank: int, port: int, folder: Path) -> None:
    """Train as one of two processes that torchrun has started."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    launch("started already", 2)
    assert group() == (rank, 2)
    assert gathered([[0, 2, 4], [1, 3]][rank]) == [0, 1, 2, 3, 4]
    torch.optim.Adam = torch.optim.SGD  # type: ignore[misc]
    result = run(folder / str(rank), ONE_EPOCH)
    torch.save(asdict(result), folder / f"result{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and validation of each interval, and the weights in the end, agree with one process's to rounding.

    The training is by plain descent, because Adam makes a whole step of a gradient near zero, whatever sign rounding
    has given it.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [forks().Process(target=train_as, args=(rank, store.port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    together, other = (Run(**torch.load(tmp_path / f"result{rank}.pt", weights_only=True)) for rank in range(2))
    assert same(together, other)
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)
    alone = run(tmp_path / "alone", ONE_EPOCH)
    assert together.steps == alone.steps > 4
    for first, second in zip(together.history, alone.history, strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)
        assert first["validation_jaccard"] == pytest.approx(second["validation_jaccard"], abs=0.005)
    assert together.history[0]["loss"] == pytest.approx(alone.history[0]["loss"], rel=1e-5)
    for name, value in alone.state.items():
        assert torch.allclose(value.float(), together.state[name].float(), rtol=1e-3, atol=1e-3), name


def test_one_process_alone_is_left_as_it_is() -> None:
    launch("never run", 1)
    assert group() == (0, 1)
    values = torch.rand(3, requires_grad=True)
    assert total(values) is values
    assert gathered([1, 2]) == [1, 2]
    features = torch.rand(2, 3, 2, 4, 5)
    assert torch.equal(BatchNorm(3)(features), torch.nn.BatchNorm3d(3)(features))
