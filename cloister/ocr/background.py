"""Calls that may hang: in a thread that is left behind, so that Ctrl-C reaches who waits for them.

A folder on a mount whose server is gone holds whoever looks into it, and no signal wakes him.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def begin(function: Callable[[], _T]) -> "Future[_T]":
    """Begin a call in a thread of its own."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001  # raised again by who waits
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="ocr-folder").start()
    return future


def call(function: Callable[[], _T], timeout_s: float | None = None) -> _T:
    """Return what a call returns; raises TimeoutError, an OSError, when it takes longer."""
    return begin(function).result(timeout_s)
