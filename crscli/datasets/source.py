"""Published files, read where they stand: a directory, one file, or an archive that is never extracted.

Whatever is wrong ends as a DataError that names the file and its line, if any. Knows nothing about any data set:
names and patterns come from the reader.
"""

import fnmatch
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import cast

from crscli.datasets.archive import (
    AGAIN,
    ARCHIVES,
    CHUNK,
    MAX_ARCHIVE,
    MAX_LINE,
    MAX_MEMBER,
    MAX_MEMBERS,
    TARS,
    Guarded,
    Readable,
    SafeTarInfo,
    Stored,
    checked,
    open_member,
    open_zip,
    plain_name,
    reading,
    refuse_kind,
    safe_name,
    shown,
    unpacked,
    zip_members,
)
from crscli.errors import DataError, MachineError

MAX_WHOLE = 256 * 2**20  # bytes of a file that is read as a whole


class Source:
    """Published files in a directory, a zip or tar archive, or a single file, unpacked on the fly.

    A name is one of `names()`; without its .gz or .bz2, or the base name alone, will do where it is clear.
    """

    def __init__(self, path: Path, allow: Sequence[str]) -> None:
        """Look what is there, without reading any content.

        Args:
            path: a directory, one file (.gz and .bz2 are unpacked), a .zip, .tar, .tar.gz, .tgz or .tar.bz2.
            allow: patterns (as in a shell) of base names, or of relative paths if they hold a "/"; the same
                name with .gz or .bz2 appended is implied. Nothing else is ever read.

        Raises:
            DataError: the path is not there or empty, no file matches, or the archive is broken or unsafe.
            MachineError: it may not be read.
        """
        self.path = path
        self.allow = tuple(allow)
        self._kind = self._find_kind()
        listing = {"directory": self._walk, "zip": self._zip, "tar": self._tar, "file": lambda: [path.name]}
        with reading(str(path)):
            found = listing[self._kind]()
        self._names = sorted(n for n in found if any(self._matches(n, pattern) for pattern in self.allow))
        if not self._names:
            raise self._nothing(sorted(found))
        for name in self._names:
            if plain_name(name) != name and plain_name(name) in self._names:
                message = f"both {shown(plain_name(name))} and {shown(name)} are there: which one counts?"
                raise DataError(message, "move one of them away", path=path)

    def _find_kind(self) -> str:
        place, wanted = str(self.path), ", ".join(self.allow)
        try:
            mode = self.path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"does not exist; looked for a directory, an archive or a file with {wanted}"
            message = message.removesuffix(" with *")
            raise DataError(message, "check the path given with --from", path=place) from error
        except OSError as error:
            raise MachineError(f"{place}: cannot be read: {error.strerror}", "check its rights") from error
        if stat.S_ISDIR(mode):
            return "directory"
        if not stat.S_ISREG(mode):
            raise DataError("is neither a file nor a directory", "check the path given with --from", path=place)
        if not self.path.stat().st_size:
            raise DataError("is empty (0 bytes)", "get the file again", path=place)
        lower = self.path.name.lower()
        return "zip" if lower.endswith(".zip") else "tar" if lower.endswith(TARS) else "file"

    def _walk(self) -> list[str]:
        def fail(error: OSError) -> None:
            raise error

        found: list[str] = []
        for folder, folders, files in os.walk(self.path, onerror=fail):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            here = Path(folder)
            found += [(here / f).relative_to(self.path).as_posix() for f in files if (here / f).is_file()]
            if len(found) > MAX_MEMBERS:
                message = f"more than {MAX_MEMBERS:,} files"
                raise DataError(message, "give the folder that holds the files themselves", path=self.path)
        return found

    def _zip(self) -> list[str]:
        with ExitStack() as stack:
            archive = open_zip(stack.enter_context(Stored(self.path)), str(self.path), stack)
            return list(zip_members(archive, str(self.path)))

    def _tar_stream(self, stack: ExitStack) -> tuple[tarfile.TarFile, Guarded, Stored]:
        # Read forwards only ("r|"): going back in a compressed tar would unpack it again from its start.
        stored, place = stack.enter_context(Stored(self.path)), str(self.path)
        guard = Guarded(unpacked(stored, self.path.name, stack), lambda: stored.taken, place, MAX_ARCHIVE)
        with reading(place):
            tar = tarfile.open(fileobj=guard, mode="r|", tarinfo=SafeTarInfo)  # noqa: SIM115 (the stack closes it)
        return stack.enter_context(tar), guard, stored

    def _tar(self) -> list[str]:
        place, names, seen = str(self.path), [], 0
        with ExitStack() as stack:
            tar, guard, _ = self._tar_stream(stack)
            for member in tar:
                seen += 1
                if seen > MAX_MEMBERS:
                    raise DataError(f"more than {MAX_MEMBERS:,} members", AGAIN, path=place)
                if member.isdir() and PurePosixPath(member.name) == PurePosixPath("."):
                    continue
                name = safe_name(member.name, place)
                if member.issparse() or not (member.isreg() or member.isdir()):
                    raise refuse_kind(name, "a link, a device or sparse", place)
                names += [name] if member.isreg() else []
            while guard.read(CHUNK):
                pass  # to the end, so that a cut or corrupt one is seen now
            if guard.count % 512 or guard.tail.strip(b"\0"):
                raise DataError("a tar archive cut short: its end mark is missing", AGAIN, path=place)
        return checked(names, place)

    def _matches(self, name: str, pattern: str) -> bool:
        if name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith("._"):
            return False  # what macOS adds to archives
        forms = {name, plain_name(name)}
        if "/" not in pattern or self._kind == "file":
            pattern, forms = pattern.rpartition("/")[2], {form.rpartition("/")[2] for form in forms}
        return any(fnmatch.fnmatchcase(f, p) for f in forms for p in (pattern, "*/" + pattern))

    def _nothing(self, found: list[str]) -> DataError:
        wanted = ", ".join(self.allow)
        if not found:
            return DataError(f"is empty; looked for {wanted}", "check the path given with --from", path=self.path)
        some = ", ".join(shown(name) for name in found[:8]) + (", …" if len(found) > 8 else "")
        archives = [name for name in found if self._kind == "directory" and name.lower().endswith(ARCHIVES)]
        hint = "give the directory or archive that holds them with --from"
        if archives:
            hint = f"an archive is read as it is: --from {shown(str(self.path / archives[0]), 200)}"
        message = f"no file wanted is in it: looked for {wanted}; found {some} ({len(found)} in all)"
        return DataError(message, hint, path=self.path)

    def names(self, pattern: str | None = None) -> list[str]:
        """The allowed files that are there, sorted; relative, with "/", and with their .gz or .bz2.

        Args:
            pattern: only those that this pattern, in the form of `allow`, stands for.
        """
        return [name for name in self._names if pattern is None or self._matches(name, pattern)]

    def has(self, name: str) -> bool:
        """Whether `name` can be read."""
        return bool(self._candidates(name))

    def place(self, name: str) -> str:
        """Where a file is, in words for an error: the archive's path, then the name in it."""
        found = self._candidates(name)
        inside = found[0] if len(found) == 1 else name
        return str(self.path) if self._kind == "file" else shown(f"{self.path}/{inside}", 300)

    def _candidates(self, name: str) -> list[str]:
        for form in (name, name + ".gz", name + ".bz2"):
            if form in self._names:
                return [form]
        return [n for n in self._names if name in (n.rpartition("/")[2], plain_name(n.rpartition("/")[2]))]

    def _resolve(self, name: str) -> str:
        found = self._candidates(name)
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(shown(n) for n in found[:8])
            message = f"{shown(name)} is there {len(found)} times: {several}"
            raise DataError(message, "give the folder with the right one", path=self.path)
        some = ", ".join(shown(n) for n in self._names[:8])
        message = f"{shown(name)} is not in it; found {some}"
        raise DataError(message, "give the directory or archive that holds it with --from", path=self.path)

    @contextmanager
    def open_stored(self, name: str) -> Iterator[io.BufferedReader]:
        """Open the bytes of a file as they are stored: of a .gz the compressed ones.

        Raises:
            DataError: no such file, an empty one, or (also while it is read) a broken or unsafe archive.
            MachineError: it may not be read.
        """
        with ExitStack() as stack:
            yield self._buffered(self._resolve(name), stack)[0]

    @contextmanager
    def open_binary(self, name: str) -> Iterator[io.BufferedReader]:
        """Open a file for its bytes, unpacked if its name ends in .gz or .bz2; raises as `open_stored`."""
        real = self._resolve(name)
        with ExitStack() as stack:
            stream, stored = self._buffered(real, stack)
            if plain_name(real) != real:
                inner = unpacked(stream, real, stack)
                guard = Guarded(inner, lambda: stored.taken, self.place(real), MAX_MEMBER)
                stream = stack.enter_context(io.BufferedReader(guard, CHUNK))
                self._refuse_empty(stream, real)
            yield stream

    def _buffered(self, real: str, stack: ExitStack) -> tuple[io.BufferedReader, Stored]:
        place, limit = self.place(real), float("inf")
        with reading(place):
            if self._kind in ("zip", "tar"):
                limit = MAX_MEMBER
                inner, stored = (self._from_zip if self._kind == "zip" else self._from_tar)(real, stack)
            else:
                inner = stored = stack.enter_context(Stored(self.path / real if self._kind != "file" else self.path))
        guard = Guarded(inner, lambda: stored.taken, place, limit)
        stream = cast(io.BufferedReader, stack.enter_context(io.BufferedReader(guard, CHUNK)))
        self._refuse_empty(stream, real)
        return stream, stored

    def _from_zip(self, real: str, stack: ExitStack) -> tuple[Readable, Stored]:
        stored = stack.enter_context(Stored(self.path))
        archive = open_zip(stored, str(self.path), stack)
        member = zip_members(archive, str(self.path))[real]
        stored.taken = 0  # the list of members is not content
        return open_member(archive, member, self.place(real), stack), stored

    def _from_tar(self, real: str, stack: ExitStack) -> tuple[Readable, Stored]:
        tar, _, stored = self._tar_stream(stack)
        for member in tar:
            if member.isreg() and str(PurePosixPath(member.name)) == real:
                return cast(Readable, tar.extractfile(member)), stored
        raise DataError("the archive changed while it was read", "start again", path=self.path)

    def _refuse_empty(self, stream: io.BufferedReader, real: str) -> None:
        if not stream.peek(1):
            raise DataError("is empty (0 bytes)", "get the file again", path=self.place(real))

    def read_bytes(self, name: str, limit: int = MAX_WHOLE) -> bytes:
        """A whole file, unpacked; a DataError if longer than `limit` bytes, else raises as `open_stored`."""
        data = bytearray()  # in pieces: one read(limit) would take that much memory beforehand
        with self.open_binary(name) as stream:
            while len(data) <= limit and (chunk := stream.read(CHUNK)):
                data += chunk
        if len(data) > limit:
            raise DataError(f"longer than {limit:,} bytes", "is this the right file?", path=self.place(name))
        return bytes(data)

    def digest(self, name: str) -> tuple[str, int]:
        """The sha256 and the number of the stored bytes of a file; raises as `open_stored`."""
        found, size = hashlib.sha256(), 0
        with self.open_stored(name) as stream:
            while chunk := stream.read(CHUNK):
                found.update(chunk)
                size += len(chunk)
        return found.hexdigest(), size

    def raw_lines(self, name: str) -> Iterator[tuple[int, int, bytes]]:
        """Number (from 1), offset and bytes of each line, ended by LF or CRLF only; a first BOM is dropped.

        Raises:
            DataError: a line of more than MAX_LINE bytes; else as `open_stored`.
        """
        real = self._resolve(name)

        def read() -> Iterator[tuple[int, int, bytes]]:
            number = offset = 0
            with self.open_binary(real) as stream:
                while raw := stream.readline(MAX_LINE + 2):
                    number += 1
                    line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
                    if len(line) > MAX_LINE:
                        message = f"a line longer than {MAX_LINE:,} bytes; it begins with {shown(line[:80], 40)!r}"
                        raise DataError(message, "is this the right file?", path=self.place(real), line=number)
                    bom = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
                    yield number, offset + bom, line[bom:]
                    offset += len(raw)

        return read()

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        """Number (from 1) and text of each line, as `raw_lines`; a DataError also where it is not UTF-8."""
        place = self.place(self._resolve(name))
        return ((number, text_of(raw, place, number, offset)) for number, offset, raw in self.raw_lines(name))


def text_of(raw: bytes, place: str, number: int, offset: int) -> str:
    """A line as text; a DataError with the place of the first byte that is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        after = f" after {shown(raw[max(0, at - 20) : at])!r}" if at else ""
        spot = f"byte {at + 1} of the line, {offset + at + 1} of the file{after}"
        message = f"not UTF-8: 0x{raw[at]:02x} at {spot}"
        hint = "save the file as UTF-8, e.g. iconv -f LATIN1 -t UTF-8"
        raise DataError(message, hint, path=place, line=number) from error
