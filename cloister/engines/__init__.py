"""The OCR engines, one module each, behind one protocol, in one dict."""

from cloister.engines import tesseract
from cloister.engines.launch import AnswerLimits, Engine, Launch, Patience, Replica
from cloister.engines.vllm import Vllm

__all__ = ["ENGINES", "AnswerLimits", "Engine", "Launch", "Patience", "Replica", "choose"]

ENGINES: dict[str, Engine] = {
    "tesseract": tesseract,
    "vllm-cuda": Vllm("cuda"),
    "vllm-cpu": Vllm("cpu"),
}


def choose(engine: str, *, gpu: bool, model: bool) -> str:
    """Return the engine that `auto` stands for, or `engine` itself; pure."""
    if engine != "auto":
        return engine
    return "vllm-cuda" if gpu and model else "tesseract"
