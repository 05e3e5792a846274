"""What a model may consist of: tensors and text, told by what is inside and not by the name.

The format of safetensors is that of its README: eight bytes with the length of a header, little
endian, the header in JSON, then the tensors' bytes without a gap.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cloister import datafiles
from cloister.datafiles import DataError
from cloister.errors import ModelStoreError

SUFFIXES = (".safetensors", ".json", ".txt", ".jinja")
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the bound of safetensors itself
_MAX_TEXT_BYTES = 200_000_000
_MAX_VALUES = 5_000_000  # of a vocabulary, or of a header
_MAX_ELEMENTS = 2**63 - 1
_MAX_REASON = 200  # characters of what is wrong
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
}


def check(path: Path) -> None:
    """Raise ModelStoreError unless the file is what its suffix says, and no program."""
    if path.suffix not in SUFFIXES:
        raise _refused(path, f"is none of {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        tensors(path)
        return
    try:
        content = datafiles.read(path, _MAX_TEXT_BYTES)
    except (DataError, OSError) as error:
        raise _refused(path, f"is no text of a model: {error}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _refused(path, "is not text, but has to be") from None
    if "\0" in text:
        raise _refused(path, "is not text, but has to be")
    if path.suffix == ".json":
        try:
            datafiles.parse_json(content, most_values=_MAX_VALUES)
        except DataError as error:
            reason = str(error)[:_MAX_REASON]
            raise _refused(path, f"is not JSON that can be read: {reason}") from None


def tensors(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: name to dtype, shape and data_offsets in bytes.

    Raises ModelStoreError when a number in it does not fit the others or the file.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise _refused(path, f"is not safetensors: a header of {length} in {size} bytes")
        try:
            header = datafiles.parse_json(file.read(length), most_values=_MAX_VALUES)
        except DataError as error:
            reason = str(error)[:_MAX_REASON]
            raise _refused(path, f"is not safetensors: its header: {reason}") from None
    if not isinstance(header, dict):
        raise _refused(path, "is not safetensors: its header is no mapping")
    header.pop("__metadata__", None)
    end = 0
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            end = _end(name, entry, end)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _refused(path, f"is not safetensors: {str(error)[:_MAX_REASON]}") from None
    if end != size - _LENGTH_BYTES - length:
        raise _refused(path, f"is not safetensors: tensors end at {end} of {size} bytes")
    return header


def _end(name: str, entry: dict[str, Any], start: int) -> int:
    """Return where a tensor ends; raises ValueError unless it begins at `start` and fits."""
    first, end = entry["data_offsets"]
    shape = entry["shape"]
    if any(type(number) is not int or number < 0 for number in (*shape, first, end)):
        raise ValueError(f"{name[:60]!r} has a shape or offsets that are none")
    if first != start or (end - first) * 8 != _product(shape) * _BITS[entry["dtype"]]:
        raise ValueError(f"{name[:60]!r} has the offsets {first} to {end}, not {start} on")
    return int(end)


def _product(shape: list[int]) -> int:
    """Return the number of a tensor's elements; raises ValueError for more than any file has.

    Many long numbers are not multiplied with each other: that would take hours.
    """
    product = 1
    for side in shape:
        product *= side
        if product > _MAX_ELEMENTS:
            raise ValueError(f"a shape is of more than {_MAX_ELEMENTS} elements")
    return product


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file of a model; raises ModelStoreError for what is none or cannot be read."""
    try:
        with datafiles.opened(path) as file:
            yield file
    except (DataError, OSError) as error:
        raise ModelStoreError(f"`{path}` cannot be read: {error}") from error


def _refused(path: Path, why: str) -> ModelStoreError:
    return ModelStoreError(f"`{path.name}` {why}; it is refused")
