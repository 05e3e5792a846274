"""How a function becomes an Invoke task here: flags with help, errors of one or two lines."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task, task

if TYPE_CHECKING:
    from cloister.config import Settings

SET = "override a setting, such as gateway.port=9001 (repeatable; see `invoke config`)"
JSON = "print JSON for scripts"
_INTERRUPTED, _BROKEN_PIPE = 130, 141


class _Paths(Argument):
    """A positional argument that takes every value, which Invoke lacks (its issue 132).

    Invoke offers a value to the first positional argument that has none yet, and complains at the
    end about those that still have none. So this one has none as long as values are handled.
    """

    @property
    def value(self) -> list[str] | None:
        """What was given so far, and None while Invoke looks for a place for the next value."""
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_code.co_name == "handle":
                return None
            frame = frame.f_back
        required = self.default is inspect.Signature.empty
        return list(self._value or []) or (None if required else [])

    @value.setter
    def value(self, path: str) -> None:
        if path.startswith("-"):
            raise ParseError(f"there is no flag `{path}` (see invoke --help TASK)")
        self.raw_value = path
        self._value = [*(self._value or []), path]


class _Number(Argument):
    """A flag that takes a whole number; of another word Invoke itself would print a traceback."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Take a value from the command line."""
        try:
            super().set_value(value, cast)
        except ValueError as error:
            raise ParseError(f"--{self.name} takes a whole number, not `{value}`") from error


class _Task(Task[Any]):
    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the task's arguments, `paths` as one that takes many."""
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if argument.name == "paths":
                argument.__class__ = _Paths
            elif argument.kind is int:
                argument.__class__ = _Number
        return arguments


def command(
    *, repeatable: Sequence[str] = (), **flags: str
) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a task of a function: `flags` are its help texts, its errors are one or two lines."""

    def decorate(body: Callable[..., None]) -> Task[Any]:
        @functools.wraps(body)
        def run(context: Context, /, *arguments: Any, **options: Any) -> None:
            from cloister.cleaning import printable
            from cloister.errors import CloisterError

            try:
                body(context, *arguments, **options)
                sys.stdout.flush()
            except CloisterError as error:
                said = printable(f"error: {error}") if error.message else None
                raise Exit(said, code=error.exit_code) from error
            except KeyboardInterrupt as error:
                raise Exit("interrupted", code=_INTERRUPTED) from error
            except BrokenPipeError as error:  # `invoke ocr ... | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise Exit(code=_BROKEN_PIPE) from error

        iterable = [name for name in ("set_", "paths", *repeatable) if name in flags]
        help_ = {name.rstrip("_").replace("_", "-"): text for name, text in flags.items()}
        # One with a default may be left out; Invoke would make a flag of it.
        positional = ["paths"] if _may_lack(body, "paths") else None
        made: Task[Any] = task(
            klass=_Task,
            help=help_,
            iterable=iterable,
            positional=positional,
            auto_shortflags=False,
        )(run)
        return made

    return decorate


def _may_lack(body: Callable[..., None], name: str) -> bool:
    found = inspect.signature(body).parameters.get(name)
    return found is not None and found.default is not inspect.Parameter.empty


def settings(overrides: Sequence[str], **flags: object) -> "Settings":
    """Load the configuration under what was given as flags of its own and by `--set`."""
    from cloister import config, hardware

    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    return config.load(flags=[*given, *overrides], hardware=hardware.of).settings


def shortened(value: object, width: int = 60) -> str | None:
    """Return a value as text that fits a table."""
    text = None if value is None else str(value)
    return text if text is None or len(text) <= width else f"{text[: width - 1]}…"
