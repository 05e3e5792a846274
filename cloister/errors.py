"""Every error that a user can meet, each with its exit code."""

from typing import ClassVar


class CloisterError(Exception):
    """A failure that the user can act on; printed without a traceback.

    `message` says what was found and what was expected, `hint` what to type next.
    Exit code 1 is left to bugs and bad command lines (Invoke's own).
    """

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class ConfigError(CloisterError):
    """A configuration key, type or value that the schema does not allow."""

    exit_code = 2


class EngineError(CloisterError):
    """An engine cannot be launched with this configuration."""

    exit_code = 3


class ModelStoreError(CloisterError):
    """A model is missing, incomplete or not what it was."""

    exit_code = 4


class ImageError(CloisterError):
    """An image cannot be built, or is not what it has to be."""

    exit_code = 5


class DeploymentError(CloisterError):
    """The deployment could not be brought to, or kept in, the wanted state."""

    exit_code = 6


class IsolationError(CloisterError):
    """The seal is open somewhere, or could not be proven to be closed."""

    exit_code = 7


class OcrError(CloisterError):
    """At least one page was not read."""

    exit_code = 8


class LoadTestError(CloisterError):
    """The load test could not be run, or a comparison found something worse."""

    exit_code = 9


class BundleError(CloisterError):
    """A bundle cannot be made, or is not what was signed."""

    exit_code = 12


class ToolError(CloisterError):
    """A program that Cloister calls is missing or failed."""

    exit_code = 10


class GatewayError(CloisterError):
    """The gateway's configuration cannot be rendered, or nginx refuses it."""

    exit_code = 11


class AccessError(CloisterError):
    """An API key or a certificate cannot be made, found or used."""

    exit_code = 13


class TuningError(CloisterError):
    """The tuner could not begin, or nothing that it tried served within the SLO."""

    exit_code = 14


class ReleaseError(CloisterError):
    """A release cannot be made of this checkout."""

    exit_code = 15


class PublishError(CloisterError):
    """An image cannot be published, or is not what its publisher signed."""

    exit_code = 16
