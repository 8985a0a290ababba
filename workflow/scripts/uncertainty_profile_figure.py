"""Draw the slice-level uncertainty profile of one volume with candidates and choices."""

from pathlib import Path

import pandas as pd
from slicesampling.cohort.volumes import annotated as annotated_slices
from slicesampling.cohort.volumes import load_preprocessed, volume_folders
from slicesampling.domain.records import read_table
from slicesampling.jobs.job import start
from slicesampling.publication.figures import uncertainty_profile_figure
from slicesampling.publication.style import save_figure
from slicesampling.query.candidates import slice_candidates

start(snakemake)
query, ledger = read_table(snakemake.input.query), read_table(snakemake.input.ledger)
name = query["volume"].value_counts(sort=False).sort_index().idxmax()
slices = pd.concat([read_table(path) for path in snakemake.input.slices])
profile = slices[slices["volume"] == name].sort_values("slice")[snakemake.params.measure].to_numpy()
annotated = ledger.loc[ledger["volume"] == name, "slice"].tolist()
candidates = slice_candidates(profile, snakemake.params.candidate_distance, annotated)
picked = sorted(query.loc[query["volume"] == name, "slice"])
shown = sorted(candidates, key=lambda index: -profile[index])
shown = sorted({shown[0], shown[len(shown) // 2], shown[-1]}) if shown else []
volume = load_preprocessed(volume_folders(snakemake.input.volumes)[name])
known = annotated_slices(volume.mask)
panels = [
    (int(index), volume.image[index], volume.mask[index] if known[index] else None, tuple(volume.grid.spacing[1:]))
    for index in shown
]
figure = uncertainty_profile_figure(profile, candidates, annotated, picked, panels)
save_figure(figure, Path(snakemake.output[0]).with_suffix(""))
