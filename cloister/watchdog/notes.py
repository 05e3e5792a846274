"""What the watchdog writes down, as far as there is room: it treats replicas all the same."""

import contextlib
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cloister.errors import CloisterError, DeploymentError
from cloister.events import Journal

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def log_errors(program: str) -> Iterator[None]:
    """Log an error instead of raising it: what befalls one program leaves the others watched.

    Of one that is not Cloister's own the type and the place, since its text may be that of pages.
    """
    try:
        yield
    except CloisterError as error:
        _log.warning("%s: %s", program, error)
    except Exception as error:  # noqa: BLE001  # logged, and the next round tries again
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        _log.error("%s: unexpected %s at %s", program, type(error).__name__, place)


@dataclass
class Trouble:
    """Why the watchdog cannot write, said once until it can again."""

    why: str | None = None

    def met(self, error: DeploymentError) -> None:
        """Say why, unless that was said."""
        if self.why is None:
            _log.error("%s; replicas are treated all the same", error.message)
        self.why = error.message

    def over(self) -> None:
        """Say that it can write again."""
        if self.why is not None:
            _log.info("what could not be written can be again")
        self.why = None


@dataclass(frozen=True)
class Notes(Journal):
    """A journal that may lack events."""

    trouble: Trouble = field(default_factory=Trouble)

    def note(
        self, event: str, replica: str | None = None, why: str | None = None, **details: Any
    ) -> None:
        """Append one event, if it can be written."""
        try:
            super().note(event, replica, why, **details)
        except DeploymentError as error:
            self.trouble.met(error)
