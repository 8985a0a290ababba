"""Seeds and random generators that depend only on a key."""

import hashlib

import numpy as np


def seed_of(*key: str | int) -> int:
    """Return a 63-bit seed that depends only on `key`, such as (seed, "rss", 3, "query"), on every platform."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: str | int) -> np.random.Generator:
    """Return a random generator whose seed depends only on `key` (see `seed_of`)."""
    return np.random.default_rng(seed_of(*key))
