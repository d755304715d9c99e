"""Archives that torch.save wrote, read as plain containers: no torch, and no code of the file can run."""

import io
import pickle
import pickletools
from contextlib import ExitStack
from typing import Any, cast

from crscli.datasets.archive import Guarded, open_member, open_zip, reading, shown, zip_members
from crscli.datasets.source import Source
from crscli.errors import DataError

MAX_PICKLE = 256 * 2**20
MAX_DEPTH = 100  # of containers in containers

_UNPICKLING: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    AttributeError,
    TypeError,
)
_UNPICKLING += (MemoryError, RecursionError, OverflowError)


class _Containers(pickle.Unpickler):
    """Loads builtin containers and nothing else: every class, function or tensor asked for is refused."""

    def find_class(self, module: str, name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it asks for the class or function {shown(f'{module}.{name}')}")

    def persistent_load(self, pid: Any, /) -> Any:
        raise pickle.UnpicklingError("it asks for a tensor or another outside object")


def _check_pickle(data: bytes) -> None:
    """Refuse what makes the unpickler itself take memory at will: a memo number far ahead."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.startswith("EXT"):  # these name a class by a number, past find_class
            raise pickle.UnpicklingError(f"it uses {opcode.name}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= cast(int, argument) <= count:
            raise pickle.UnpicklingError(f"memo number {argument:,} after {count:,} steps")


def _check_values(value: object, most: int) -> None:
    """Refuse other types, and cycles or shared containers that would never end when they are walked."""
    stack, visits = [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        visits += 1
        if visits > most or depth > MAX_DEPTH:
            raise pickle.UnpicklingError("containers that hold themselves, are nested too deeply or shared too often")
        if isinstance(item, dict):
            stack += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple | set | frozenset):
            stack += [(part, depth + 1) for part in item]
        elif not isinstance(item, str | int | float | bool | None):
            raise pickle.UnpicklingError(f"a value of type {type(item).__name__}")


def read_torch_containers(source: Source, name: str) -> object:
    """What torch.save wrote, if it is made of dict, list, tuple, set, str, int, float, bool and None only.

    No code of the file can run: every class it asks for is refused, and torch is not needed.

    Raises:
        DataError: not such an archive, broken, too large, or it asks for a class, function or tensor.
    """
    place = source.place(name)
    blob = source.read_bytes(name)
    with ExitStack() as stack:
        archive = open_zip(stack.enter_context(io.BytesIO(blob)), place, stack)
        with reading(place):
            members = zip_members(archive, place)
        found = [n for n in members if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(found) != 1:
            message = f"not written by torch.save: {len(found)} members <prefix>/data.pkl in it, expected 1"
            raise DataError(message, "is this the right file?", path=place)
        member = open_member(archive, members[found[0]], place, stack)
        guard = Guarded(member, lambda: len(blob), place, MAX_PICKLE)
        data = stack.enter_context(io.BufferedReader(guard)).read()
    try:
        _check_pickle(data)
        value = _Containers(io.BytesIO(data)).load()
        _check_values(value, 100_000 + 10 * len(data))
    except _UNPICKLING as error:
        message = f"its pickle is refused, nothing of it was run: {shown(str(error), 120) or type(error).__name__}"
        hint = "only files of plain lists, dicts, texts and numbers are read; get the published file again"
        raise DataError(message, hint, path=place) from error
    return value
