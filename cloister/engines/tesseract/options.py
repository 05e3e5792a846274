"""What one Tesseract server is started with, as a value and as a command line."""

from dataclasses import dataclass

from cloister.engines.flags import Flags


@dataclass(frozen=True)
class Options(Flags):
    """The settings of one server process; each field is also a flag of that name.

    `listen` is an endpoint as `cloister.endpoint` reads it. Sizes are in the unit that the name
    ends with: mebibytes, seconds, millions of pixels. `queue_depth` counts the requests that may
    wait while every worker is busy.
    """

    listen: str = "127.0.0.1:8000"
    served_model_name: str = "nanonets/Nanonets-OCR2-3B"
    languages: str = "eng"
    tessdata_dir: str = ""
    workers: int = 1
    queue_depth: int = 32
    page_timeout_s: float = 120.0
    max_megapixels: int = 100
    max_images: int = 16
    max_body_mib: int = 50
