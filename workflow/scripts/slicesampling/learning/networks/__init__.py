"""The kinds of network that the loop can train, one module each, with a common interface."""
