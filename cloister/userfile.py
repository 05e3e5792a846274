"""The user's cloister.yaml, where a command changes it."""

import os
from collections.abc import Mapping
from pathlib import Path

from cloister import config
from cloister.files import write_atomically


def set_keys(section: str, values: Mapping[str, str]) -> Path:
    """Set keys of a section, in a file that is made when there is none; return the file.

    Raises ConfigError when the section is written in one line.
    """
    path = Path(os.environ.get(config.CONFIG_VARIABLE, config.project_root() / config.FILE_NAME))
    text = path.read_text(encoding="utf-8") if path.exists() else config.default_yaml()
    write_atomically(path, config.with_keys(text, section, values))
    return path
