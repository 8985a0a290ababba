"""Compare what `snakemake plan` said with what a finished run took: hours of the jobs of each stage, and in all.

    snakemake --profile demo && snakemake plan --profile demo && python benchmarks/plan.py .

Run both with one job at a time (`--cores 1`), or with as many as the machine has free cores; the plan knows nothing of
other work on the machine. Jobs without a benchmark file (choosing, counting, drawing) are left out on both sides.
"""

import argparse
import re
from pathlib import Path

import pandas as pd

FOLDERS = {"models": "train", "uncertainty": "uncertainty", "predictions": "predict", "evaluation": "evaluate"}


def planned(log: Path) -> pd.DataFrame:
    """Return jobs and job hours of each stage, from the table in the log of `snakemake plan`."""
    rows = re.findall(r"^\| (\w+) +\|(.+)\|$", log.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cells = {stage: [float(cell) for cell in rest.split("|")] for stage, rest in rows if stage != "stage"}
    return pd.DataFrame({stage: {"jobs": c[0], "planned": c[1] or c[2]} for stage, c in cells.items()}).T


def measured(folder: Path) -> pd.Series:
    """Return the hours that the jobs of each stage took, from Snakemake's benchmark files."""
    hours: dict[str, float] = {}
    for path in folder.rglob("*.tsv"):
        stage = path.relative_to(folder).parts[0]
        stage = FOLDERS.get(stage, stage)
        hours[stage] = hours.get(stage, 0.0) + pd.read_csv(path, sep="\t")["s"].sum() / 3600
    return pd.Series(hours, name="measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the run's results lie")
    results = parser.parse_args().folder / "results"
    table = planned(results / "logs/plan.log").join(measured(results / "benchmarks"), how="inner")
    table.loc["all of these"] = table.sum()
    table["planned / measured"] = table["planned"] / table["measured"]
    print(table.to_markdown(floatfmt=".3g"))


if __name__ == "__main__":
    main()
