"""Settings of one server process as a value and as a command line: every field is a flag.

Standard library only: this runs inside vLLM's image too.
"""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Flags:
    """What the engines' options have in common; a field without a default is a required flag."""

    def flags(self) -> tuple[str, ...]:
        """Return the command line that `parse` turns back into this value."""
        return tuple(f"--{_flag(name)}={value}" for name, value in vars(self).items())

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """Read a command line; argparse ends the process with code 2 on a wrong one."""
        parser = argparse.ArgumentParser(prog=cls.__module__.rpartition(".")[0])
        for option in fields(cls):
            required = option.default is MISSING
            parser.add_argument(
                f"--{_flag(option.name)}",
                type=option.type,  # int, float or str itself, never its name
                required=required,
                default=None if required else option.default,
                help="required" if required else "default: %(default)s",
            )
        return cls(**vars(parser.parse_args(arguments)))


def _flag(name: str) -> str:
    return name.replace("_", "-")
