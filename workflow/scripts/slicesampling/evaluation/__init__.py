"""How good the models are: metrics, statistics, and what the annotations cost."""
