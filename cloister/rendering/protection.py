"""What of a renderer's sandbox a machine does not have, as text."""

from cloister.errors import OcrError
from cloister.rendering.process import Limits, Process
from cloister.sandbox.report import describe

__all__ = ["describe", "find_missing", "require", "summarize"]

# Each of them alone keeps a renderer from the user's files and from other machines.
_LAYERS = {"mnt", "landlock", "seccomp"}
_ADVICE = "apt-get install libseccomp2; docs/ocr.md has the other causes"


def find_missing() -> dict[str, str]:
    """Start a renderer and return what its sandbox lacks, and why. Raises OcrError."""
    process = Process(Limits())
    try:
        process.wait_ready()
    finally:
        process.end()
    return process.missing


def summarize(missing: dict[str, str]) -> str:
    """Return what `setup` prints: complete, what is missing, or that nothing will be drawn."""
    if _is_bare(missing):
        return f"none, so that `invoke ocr` draws nothing ({describe(missing)}): {_ADVICE}"
    return describe(missing) or "complete"


def require(missing: dict[str, str]) -> None:
    """Raise OcrError where no layer is left between a document and the user's files."""
    if _is_bare(missing):
        raise OcrError(
            f"documents are not drawn without a sandbox, and there is none ({describe(missing)})",
            hint=_ADVICE,
        )


def _is_bare(missing: dict[str, str]) -> bool:
    return missing.keys() >= _LAYERS
