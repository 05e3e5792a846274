"""Retries of what tests download: a network, or a mirror, may be away for minutes."""

import re
import subprocess
import sys
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

# What apt, pip, uv and curl print when a download fails; all else fails again in the next try.
_FAILED = re.compile(
    r"failed to fetch|unable to fetch|failed to download|error sending request"
    r"|unable to locate package"  # after an `apt-get update` that only warned
    r"|temporary failure|could not resolve host|curl: \(\d+\)"
    r"|connection broken|read timed out|max retries exceeded|incomplete.?(read|download)"
    r"|HTTP error 5\d\d|from versions: none",
    re.IGNORECASE,
)


def is_failed_download(error: BaseException) -> bool:
    """Return whether the standard error, or the message, of a failure names a failed download."""
    printed = getattr(error, "stderr", None) or str(error)
    text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed
    return _FAILED.search(text) is not None


def patiently(*, within_s: float = 900) -> Retrying:
    """Return the tries of what downloads; none begins later than `within_s` after the first."""
    return Retrying(
        retry=retry_if_exception(is_failed_download),
        stop=stop_after_attempt(5) | stop_after_delay(within_s),
        wait=wait_exponential(10),
        before_sleep=_print_retry,
        reraise=True,
    )


def _print_retry(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    sys.stderr.write(f"try {state.attempt_number}: a download failed, trying again: {error}\n")


def run_patiently(
    command: list[str], *, within_s: float = 900, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run what downloads, and print its standard error; raises CalledProcessError."""
    for attempt in patiently(within_s=within_s):
        with attempt:
            done = subprocess.run(command, **options, stderr=subprocess.PIPE, check=False)
            sys.stderr.write(done.stderr.decode(errors="replace"))
            done.check_returncode()
            return done
    raise AssertionError
