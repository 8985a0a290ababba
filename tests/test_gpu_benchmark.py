"""Laws of benchmarks/gpu.py, rehearsed on the CPU: every part reports; what fails is told, and stops nothing else."""

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import ROOT
from fake_cuda import fake_cuda

SCRIPT = ROOT / "benchmarks/gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module, for what it knows of its parts; it imports nothing but the standard library."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rehearse(folder: Path, *arguments: str, minutes: float = 10_000, code: int = 0) -> dict[str, Any]:
    """Rehearse the benchmark; with so many minutes nothing but what hangs runs out of time, also on a busy machine."""
    command = [sys.executable, str(SCRIPT), "--rehearse", "--output", str(folder), "--minutes", str(minutes)]
    command += arguments
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = folder / "gpu.log"
    assert done.returncode == code, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    return json.loads((folder / "gpu.json").read_text())


def tables(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return the tables of gpu.md: title → row → column → cell."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for section in (folder / "gpu.md").read_text().split("\n## ")[1:]:
        title, *lines = section.split("\n")
        whole = "\n".join(lines).strip().split("\n\n")[0].split("\n")  # the part's own table comes first
        header, _, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in whole]
        cells = [[cell.strip() for cell in row] for row in (header, *rows)]
        found[title] = {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[1:]}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("only", [("machine", "validation"), ()])
def test_every_part_reports_and_the_tables_say_what_the_numbers_say(
    tmp_path: Path, benchmark: ModuleType, only: tuple[str, ...]
) -> None:
    results = rehearse(tmp_path, *(("--only", *only) if only else ()))
    assert tuple(results["parts"]) == (only or tuple(benchmark.PARTS))
    shown = tables(tmp_path)
    for name, part in results["parts"].items():
        assert part["rows"], name
        rows = shown[part["title"]]
        assert list(rows) == list(part["rows"])
        for row, event in part["rows"].items():
            assert "failed" not in event, (name, row, event)
            if "left_out" in event:
                assert event["left_out"] in ("GPU only", "no switch gained anything")  # the latter by chance
                assert f"left out: {event['left_out']}" in rows[row].values()
                continue
            for column, value in event["result"].items():
                if column not in benchmark.RAW:
                    assert rows[row][column] == benchmark.cell(value), (name, row, column)

    if only:
        return
    parts = {name: part["rows"] for name, part in results["parts"].items()}
    for check in benchmark.CHECKS:
        assert all(event["result"]["ok"] for event in parts[check].values())
    for row in ("CUDA graph of the step", "torch.compile, reduce-overhead"):
        assert parts["switches"].pop(row)["left_out"] == "GPU only"
    for row, event in parts["switches"].items():  # the switches change how a step is computed, not what
        difference = event.get("result", {}).get("difference of the loss", 0)
        assert difference == "other numbers" or difference < 1e-3, row


@pytest.mark.slow
def test_what_fails_is_told_and_stops_nothing_else(tmp_path: Path) -> None:
    """In new interpreters, as on a GPU: a row that raises, one whose process dies, and one that hangs.

    The latter by itself, because the minutes that end it soon would end others on a busy machine.
    """
    fail = ["--start", "spawn", "--fail", "precision:raise", "memory:die", "validation:hang"]
    rehearse(tmp_path, "--only", "validation", "machine", *fail, minutes=4)
    results = rehearse(tmp_path, "--only", "memory", "precision", *fail, code=1)
    rows = {name: list(part["rows"].values()) for name, part in results["parts"].items()}
    assert list(rows) == ["validation", "machine", "memory", "precision"]
    assert rows["precision"][0]["failed"] == "RuntimeError: as asked for"
    assert rows["memory"][0]["failed"] == "the process ended with SIGKILL"
    hung = rows.pop("validation")[0]
    assert re.match("took more than|the part's .* were up", hung.get("failed") or hung["left_out"])
    assert rows.pop("machine")
    for name in ("precision", "memory"):
        assert len(rows[name]) > 3
        assert all("result" in event for event in rows[name][1:])
    text = (tmp_path / "gpu.md").read_text()
    assert "**1 of 5 checks failed.**" in text  # speed is no check
    assert all(each[0]["failed"] in text for each in rows.values())
    assert (hung.get("failed") or hung["left_out"]) in text


class FakeGraph:
    """What it captures is done again, by the function, whose result then lies where that of the capture lay."""

    def __init__(self) -> None:
        self.generators: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        self.result.copy_(self.function(*self.arguments))


@pytest.mark.slow
def test_on_a_gpu_the_rows_compute_what_they_compute_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType
) -> None:
    """On GPUs that are none: all tensors lie where they should."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    modules = ("gpu_work", "gpu_step", "gpu_checks", "gpu_speed")
    work, step, checks, speed = (importlib.import_module(name) for name in modules)
    graph: FakeGraph

    @contextlib.contextmanager
    def capture(captured: FakeGraph) -> Iterator[None]:
        nonlocal graph
        graph = captured
        yield

    def body(made_by: Any, batch: Any) -> torch.Tensor:
        loss = made(made_by, batch)
        if made_by._graph is not None and not hasattr(graph, "result"):
            assert graph.generators == [made_by.dropout]
            graph.function, graph.arguments, graph.result = made, (made_by, batch), loss.detach()
            return graph.result
        return loss

    made = step.Step._body
    with fake_cuda() as cuda:
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph, raising=False)
        monkeypatch.setattr(torch.cuda, "graph", capture)
        monkeypatch.setattr(step.Step, "_body", body)
        setting = work.Setting(work.REHEARSAL, "cuda", 1, 0.01, tmp_path)
        agreement, tiles = checks.agreement(setting), checks.tiles(setting)
        assert agreement["float32"]({})["gradient"] == 0
        assert agreement["bfloat16"]({})["ok"]
        assert tiles["samples, float32"]({})["ok"]
        assert speed.data(setting)["volumes in files"]({})["steps/s"] > 0
        assert speed.validation(setting)["bfloat16"]({})["one volume (s)"] > 0
        rows, earlier = speed.switches(setting), {}
        for row in ("baseline", "loss read one step later", "CUDA graph of the step"):
            work.refresh(setting)
            earlier[row] = rows[row](earlier)
            assert earlier[row]["difference of the loss"] < 1e-6
            assert len(earlier[row]["losses"]) == speed.COMPARED_STEPS
        assert cuda.used == {torch.device("cuda", 0)}
