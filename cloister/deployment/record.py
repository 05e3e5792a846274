"""What the last `up` applied, so that later commands speak about what runs, not what is planned."""

import json

from pydantic import ValidationError

from cloister.config import Settings
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout


def write(settings: Settings) -> None:
    """Keep the settings of the deployment that is being brought up."""
    layout = Layout(settings.state_dir)
    write_atomically(layout.record, settings.model_dump_json(indent=2) + "\n", mode=0o600)


def read(settings: Settings) -> Settings | None:
    """Return the settings of the deployment in this state folder, None when there is none.

    Raises DeploymentError when the record is damaged or of another version.
    """
    path = Layout(settings.state_dir).record
    try:
        return Settings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError) as error:
        raise DeploymentError(
            f"`{path}` cannot be read: {str(error).splitlines()[0]}",
            hint="invoke down, then invoke up",
        ) from error


def erase(settings: Settings) -> None:
    """Forget the deployment."""
    Layout(settings.state_dir).record.unlink(missing_ok=True)


def required(settings: Settings) -> Settings:
    """Return the settings of the deployment; raises DeploymentError when nothing is up."""
    recorded = read(settings)
    if recorded is None:
        raise DeploymentError(f"nothing is up in `{settings.state_dir}`", hint="invoke up")
    return recorded
