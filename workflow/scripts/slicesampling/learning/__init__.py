"""The network, its training, its predictions and their uncertainty (sections II-A to II-C and II-E)."""
