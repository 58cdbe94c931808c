"""Random numbers that depend on nothing but a request's seed and a position in its answer.

A generator with state would make an answer depend on how often it was asked before, and a shared
one on who else is being served. Here the number for a position is a hash: the same alone or in
company, before or after a restart.
"""

import hashlib
import secrets
import struct


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1), uniform over seeds and positions, on a grid of 2**-53."""
    counter = struct.pack("<QQ", seed & (2**64 - 1), position)
    digest = hashlib.blake2b(counter, digest_size=8, person=b"sample").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def fresh_seed() -> int:
    """Return a seed for a request that brought none."""
    return secrets.randbits(64)
