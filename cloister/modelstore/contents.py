"""What a model may consist of: tensors and text, told by what is inside and not by the name.

The format of safetensors is that of its README: eight bytes with the length of a header, little
endian, the header in JSON, then the tensors' bytes without a gap.
"""

import json
import math
from pathlib import Path
from typing import Any

from cloister.errors import ModelStoreError

SUFFIXES = (".safetensors", ".json", ".txt", ".jinja")
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the bound of safetensors itself
_MAX_TEXT_BYTES = 200_000_000
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
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise _refused(path, f"is text of more than {_MAX_TEXT_BYTES} bytes")
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _refused(path, "is not text, but has to be") from None
    if "\0" in text:
        raise _refused(path, "is not text, but has to be")
    if path.suffix == ".json":
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise _refused(path, "is not JSON") from None


def tensors(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: name to dtype, shape and data_offsets in bytes.

    Raises ModelStoreError when a number in it does not fit the others or the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise _refused(path, f"is not safetensors: a header of {length} in {size} bytes")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise _refused(path, "is not safetensors: its header is not JSON") from None
    if not isinstance(header, dict):
        raise _refused(path, "is not safetensors: its header is no mapping")
    header.pop("__metadata__", None)
    end = 0
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            end = _end(name, entry, end)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refused(path, f"is not safetensors: {error}") from None
    if end != size - _LENGTH_BYTES - length:
        raise _refused(path, f"is not safetensors: tensors end at {end} of {size} bytes")
    return header


def _end(name: str, entry: dict[str, Any], start: int) -> int:
    """Return where a tensor ends; raises ValueError unless it begins at `start` and fits."""
    first, end = entry["data_offsets"]
    shape = entry["shape"]
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"`{name}` has the shape {shape}")
    needed = math.prod(shape) * _BITS[entry["dtype"]]
    if first != start or (end - first) * 8 != needed:
        raise ValueError(f"`{name}` has the offsets {first} to {end}, not {start} on")
    return int(end)


def _refused(path: Path, why: str) -> ModelStoreError:
    return ModelStoreError(f"`{path.name}` {why}; it is refused")
