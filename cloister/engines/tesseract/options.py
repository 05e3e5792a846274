"""What one Tesseract server is started with, as a value and as a command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Options:
    """The settings of one server process; each field is also a flag of that name.

    Sizes are in the unit that the name ends with: mebibytes, seconds, millions of pixels.
    `queue_depth` counts the requests that may wait while every worker is busy.
    """

    port: int
    host: str = "127.0.0.1"
    served_model_name: str = "nanonets/Nanonets-OCR2-3B"
    languages: str = "eng"
    tessdata_dir: str = ""
    workers: int = 1
    queue_depth: int = 32
    page_timeout_s: float = 120.0
    max_megapixels: int = 100
    max_images: int = 16
    max_body_mib: int = 50

    def flags(self) -> tuple[str, ...]:
        """Return the command line that `parse` turns back into this value."""
        return tuple(f"--{_flag(name)}={value}" for name, value in vars(self).items())

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """Read a command line; argparse ends the process with code 2 on a wrong one."""
        parser = argparse.ArgumentParser(prog="cloister.engines.tesseract", description=__doc__)
        for option in fields(cls):
            parser.add_argument(
                f"--{_flag(option.name)}",
                type=option.type,  # int, float or str itself, never its name
                required=option.name == "port",
                default=option.default,
                help="default: %(default)s",
            )
        return cls(**vars(parser.parse_args(arguments)))


def _flag(name: str) -> str:
    return name.replace("_", "-")
