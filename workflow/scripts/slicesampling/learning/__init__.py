"""The network, its training, its predictions and how sure it is of them (sections II-A to II-C and II-E)."""
