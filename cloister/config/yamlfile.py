"""The YAML source: one mapping of sections, read node by node so that each key has its line.

Nothing is constructed from the document but text, lists of text and null.
"""

import functools
import stat
from pathlib import Path

import yaml

from cloister import datafiles
from cloister.config.fields import described, printable, project_root
from cloister.config.keys import leaves, sections
from cloister.config.sources import Reading, parse
from cloister.datafiles import DataError
from cloister.errors import ConfigError

_NULL_TAG = "tag:yaml.org,2002:null"


def read_file(reading: Reading, path: Path, *, given_by: str | None) -> None:
    """Read a YAML file; one that nobody asked for (`given_by` is None) may be missing.

    Raises ConfigError when the file cannot be read or is not one YAML mapping.
    """
    name = _name(path)
    text = _text(path, name, given_by)
    document = _compose(text, name)
    if isinstance(document, yaml.MappingNode):
        _read_mapping(reading, document, name, section="")
    elif document is not None and _plain(document) is not None:
        raise ConfigError(
            f"{name} must be a mapping of keys to values, not {described(_plain(document))}",
            hint="docs/configuration.md has every key",
        )


def read_part(reading: Reading, path: Path, part: str) -> None:
    """Read one mapping of a YAML file, which has other things beside it.

    Raises ConfigError when the file cannot be read or has no such mapping.
    """
    name = _name(path)
    document = _compose(_text(path, name, part), name)
    pairs = document.value if isinstance(document, yaml.MappingNode) else []
    nodes = [value for key, value in pairs if key.value == part]
    if len(nodes) != 1 or not isinstance(nodes[0], yaml.MappingNode):
        raise ConfigError(f"{name} has no mapping `{part}`")
    _read_mapping(reading, nodes[0], name, section="")


def _name(path: Path) -> str:
    root = project_root()
    return printable(str(path.relative_to(root) if path.is_relative_to(root) else path), 4096)


def _text(path: Path, name: str, given_by: str | None) -> str:
    try:
        return _content(path, named=given_by is not None).decode("utf-8-sig")
    except FileNotFoundError:
        if given_by is None and not path.is_symlink():
            return ""
        raise ConfigError(
            f"the configuration file `{name}` does not exist",
            hint=f"it was named by {given_by}" if given_by else "it is a broken symbolic link",
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name} line {line} is not UTF-8", hint="save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"the configuration file `{name}` cannot be read: {reason}") from None


def _content(path: Path, *, named: bool) -> bytes:
    """Return a file's content, or a pipe's where the user `named` it, such as by `<(...)`."""
    about = path.stat()
    if named and stat.S_ISFIFO(about.st_mode):
        return _piped(path, about.st_dev, about.st_ino)
    return datafiles.read(path, datafiles.YAML_BYTES)


@functools.cache
def _piped(path: Path, _device: int, _inode: int) -> bytes:
    """Return a pipe's content, which comes once; a command may load its configuration twice."""
    return datafiles.read_pipe(path, datafiles.YAML_BYTES)


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        datafiles.check_yaml(text, once=False)  # which key is there twice is told with its section
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name} line {mark.line + 1}" if mark else name
        raise ConfigError(f"{where} is not YAML: {printable(error.problem or '')}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name} line {line} has a character that YAML forbids") from None
    except DataError as error:
        raise ConfigError(f"{name} {error}", hint=error.hint) from None
    except (ValueError, OverflowError):  # both from chr(), which pyyaml does not guard
        raise ConfigError(f"{name} is not YAML: an escape beyond Unicode") from None
    return node


def _read_mapping(reading: Reading, node: yaml.MappingNode, name: str, section: str) -> None:
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        origin, value = f"{name} line {line}", _plain(value_node)
        if not isinstance(key_node, yaml.ScalarNode):
            reading.refuse(f"{origin} has {described(_plain(key_node))} where a key belongs")
            continue
        key = section + key_node.value
        if key in lines:
            reading.refuse(
                f"`{printable(key)}` in {origin} is set twice, first in line {lines[key]}"
            )
        elif key in leaves() and "." in key_node.value:
            outer, inner = key.split(".")
            reading.refuse(
                f"`{key}` in {origin} is not inside its section",
                f"write `{inner}:` on a line of its own, indented under `{outer}:`",
            )
        elif leaf := leaves().get(key):
            reading.put(key, parse(leaf, value) if isinstance(value, str) else value, origin)
        elif key not in sections():
            reading.refuse_unknown(key, origin)
        elif isinstance(value_node, yaml.MappingNode):
            _read_mapping(reading, value_node, name, f"{key}.")
        elif value is not None:  # a section is null when all its keys are commented out
            reading.refuse(f"`{key}` in {origin} must be a section of keys, not {described(value)}")
        lines.setdefault(key, line)


def _plain(node: yaml.Node) -> str | list[object] | dict[str, object] | None:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL_TAG else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        # Two levels are all that any key takes, and an alias can make a list hold itself.
        return [_plain(item) if isinstance(item, yaml.ScalarNode) else {} for item in node.value]
    return {}
