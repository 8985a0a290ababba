"""Evaluation of the models: metrics, statistics, and the cost of annotation."""
