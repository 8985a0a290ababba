def publications():
    return ["results/evaluation/metrics.tsv", "results/evaluation/training.tsv", "results/evaluation/annotations.tsv"]
