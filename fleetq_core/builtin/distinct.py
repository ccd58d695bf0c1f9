"""Counting distinct values in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_SPACE = 2**64


class DistinctCounter:
    """Keeps the k smallest 64-bit hashes: exact below k distinct values, an estimate with about 1/√k error above.

    Source: Z. Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", RANDOM 2002 (the k-minimum-values
    sketch, unbiased form (k − 1) / h_k).
    """

    def __init__(self, k: int = 4096) -> None:
        self._k = k
        self._smallest: set[int] = set()
        self._limit = _SPACE
        self.is_exact = True

    def add(self, values: Iterable[object]) -> None:
        """Take in values; equal ones must have the same `str()`."""
        for value in values:
            digest = hashlib.blake2b(str(value).encode("utf-8", "replace"), digest_size=8).digest()
            number = int.from_bytes(digest)
            if number < self._limit:
                self._smallest.add(number)
        if len(self._smallest) > self._k:
            kept = sorted(self._smallest)[: self._k]
            self._smallest, self._limit = set(kept), kept[-1]
            self.is_exact = False

    def count(self) -> int:
        """Distinct values seen."""
        if self.is_exact:
            return len(self._smallest)
        return round((self._k - 1) * _SPACE / (max(self._smallest) + 1))
