"""Calls that may hang: in a thread that is left behind, so that Ctrl-C reaches who waits for them.

A folder on a mount whose server is gone holds whoever looks into it, and no signal wakes him.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

_A = TypeVar("_A")
_T = TypeVar("_T")

# Calls that have not come back: who wants the same again gets no further thread.
_silent: set[tuple[Any, Any]] = set()
_lock = threading.Lock()


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


def ask(function: Callable[[_A], _T], item: _A, timeout_s: float) -> _T:
    """Return what a function of the module's returns for an item; raises what that raises.

    That is TimeoutError, an OSError, when it takes longer, and at once while an earlier call with
    the same item has not come back.
    """
    ((_, answer),) = each(function, [item], timeout_s)
    if isinstance(answer, OSError):
        raise answer
    return answer


def each(
    function: Callable[[_A], _T], items: Iterable[_A], timeout_s: float
) -> Iterator[tuple[_A, _T | OSError]]:
    """Yield each of some items with what a function returns for it, or the OSError that it raises.

    One that does not answer delays the others by `timeout_s`. It comes first, and with a
    TimeoutError, for as long as that lasts.
    """
    left: deque[_A] = deque()
    for item in items:
        if (function, item) in _silent:
            yield item, _timeout(item)
        else:
            left.append(item)
    while left:
        asked = _Asked(function, tuple(left))
        while left and not asked.is_left:
            yield left[0], asked.next(left.popleft(), timeout_s)


class _Asked(Generic[_A, _T]):
    """A thread that calls a function with one item after the other, until it is left behind."""

    def __init__(self, function: Callable[[_A], _T], items: Sequence[_A]) -> None:
        self._function = function
        self._answers: SimpleQueue[_T | Exception] = SimpleQueue()
        self.is_left = False
        begin(lambda: self._work(items))

    def _work(self, items: Sequence[_A]) -> None:
        for item in items:
            try:
                answer: _T | Exception = self._function(item)
            except Exception as error:  # noqa: BLE001  # raised again by who waits
                answer = error
            with _lock:
                if self.is_left:
                    _silent.discard((self._function, item))
                    return
                self._answers.put(answer)

    def next(self, item: _A, timeout_s: float) -> _T | OSError:
        """Return the next answer, which is that for `item`."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except Empty:
            with _lock:
                if self._answers.empty():
                    self.is_left = True
                    _silent.add((self._function, item))
                    return _timeout(item)
                answer = self._answers.get()
        if isinstance(answer, Exception) and not isinstance(answer, OSError):
            raise answer
        return answer


def _timeout(item: object) -> TimeoutError:
    return TimeoutError(f"{item} does not answer")
