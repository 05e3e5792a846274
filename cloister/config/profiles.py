"""Model profiles: what a model needs of the other keys, one file a model in profiles/.

A profile is a part of cloister.yaml that lies under the user's own sources. The one whose
`model.name` is the configured model's is applied.
"""

from pathlib import Path

from cloister.config.fields import project_root
from cloister.config.keys import leaves
from cloister.config.sources import Reading
from cloister.config.yamlfile import read_file
from cloister.errors import ConfigError

FOLDER = "profiles"
_NAME = "model.name"


def profiles() -> dict[str, tuple[Path, Reading]]:
    """Return every profile by the name of its model, with its file.

    Raises ConfigError for a file without a `model.name`, or with one that another file has.
    """
    found: dict[str, tuple[Path, Reading]] = {}
    for path in sorted((project_root() / FOLDER).glob("*.yaml")):
        reading = Reading()
        read_file(reading, path, given_by=FOLDER)
        name = reading.values.get(_NAME)
        if not isinstance(name, str):
            raise ConfigError(f"{FOLDER}/{path.name} has no `{_NAME}`, which says whose it is")
        if name in found:
            other = found[name][0].name
            raise ConfigError(f"{FOLDER}/{path.name} and {other} are both for `{name}`")
        found[name] = path, reading
    return found


def apply_profile(reading: Reading) -> None:
    """Put the values of the configured model's profile under those that were read."""
    name = reading.values.get(_NAME, leaves()[_NAME].default)
    _, profile = profiles().get(str(name), (None, Reading()))
    reading.problems += profile.problems
    for key, value in profile.values.items():
        if key not in reading.values and key != _NAME:
            reading.put(key, value, profile.origins[key])
