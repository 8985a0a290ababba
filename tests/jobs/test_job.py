"""What a job leaves in its log, and what it says to the user when it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = """
import errno, sys, types
from slicesampling.jobs.job import start
start(types.SimpleNamespace(log=[sys.argv[1]], output=["results/models/model.pt"]))
raise OSError(getattr(errno, sys.argv[2]), "No space left on device" if sys.argv[2] == "ENOSPC" else "broken")
"""


@pytest.mark.parametrize(("kind", "traceback"), [("ENOSPC", False), ("EIO", True)])
def test_a_full_disk_is_one_line_and_a_defect_is_a_traceback(tmp_path: Path, kind: str, traceback: bool) -> None:
    log = tmp_path / "job.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts"), "SLURM_JOB_ID": "12"}
    command = [sys.executable, "-c", SCRIPT, str(log), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, *rest = log.read_text(encoding="utf-8").splitlines()
    assert "SLURM job 12, process" in first
    assert any("Traceback" in line for line in rest) == traceback
    line = "error: results/models/model.pt: No space left on device; free some space and start again\n"
    assert (done.stderr == line) != traceback
