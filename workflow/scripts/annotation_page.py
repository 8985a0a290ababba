"""Show the cost and the benefit of annotation so far, as a figure and a page."""

from pathlib import Path

import pandas as pd
from slicesampling.answers.store import Answers
from slicesampling.domain.records import read_table, write_table
from slicesampling.evaluation.annotation_times import (
    agreement,
    annotation_times,
    costs_by_round,
    next_round,
    seconds_by_kind,
    whole_to_single,
)
from slicesampling.jobs.files import write_text
from slicesampling.jobs.job import start
from slicesampling.jobs.randomness import generator
from slicesampling.publication.people import annotation_page, minutes_figure
from slicesampling.publication.style import save_figure

start(snakemake)
params, inputs = snakemake.params, snakemake.input
answers = Answers(params.answers)
depths = read_table(inputs.reference).groupby("volume")["slice"].size().to_dict()
times = annotation_times(answers, params.closed, depths)
costs = costs_by_round(times, params.closed).set_index("round")[["untimed", "minutes", "all_minutes"]]
tested = pd.concat(
    [read_table(path).assign(model=Path(path).parent.name) for path in inputs.metrics] or [pd.DataFrame()]
)
rows = []
for model, ledger, history in zip(params.models, inputs.ledgers, inputs.histories, strict=True):
    annotated, validations = read_table(ledger), read_table(history)
    best = validations[validations["chosen"]].iloc[0]
    row = {"model": model, "slices": len(annotated), "structure_slices": int(annotated["structure"].sum())}
    row |= costs.loc[model].to_dict() if model in costs.index else dict.fromkeys(costs, 0.0)
    row |= {"validation_dice": best["validation_dice"], "validation_jaccard": best["validation_jaccard"]}
    own = tested[tested["model"] == model] if len(tested) else tested
    rows.append(row | {"test_dice": own["dice"].mean() if len(own) else float("nan")})
rounds = pd.DataFrame(rows)
more = params.more
estimate = next_round(rounds["slices"].tolist(), rounds["validation_dice"].tolist(), more)
figure = minutes_figure(rounds, estimate, more)
save_figure(figure, Path(snakemake.output.figure).with_suffix(""))
write_table(snakemake.output.rounds, rounds)
write_table(snakemake.output.times, times)
page = annotation_page(
    rounds,
    estimate,
    more,
    seconds_by_kind(times),
    whole_to_single(times, generator("bootstrap")),
    params.ratio,
    agreement(answers, params.closed),
    read_table(inputs.review) if inputs.review else None,
    Path(snakemake.output.figure).read_bytes(),
    params.left_out,
)
write_text(snakemake.output.page, page)
