"""The user's cloister.yaml, where a command changes it."""

import os
from collections.abc import Mapping
from pathlib import Path

from cloister import config
from cloister.errors import ConfigError
from cloister.files import write_atomically


def set_keys(section: str, values: Mapping[str, object]) -> Path:
    """Set keys of a section, in a file that is made when there is none; return the file.

    Without a section the keys are those at the top. Raises ConfigError where the file cannot be
    changed without changing more, and when the configuration is no file, such as /dev/null.
    """
    path = Path(os.environ.get(config.CONFIG_VARIABLE, config.project_root() / config.FILE_NAME))
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"`{path}` is no file that can be changed, and this is to be kept there",
            hint=f"name one by {config.CONFIG_VARIABLE}",
        )
    text = config.default_yaml()
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:  # its line ends stay
            text = file.read()
    write_atomically(path, config.with_keys(text, section, values))
    return path
