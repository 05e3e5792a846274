"""The types of the schema's text-like values: paths, addresses, networks, and how they refuse.

Whole numbers and choices need nothing of their own: pydantic checks them strictly.
"""

import contextlib
import json
import os
import re
import unicodedata
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

STATE_DIR_MAX_BYTES = 80
SUBNET_PREFIX_LENGTH = 24
HIGHEST_GPU = 255
HIGHEST_WEIGHT = 100
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))*")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]{1,253})(:[0-9]{1,5})?")
# What makes `vllm serve` faster or slower and nothing else: of its 250 others many open the seal,
# load code or log pages, and new ones come with each version.
_SPEED_FLAGS = frozenset(
    (
        *("async-scheduling", "attention-backend", "block-size", "compilation-config"),
        *("cudagraph-capture-sizes", "dtype", "enable-chunked-prefill", "enable-prefix-caching"),
        *("kernel-config", "kv-cache-memory-bytes", "linear-backend"),
        *("long-prefill-token-threshold", "max-cudagraph-capture-size", "max-num-queued-tokens"),
        *("mm-device-do-normalize", "mm-encoder-attn-backend", "mm-encoder-attn-dtype"),
        *("mm-hasher-algorithm", "mm-processor-cache-gb", "mm-processor-device", "mm-tensor-ipc"),
        *("numa-bind", "numa-bind-cpus", "numa-bind-nodes", "optimization-level"),
        *("performance-mode", "prefill-schedule-interval", "renderer-num-workers"),
        *("scheduling-policy", "skip-mm-profiling", "stream-interval", "watermark"),
    )
)

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Expected:
    """What a value must be, in the words that follow "must be" in an error and in the docs."""

    words: str


def refusal(predicate: str, *, hint: str = "", key: str = "") -> PydanticCustomError:
    """Return an error whose text follows the key's name; `key` names it where pydantic cannot."""
    return PydanticCustomError(
        "refused", "{predicate}", {"predicate": predicate, "hint": hint, "key": key}
    )


def printable(text: str, limit: int = 80) -> str:
    """Return `text` on one line: control characters escaped, cut after `limit` characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def project_root() -> Path:
    """Return the checkout's folder: the parent of the package."""
    return Path(__file__).resolve().parents[2]


def parse_difference(text: str) -> tuple[str, Any]:
    """Return what a line of `docker.allowed_differences` names, and its value.

    Names may have spaces, such as `exporter on NETWORK Aliases`; raises ValueError without a value.
    """
    subject, _, rest = text.partition(" ")
    words = rest.split(" ")
    for count in range(1, len(words)):
        with contextlib.suppress(ValueError):
            return " ".join((subject, *words[:count])), json.loads(" ".join(words[count:]))
    raise ValueError(text)


def _difference(value: str) -> str:
    try:
        name, told = parse_difference(value)
    except ValueError as error:
        raise refusal(
            f"must have lines such as `tesseract-1 HostConfig.Init false`, whose value is JSON; "
            f"`{printable(value)}` has no such value",
            hint="copy the line that `invoke verify` prints",
        ) from error
    # However it was written, it is compared as it is printed.
    return f"{name} {json.dumps(told, sort_keys=True, separators=(',', ':'))}"


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Control characters, lone surrogates, line and paragraph separators: a path is rendered into
    # the configuration of nginx and supervisor, where a line break would start a new directive.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise refusal(f"must not hold control characters or line breaks: `{printable(value)}`")
    if not value:
        raise ValueError
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise refusal(f"names a home folder that does not exist: `{printable(value)}`") from None


def _absolute(path: Path | None) -> Path | None:
    if path is not None and not path.is_absolute():
        raise ValueError
    return path


def _state_dir(path: Path) -> Path:
    root = project_root()
    # Lexical on purpose: nothing is read, and a symbolic link keeps its short name.
    absolute = Path(os.path.normpath(root / path))
    if root.is_relative_to(absolute):
        raise refusal(
            f"must be a folder of its own, but `{printable(str(absolute))}` holds the project"
        )
    size = len(str(absolute).encode())
    if size > STATE_DIR_MAX_BYTES:
        raise refusal(
            f"is {size} bytes long as an absolute path, over the limit of {STATE_DIR_MAX_BYTES}: "
            f"`{printable(str(absolute))}`",
            hint="it holds Unix sockets, whose paths end at 107 bytes; choose a shorter folder",
        )
    return absolute


def _in_project(path: Path) -> Path:
    return Path(os.path.normpath(project_root() / path))


def _address(value: object) -> IpAddress:
    if isinstance(value, IpAddress):
        return value
    # A zone ("fe80::1%eth0") may hold any character at all, and nginx cannot listen on one.
    if not isinstance(value, str) or "%" in value:
        raise ValueError
    return ip_address(value)


def _network(value: object) -> IpNetwork:
    if isinstance(value, IpNetwork):
        return value
    if not isinstance(value, str) or "%" in value:
        raise ValueError
    meant = ip_interface(value).network
    try:
        return ip_network(value)
    except ValueError:  # host bits are set; guessing would admit more addresses than meant
        raise refusal(
            f"holds `{value}`, which is one address inside the network `{meant}`",
            hint=f"write `{meant}` for all of it, or `{value.partition('/')[0]}` for the one",
        ) from None


def _subnet(value: object) -> IPv4Network:
    network = _network(value)
    if not isinstance(network, IPv4Network) or network.prefixlen != SUBNET_PREFIX_LENGTH:
        raise ValueError
    return network


def _host_name(value: object) -> str:
    # They are written into nginx' configuration, so nothing but letters, digits, - and dots passes.
    if not isinstance(value, str) or not HOST_NAME.fullmatch(value.lower()):
        raise ValueError
    return value.lower()


def _origin(value: object) -> str:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value.lower()):
        raise ValueError
    return value.lower()


def _weight(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= HIGHEST_WEIGHT:
        raise ValueError
    return int(text)


def _gpu(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or int(text) > HIGHEST_GPU:
        raise ValueError
    return int(text)


def _flag(value: object) -> str:
    text = str(value)
    if text.partition("=")[0].removeprefix("--").removeprefix("no-") not in _SPEED_FLAGS:
        raise ValueError
    return text


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


StateDir = Annotated[
    Path, BeforeValidator(_path), AfterValidator(_state_dir), Expected("the path of a folder")
]
StoreDir = Annotated[
    Path, BeforeValidator(_path), AfterValidator(_in_project), Expected("the path of a folder")
]
OptionalPath = Annotated[
    Path | None, BeforeValidator(_path), AfterValidator(_absolute), Expected("an absolute path")
]
Address = Annotated[
    IpAddress,
    BeforeValidator(_address),
    Expected("an IP address such as 127.0.0.1 or ::1"),
]
Networks = Annotated[
    tuple[Annotated[IpNetwork, BeforeValidator(_network)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of IP networks such as 127.0.0.1/32"),
]
HostNames = Annotated[
    tuple[Annotated[str, BeforeValidator(_host_name)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of host names such as ocr.example.org"),
]
Differences = Annotated[
    tuple[Annotated[str, AfterValidator(_difference)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of lines as `invoke verify` prints them"),
]
Origins = Annotated[
    tuple[Annotated[str, BeforeValidator(_origin)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of web origins such as https://app.example.org, without a path"),
]
Weights = Annotated[
    tuple[Annotated[int, BeforeValidator(_weight)], ...],
    BeforeValidator(_as_tuple),
    Expected(f"a list of whole numbers from 1 to {HIGHEST_WEIGHT}"),
]
Gpus = Annotated[
    tuple[Annotated[int, BeforeValidator(_gpu)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of the numbers that nvidia-smi gives to cards, such as 0,1"),
]
VllmFlags = Annotated[
    tuple[Annotated[str, BeforeValidator(_flag)], ...],
    BeforeValidator(_as_tuple),
    Expected("a list of vLLM's flags for speed, such as --stream-interval=10"),
]
Subnet = Annotated[
    IPv4Network,
    BeforeValidator(_subnet),
    Expected("an IPv4 network of 256 addresses such as 172.30.40.0/24"),
]
ProjectName = Annotated[
    str, Expected("1 to 41 lower-case letters, digits or -, the first no -, such as cloister")
]
ImagePrefix = Annotated[
    str, Expected("a registry and folder such as cloister or registry.example/ocr")
]
ImageTag = Annotated[str, Expected("a tag of letters, digits or any of . _ -")]
ModelName = Annotated[
    str, Expected("a name such as nanonets/Nanonets-OCR2-3B: letters, digits, . _ - and one /")
]
OptionalRevision = Annotated[str | None, Expected("a commit of 40 hexadecimal digits")]
Languages = Annotated[str, Expected("Tesseract language codes joined by +, such as eng+deu")]
Prompt = Annotated[str, Expected("text of 1 to 20000 characters")]


def described(value: object) -> str:
    """Return a short name of a value that was found, for an error."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"`{printable(str(value))}`" if value != "" else "an empty text"
