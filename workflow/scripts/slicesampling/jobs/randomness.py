"""Seeds and generators that depend on nothing but the names they are asked for by."""

import hashlib

import numpy as np


def seed_of(*key: str | int) -> int:
    """Return a 63-bit seed that depends on `key` alone, such as (seed, "rss", 3, "query"); equal on every platform."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: str | int) -> np.random.Generator:
    """Return a random generator seeded by `key` alone (see `seed_of`)."""
    return np.random.default_rng(seed_of(*key))
