"""Hidden states of token sequences under a frozen encoder, each computed once and kept on disk.

Kept states are rounded to bf16. Knows token ids and an encoder; nothing about what the texts say.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crscli.backbone import Backbone
from crscli.progress import Say, silent

_RECORD = np.dtype([("digest", "S16"), ("begin", "<u8"), ("length", "<u4")])
_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65_536}


class FrozenStates:
    """States (T, D) of token sequences, computed where they are not kept yet."""

    def __init__(
        self, encoder: Backbone, directory: Path | None = None, *, limit_bytes: int = 0, say: Say = silent
    ) -> None:
        """Open what a folder keeps of this encoder's states; nothing else may write there at the same time.

        Args:
            encoder: whose weights do not change.
            directory: for the files; without it nothing is kept.
            limit_bytes: of the file; beyond it states are computed at each use.
            say: told once when the limit is reached.
        """
        self._encoder, self._limit, self._say = encoder, limit_bytes, say
        self._places: dict[bytes, tuple[int, int]] = {}
        self._directory = directory
        self._dtype = torch.float32 if directory is None else torch.bfloat16
        self._end = 0
        self._is_full = False
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            name = encoder.fingerprint[:16]
            self._data, self._index = directory / f"{name}.states", directory / f"{name}.index"
            self._open()

    def _open(self) -> None:
        """Read the index; records whose states were not written to the end are dropped."""
        width = self._encoder.width
        whole = self._data.stat().st_size // (2 * width) if self._data.exists() else 0
        if self._index.exists():
            raw = self._index.read_bytes()
            for record in np.frombuffer(raw[: len(raw) // _RECORD.itemsize * _RECORD.itemsize], dtype=_RECORD):
                begin, length = int(record["begin"]), int(record["length"])
                if begin + length <= whole:
                    self._places[_key(record["digest"])] = (begin, length)
                    self._end = max(self._end, begin + length)
        with self._data.open("ab") as file:
            file.truncate(self._end * 2 * width)
        with self._index.open("wb") as file:
            file.write(_records(self._places).tobytes())

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """States of sequences, padded with zeros to the right: (B, T, D) on the CPU, and lengths (B,)."""
        distinct = list(dict.fromkeys(rows))
        digests = {row: _key(hashlib.blake2b(np.array(row, dtype=np.int64).tobytes(), digest_size=16).digest())
                   for row in distinct}  # fmt: skip
        missing = [row for row in distinct if digests[row] not in self._places]
        fresh = self._computed(missing)
        self._keep({digests[row]: states for row, states in fresh.items()})
        kept = None
        if len(fresh) < len(distinct):
            kept = np.memmap(self._data, np.int16, "r").reshape(-1, self._encoder.width)
        width = max((len(row) for row in rows), default=0)
        found = torch.zeros(len(rows), width, self._encoder.width, dtype=self._dtype)
        for num, row in enumerate(rows):
            if row in fresh:
                found[num, : len(row)] = fresh[row]
            else:
                assert kept is not None, "what is not fresh is kept"
                begin, length = self._places[digests[row]]
                found[num, :length] = torch.from_numpy(kept[begin : begin + length].copy()).view(torch.bfloat16)
        return found, torch.tensor([len(row) for row in rows])

    @torch.no_grad()
    def _computed(self, rows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """States of sequences that are not kept, like lengths together."""
        encoder = self._encoder
        made: dict[tuple[int, ...], Tensor] = {}
        ordered = sorted(rows, key=len)
        slots = _TOKENS_AT_ONCE.get(encoder.device.type, 4096)
        start = 0
        while start < len(ordered):
            end = start + 1
            while end < len(ordered) and (end + 1 - start) * len(ordered[end]) <= slots:
                end += 1
            part = ordered[start:end]
            ids = torch.zeros(len(part), len(part[-1]), dtype=torch.long)
            mask = torch.zeros(len(part), len(part[-1]), dtype=torch.bool)
            for num, row in enumerate(part):
                ids[num, : len(row)] = torch.tensor(row)
                mask[num, : len(row)] = True
            hidden, _ = encoder.encode(encoder.embed(ids.to(encoder.device)), mask=mask.to(encoder.device))
            made |= {row: h[: len(row)].to(self._dtype).cpu() for row, h in zip(part, hidden, strict=True)}
            start = end
        return made

    def _keep(self, fresh: dict[bytes, Tensor]) -> None:
        """Append states and then their index: one that is cut short is found out when it is opened again."""
        if self._directory is None or not fresh:
            return
        size = 2 * self._encoder.width
        room = self._limit // size - self._end if self._limit else None
        places: dict[bytes, tuple[int, int]] = {}
        with self._data.open("ab") as data:
            for digest, states in fresh.items():
                if room is not None and len(states) > room:
                    self._tell_full(len(self._places) + len(places))
                    break
                data.write(states.view(torch.int16).numpy().tobytes())
                places[digest] = (self._end, len(states))
                self._end += len(states)
                room = None if room is None else room - len(states)
        with self._index.open("ab") as index:
            index.write(_records(places).tobytes())
        self._places |= places

    def _tell_full(self, texts: int) -> None:
        if not self._is_full:
            self._say(f"states of {texts:,} texts fill {self._limit / 1e9:.1f} GB; others are computed anew")
        self._is_full = True


def _key(digest: bytes) -> bytes:
    """Zero bytes at the end of a text are lost in numpy: all digests are without them."""
    return bytes(digest).rstrip(b"\0")


def _records(places: dict[bytes, tuple[int, int]]) -> np.ndarray:
    return np.array([(digest, begin, length) for digest, (begin, length) in places.items()], dtype=_RECORD)
