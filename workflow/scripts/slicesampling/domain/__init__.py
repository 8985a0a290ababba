"""The terms that all other packages share: models, labels, metrics, and the records of a run.

It reads and writes nothing but tables.
"""
