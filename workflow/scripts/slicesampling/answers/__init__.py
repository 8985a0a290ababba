"""Annotators, their answers to queries, the storage of answers, and their exchange with other tools."""
