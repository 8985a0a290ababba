"""The kinds of network that the loop can train, a module each, behind one interface."""
