"""The OCR engines, one module each, behind one protocol, in one dict."""

from cloister.engines import tesseract
from cloister.engines.launch import Engine, Launch, Replica

__all__ = ["ENGINES", "Engine", "Launch", "Replica", "choose"]

ENGINES: dict[str, Engine] = {"tesseract": tesseract}


def choose(engine: str) -> str:
    """Return the engine that `auto` stands for on this machine, or `engine` itself."""
    return "tesseract" if engine == "auto" else engine
