"""Law of several processes: what they compute together is what one process computes alone, to rounding."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from slicesampling.learning.processes import BatchNorm, gathered, group, launch, total
from test_training import SETTINGS, run

GENTLE = 1e-3
"""A learning rate so small that rounding stays rounding; ten times as much makes 0.01 of the Jaccard index of it."""

# Run by torchrun in two processes with gloo; in this order, because the first call starts the group.
SCRIPT = """
import sys
sys.path[:0] = [{library!r}, {here!r}]
from pathlib import Path
import torch
from slicesampling.learning.processes import group, launch, gathered
from test_training import SETTINGS, run

launch(__file__, 2)
assert group().size == 2
assert gathered([[0, 2, 4], [1, 3]][group().rank]) == [0, 1, 2, 3, 4]
folder = Path({folder!r})
result = run(folder, SETTINGS._replace(epochs=1, learning_rate={rate}))
if group().rank == 0:
    torch.save(result, folder / "result.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Loss and validation of each interval, and the weights in the end, agree with one process's to rounding."""
    script = tmp_path / "script.py"
    library, here = str(ROOT / "workflow/scripts"), str(Path(__file__).parent)
    script.write_text(SCRIPT.format(library=library, here=here, folder=str(tmp_path), rate=GENTLE), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    together = torch.load(tmp_path / "result.pt", weights_only=True)
    alone = run(tmp_path / "alone", SETTINGS._replace(epochs=1, learning_rate=GENTLE))
    assert together["steps"] == alone["steps"] > 4
    for first, second in zip(together["history"], alone["history"], strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
        assert first["validation_jaccard"] == pytest.approx(second["validation_jaccard"], abs=0.01)
    assert together["history"][0]["loss"] == pytest.approx(alone["history"][0]["loss"], rel=1e-5)
    for name, value in alone["state"].items():
        assert torch.allclose(value.float(), together["state"][name].float(), rtol=0.05, atol=5e-3), name


def test_one_process_alone_is_left_as_it_is() -> None:
    launch("never run", 1)
    assert group() == (0, 1)
    values = torch.rand(3, requires_grad=True)
    assert total(values) is values
    assert gathered([1, 2]) == [1, 2]
    features = torch.rand(2, 3, 2, 4, 5)
    assert torch.equal(BatchNorm(3)(features), torch.nn.BatchNorm3d(3)(features))
