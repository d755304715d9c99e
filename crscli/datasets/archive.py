"""Bounded, checked reading of archives and packed files: names, sizes and ratios are never believed.

Knows nothing about any data set, and nothing of the wish to find a file (`source` does).
"""

import bz2
import errno
import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from crscli.errors import DataError, MachineError

MAX_LINE = 4 * 2**20  # bytes
MAX_MEMBERS = 10_000
MAX_MEMBER = 2 * 2**30  # bytes, unpacked
MAX_ARCHIVE = 8 * 2**30  # bytes of a whole tar, unpacked
MAX_RATIO = 200  # unpacked bytes a stored byte, looked at past RATIO_FLOOR
RATIO_FLOOR = 50 * 2**20

CHUNK = 2**16
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
ARCHIVES = (".zip", *TARS)
AGAIN = "get the file again, or unpack it yourself and give the folder with --from"
BROKEN: tuple[type[Exception], ...] = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
)
BROKEN += (ValueError, IndexError, RuntimeError, OverflowError)


class Readable(Protocol):
    """A stream of unpacked bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


def shown(value: str | bytes, limit: int = 60) -> str:
    """Text of a file that is safe to print: cut, with control characters and bad bytes replaced."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in cut)


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn what reading a file or archive can raise into errors that the user can mend."""
    try:
        yield
    except PermissionError as error:
        raise MachineError(f"{place}: permission denied", "make it readable for this user (chmod u+r)") from error
    except FileNotFoundError as error:
        raise DataError("is not there any more", "check the path", path=place) from error
    except BROKEN as error:
        raise DataError(f"broken or cut short ({shown(str(error), 100)})", AGAIN, path=place) from error
    except OSError as error:
        # bz2 says "Invalid data stream" without a number; a wrong offset in a zip ends as an invalid seek
        if error.errno in (None, errno.EINVAL):
            raise DataError(f"broken ({error})", AGAIN, path=place) from error
        raise MachineError(f"{place}: cannot be read: {error.strerror}") from error


class Stored(io.FileIO):
    """A file on disk that counts the bytes taken from it, for the ratio against bombs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and count."""
        data = super().read(-1 if size is None else size) or b""
        self.taken += len(data)
        return data


class Guarded(io.RawIOBase):
    """An unpacked stream that stops at the caps and never believes a declared size."""

    def __init__(self, inner: Readable, taken: Callable[[], int], place: str, limit: float) -> None:
        self._inner, self._taken, self._place, self._limit = inner, taken, place, limit
        self.count = 0
        self.tail = b""  # the last 512 bytes, where a tar has its end mark

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; a DataError at a cap."""
        with reading(self._place):
            data = self._inner.read(len(buffer))
        self.count += len(data)
        self.tail = (self.tail + data[-512:])[-512:]
        if self.count > self._limit:
            raise DataError(f"unpacks to more than {self._limit:,} bytes", AGAIN, path=self._place)
        if self.count > RATIO_FLOOR and self.count > MAX_RATIO * max(1, self._taken()):
            raise DataError(
                f"unpacks to more than {MAX_RATIO} times its stored size (a decompression bomb?)",
                "unpack it yourself if you trust it, and give the folder with --from",
                path=self._place,
            )
        buffer[: len(data)] = data
        return len(data)


class SafeTarInfo(tarfile.TarInfo):
    """A tar header that neither makes tarfile read a huge extended header into memory nor invents zeros."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "SafeTarInfo":
        """Parse a header; refuse an extended one past 1 MiB."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in b"gxKLX" and info.size > 2**20:
            raise tarfile.ReadError(f"an extended header of {info.size:,} bytes")
        return info


def safe_name(raw: str, archive: str) -> str:
    """A member's name; a DataError if it points outside the archive."""
    parts = PurePosixPath(raw).parts
    bad = not parts or raw.startswith("/") or "\\" in raw or "\0" in raw or ".." in parts
    if bad or re.match(r"[A-Za-z]:", raw):
        message = f"member {shown(raw)!r} points outside the archive: nothing of it is read"
        raise DataError(message, "get the archive from its publisher again", path=archive)
    return str(PurePosixPath(raw))


def refuse_kind(name: str, kind: str, archive: str) -> DataError:
    """The error for a member that is no plain file."""
    message = f"member {shown(name)!r} is {kind}: nothing of the archive is read"
    return DataError(message, "unpack it yourself if you trust it, and give the folder with --from", path=archive)


def checked(names: list[str], archive: str) -> list[str]:
    """The file names of an archive, once each and not too many."""
    if len(names) > MAX_MEMBERS:
        raise DataError(f"more than {MAX_MEMBERS:,} members", AGAIN, path=archive)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise refuse_kind(name, "in it twice", archive)
        seen.add(name)
    return names


def zip_members(archive: zipfile.ZipFile, place: str) -> dict[str, zipfile.ZipInfo]:
    """The plain files of a zip archive; one unsafe member refuses the whole."""
    members, names = {}, []
    for info in archive.infolist():
        name = safe_name(info.orig_filename, place)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refuse_kind(name, "a link or a device", place)
        if info.flag_bits & 0x1:
            raise refuse_kind(name, "encrypted", place)
        if not info.is_dir():
            names.append(name)
            members[name] = info
    checked(names, place)
    return members


def open_zip(file: Any, place: str, stack: ExitStack) -> zipfile.ZipFile:
    """Open a zip archive; says whether a broken one was cut short or is none."""
    try:
        with reading(place):
            return stack.enter_context(zipfile.ZipFile(file))
    except DataError as error:
        file.seek(0)
        start = file.read(60)
        if start.startswith(b"PK\x03\x04"):
            raise DataError("a zip archive cut short: the list at its end is missing", AGAIN, path=place) from error
        message = f"not a zip archive; it begins with {shown(start, 40)!r}"
        raise DataError(message, AGAIN, path=place) from error


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str, stack: ExitStack) -> Readable:
    """Open a member for bounded reading."""
    # zipfile bounds the output of these two only; bzip2 and lzma members are unpacked a whole block at once.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"compressed by zip method {info.compress_type}, not deflate", AGAIN, path=place)
    with reading(place):
        return stack.enter_context(archive.open(info))


def plain_name(name: str) -> str:
    """A file name without .gz or .bz2."""
    return name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith((".gz", ".bz2")) else name


def unpacked(stream: Any, name: str, stack: ExitStack) -> Readable:
    """`stream` without the compression that its name tells of."""
    lower = name.lower()
    if lower.endswith((".gz", ".tgz")):
        return stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb"))
    if lower.endswith((".bz2", ".tbz2")):
        return stack.enter_context(bz2.BZ2File(stream))
    return stream
