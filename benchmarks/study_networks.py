"""The study's question with two networks: keep what runs have measured, and compare.

.venv/bin/python benchmarks/study_networks.py collect ../run nnU-Net     # add a run of config/study_networks.yaml
.venv/bin/python benchmarks/study_networks.py compare                    # print the table, and draw the figure
"""

import argparse
from pathlib import Path

import common  # noqa: F401 - finds the library
import pandas as pd
import study
from matplotlib.figure import Figure
from slicesampling.publication.plots import box_statistics
from slicesampling.publication.style import COLUMN, looks, save_figure, styled

RECORD = study.STUDY / "networks.tsv.xz"
COLUMNS = ["network", "seed", "strategy", "slices", "liver_slices", "volume", "dice", "rve", "msd", "hd"]
ORDER = ["uss", "aware", "rss", "pool"]


def collect(run: Path, network: str) -> None:
    """Add the converged models of a run, or put them in the place of those of the same network, seed and strategy."""
    tables = []
    for seed, name, table in study.evaluated(run):
        model, converged, _ = name.partition("-converged")
        if converged:
            ledger = study.read(run / f"results/annotations/seed{seed}/{model}.tsv")
            about = {"network": network, "seed": seed, "strategy": model.split("-")[0]}
            counts = {"slices": len(ledger), "liver_slices": (ledger["liver"] == "1").sum()}
            tables.append(table.assign(**about, **counts))
    study.add(pd.concat(tables)[COLUMNS], RECORD, COLUMNS[:3])


def compare() -> None:
    """Print a row for each network and strategy, over all its seeds, and draw the Dice of all volumes."""
    kept = pd.read_csv(RECORD, sep="\t")
    kept["strategy"] = pd.Categorical(kept["strategy"], ORDER)
    rows = []
    for (network, strategy), table in kept.groupby(["network", "strategy"], observed=True):
        row = {"network": network, "": strategy.upper() if strategy != "pool" else "data pool"}
        row |= {name: f"{table[of].mean():.0f}" for name, of in (("slices", "slices"), ("with liver", "liver_slices"))}
        row["Dice (5th percentile)"] = f"{table['dice'].mean():.3f} ({table['dice'].quantile(0.05):.3f})"
        row["RVE [%] (95th)"] = f"{table['rve'].mean():.1f} ({table['rve'].quantile(0.95):.1f})"
        rows.append(row | {"MSD [mm]": f"{table['msd'].mean():.1f}", "HD [mm]": f"{table['hd'].mean():.0f}"})
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 6))
    save_figure(networks_figure(kept), study.STUDY / "networks")
    (study.STUDY / "networks.pdf").unlink()


@styled
def networks_figure(kept: pd.DataFrame) -> Figure:
    """Draw a box of the Dice for each network and strategy; whiskers from the 5th to the 95th percentile."""
    networks, drawn = sorted(set(kept["network"])), looks(ORDER[:-1])
    figure = Figure(figsize=(COLUMN, 2.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(ORDER)
    for place, network in enumerate(networks):
        for number, strategy in enumerate(ORDER):
            values = kept.loc[(kept["network"] == network) & (kept["strategy"] == strategy), "dice"]
            if not len(values):
                continue
            look = drawn[strategy]
            axes.bxp(
                [box_statistics(values)],
                positions=[place + (number - (len(ORDER) - 1) / 2) * width],
                widths=0.8 * width,
                showfliers=False,
                showmeans=True,
                patch_artist=True,
                boxprops={"facecolor": look.colour, "alpha": 0.6, "label": look.label},
                medianprops={"color": "black"},
                meanprops={"marker": look.marker, "mfc": "white", "mec": "black", "ms": 4},
            )
    axes.set_xticks(range(len(networks)), [network.replace(", ", ",\n") for network in networks])
    axes.set(ylabel="Dice of 60 test volumes", xlim=(-0.5, len(networks) - 0.5))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # one of each label
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(ORDER))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    collecting = commands.add_parser("collect")
    collecting.add_argument("run", type=Path, help="the folder of a run")
    collecting.add_argument("network", help="how it is called in the table")
    commands.add_parser("compare")
    given = parser.parse_args()
    collect(given.run, given.network) if given.command == "collect" else compare()


if __name__ == "__main__":
    main()
