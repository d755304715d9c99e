"""Names one edit away from what is typed, without looking at all of them; names further away, by looking.

A single insertion, deletion, substitution or swap leaves one half of a name as it was, so every name is filed under
its two halves. Hashes in sorted arrays: 1 M names take some 60 MB. Knows nothing about what a name stands for.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

SHORTEST = 8
"""Letters of the shortest name that is looked for."""

LONGEST = 45
_ENDS = 4
"""Letters of the shortest half; names that begin or end with other ones are not looked up."""

_MASK = (1 << 62) - 1
_FRONT, _BACK, _WHOLE = (
    [(length * 0x9E3779B97F4A7C15 + side * 0xC2B2AE3D27D4EB4F) & _MASK for length in range(LONGEST + 3)]
    for side in (1, 2, 3)
)


class HalfIndex:
    """Names without blanks, found by one of their halves."""

    def __init__(self, names: Sequence[str]) -> None:
        """Args: names with or without blanks; their places number them."""
        self._names = names
        hashes, numbers = array("q"), array("i")
        self._fronts: set[str] = set()
        self._backs: set[str] = set()
        for number, name in enumerate(names):
            plain = name.replace(" ", "")
            length = len(plain)
            if SHORTEST <= length <= LONGEST:
                half = length // 2
                self._fronts.add(plain[:_ENDS])
                self._backs.add(plain[-_ENDS:])
                hashes.append((hash(plain[:half]) ^ _FRONT[length]) & _MASK)
                hashes.append((hash(plain[half:]) ^ _BACK[length]) & _MASK)
                hashes.append((hash(plain) ^ _WHOLE[length]) & _MASK)
                numbers.extend((number, number, number))
        entries = np.frombuffer(hashes, dtype=np.int64) if hashes else np.zeros(0, np.int64)
        order = np.argsort(entries, kind="stable")
        self._hashes = entries[order]
        self._numbers = (np.frombuffer(numbers, dtype=np.int32) if numbers else np.zeros(0, np.int32))[order]
        # Most look-ups find nothing: one byte tells, before the arrays are searched.
        self._below = (1 << min(25, max(16, (64 * len(hashes)).bit_length()))) - 1
        seen = np.zeros(self._below + 1, dtype=np.uint8)
        seen[entries & self._below] = 1
        self._seen = seen.tobytes()

    def _at(self, entry: int) -> Iterable[int]:
        first = int(self._hashes.searchsorted(entry))
        if first == len(self._hashes) or self._hashes[first] != entry:
            return ()
        last = int(self._hashes.searchsorted(entry, "right"))
        return self._numbers[first:last].tolist()

    def same(self, window: str) -> Iterator[int]:
        """Numbers of the names whose letters are those of a window without blanks."""
        length = len(window)
        if SHORTEST <= length <= LONGEST:
            entry = (hash(window) ^ _WHOLE[length]) & _MASK
            if self._seen[entry & self._below]:
                for number in self._at(entry):
                    if self._names[number].replace(" ", "") == window:
                        yield number

    def near(self, window: str) -> Iterator[tuple[int, int]]:
        """(number, distance 0 or 1) of the names near a window without blanks; a swap of neighbours counts 1."""
        size = len(window)
        if not SHORTEST - 1 <= size <= LONGEST + 1:
            return
        seen, below = self._seen, self._below
        hits: list[int] = []
        if window[:_ENDS] in self._fronts:
            for length in (size, size - 1, size + 1):
                front = (hash(window[: length // 2]) ^ _FRONT[length]) & _MASK
                if seen[front & below]:
                    hits.append(front)
        if window[-_ENDS:] in self._backs:
            for length in (size, size - 1, size + 1):
                back = (hash(window[length // 2 - length :]) ^ _BACK[length]) & _MASK
                if seen[back & below]:
                    hits.append(back)
        # The two letters in the middle may be the ones that were swapped.
        half = size // 2
        swapped = (hash(window[: half - 1] + window[half]) ^ _FRONT[size]) & _MASK
        if seen[swapped & below]:
            hits.append(swapped)
        if hits:
            for number in dict.fromkeys(n for entry in hits for n in self._at(entry)):
                distance = OSA.distance(window, self._names[number].replace(" ", ""), score_cutoff=1)
                if distance <= 1:
                    yield number, distance


class LengthIndex:
    """Names without blanks by their length: any number of edits, by a look at all names that are about as long.

    A look-up takes 0.3 ms among 6,400 names, 80 ms among a million: for what is written once, not for every word.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Args: names with or without blanks; their places number them."""
        self._by_length: dict[int, tuple[list[str], list[int]]] = {}
        for number, name in enumerate(names):
            plain = name.replace(" ", "")
            same, numbers = self._by_length.setdefault(len(plain), ([], []))
            same.append(plain)
            numbers.append(number)

    def near(self, window: str, edits: int) -> list[tuple[int, int]]:
        """(number, distance) of the names within some edits of a window without blanks, the nearest first."""
        hits: list[tuple[int, int]] = []
        for length in range(len(window) - edits, len(window) + edits + 1):
            same, numbers = self._by_length.get(length, ((), ()))
            found = process.extract_iter(window, same, scorer=OSA.distance, score_cutoff=edits)
            hits += [(int(distance), numbers[place]) for _, distance, place in found]
        return [(number, distance) for distance, number in sorted(hits)]
