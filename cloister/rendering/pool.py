"""Worker processes that draw pages, so that no document can take the client down."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cloister.errors import OcrError
from cloister.rendering import protection
from cloister.rendering.drawing import WHOLE, Drawing, Drawn, Part, UnreadableError
from cloister.rendering.opening import Opener, Opening
from cloister.rendering.process import CrashedError, Limits, Process

_DEFAULT = Limits()
# A document that takes longer to open waits without a worker.
_QUICK_S = 0.2


@dataclass(eq=False)
class _Job:
    future: Future[Any]
    path: Path
    ask: Callable[[Process, int], Any]
    opening: Opening | None = None


class Renderers:
    """Some workers that take jobs in turn, as a context manager.

    A document that goes over the limits, or crashes its worker, gives an UnreadableError, and the
    next one a new worker. One that hangs when it is opened holds no worker. Leaving the block
    kills the workers and cancels what is not done. `report` is called once, from another thread,
    with what the workers' sandbox lacks. Where it lacks every layer, each job gives an OcrError,
    and no worker sees a document.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits = _DEFAULT,
        report: Callable[[dict[str, str]], None] = lambda _: None,
    ) -> None:
        self._limits, self._report = limits, report
        self._is_reported = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._processes: set[Process] = set()
        self._aside: set[_Job] = set()  # whose document is not open yet
        # Of a program that ends without leaving the block: its workers end with it.
        self._threads = [
            threading.Thread(target=self._serve, name=f"renderer {number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
            aside = tuple(self._aside)
            self._aside.clear()
        for job in aside:
            _give_up(job, CancelledError())
        with suppress(queue.Empty):
            while (waiting := self._jobs.get_nowait()) is not None:
                if waiting.future.cancel():
                    waiting.future.set_running_or_notify_cancel()  # for whoever waits for it
                else:
                    _give_up(waiting, CancelledError())
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def count(self, path: Path) -> Future[int]:
        """Count the pages. The future raises UnreadableError, as do the others."""
        return self._submit(path, Process.count)

    def draw(self, path: Path, number: int, drawing: Drawing) -> Future[Drawn]:
        """Draw a page, counted from 1."""
        return self._submit(path, lambda process, file: process.draw(file, number, drawing))

    def blank(self, path: Path, number: int, part: Part = WHOLE) -> Future[bool]:
        """Say whether a page, counted from 1, or a half of it, shows nothing but paper."""
        return self._submit(path, lambda process, file: process.blank(file, number, part))

    def _submit(self, path: Path, ask: Callable[[Process, int], Any]) -> Future[Any]:
        job = _Job(Future(), path, ask)
        with self._lock:
            if self._closed:
                raise RuntimeError("the renderers are closed")
            self._jobs.put(job)
        return job.future

    def _serve(self) -> None:
        process: Process | None = None
        opener = Opener()
        while (job := self._jobs.get()) is not None:
            opening = job.opening
            if opening is None:
                if not job.future.set_running_or_notify_cancel():
                    continue
                try:
                    job.opening = opening = opener.begin(job.path, _QUICK_S)
                    if not opening.is_done(0):
                        self._put_aside(job, opening)
                        continue
                except RuntimeError as error:  # no further thread can be started
                    with self._lock:
                        self._aside.discard(job)
                    _give_up(job, OcrError(f"a document cannot be opened: {error}"))
                    continue
            try:
                file = opening.file.result()
                process = self._ready(process)
                try:
                    answer = job.ask(process, file)
                except CrashedError as error:
                    if not error.shared:
                        raise
                    # Another document may be why, which the same process had before this one.
                    process = self._ready(process)
                    answer = job.ask(process, file)
            except BaseException as error:  # noqa: BLE001  # whose it is, the future's owner says
                _give_up(job, CancelledError() if self._closed else error)
            else:
                opening.release()
                job.future.set_result(answer)
        opener.end()
        self._ended(process)

    def _put_aside(self, job: _Job, opening: Opening) -> None:
        """Have a thread wait for a document that is not open yet."""
        with self._lock:
            is_closed = self._closed
            if not is_closed:
                self._aside.add(job)
        if is_closed:
            _give_up(job, CancelledError())
            return
        waiting = (job, opening)
        threading.Thread(target=self._await, args=waiting, daemon=True, name="opening").start()

    def _await(self, job: _Job, opening: Opening) -> None:
        longest_s = self._limits.page_timeout_s
        is_open = opening.is_done(longest_s)
        with self._lock:
            if job not in self._aside:
                return  # the renderers were closed
            self._aside.remove(job)
            if is_open:
                self._jobs.put(job)
        if not is_open:
            _give_up(job, UnreadableError(f"it could not be opened within {longest_s:g} s"))

    def _ready(self, process: Process | None) -> Process:
        if process is not None and process.alive:
            return process
        self._ended(process)
        return self._started()

    def _started(self) -> Process:
        with self._lock:
            if self._closed:
                raise CancelledError
            process = Process(self._limits)
            self._processes.add(process)
        try:
            process.wait_ready()
            protection.require(process.missing)
        except OcrError:
            self._ended(process)
            raise
        with self._lock:
            is_new = bool(process.missing) and not self._is_reported
            self._is_reported |= is_new
        if is_new:
            self._report(process.missing)
        return process

    def _ended(self, process: Process | None) -> None:
        if process is not None:
            process.end()
            with self._lock:
                self._processes.discard(process)


def _give_up(job: _Job, error: BaseException) -> None:
    if job.opening is not None:
        job.opening.release()
    job.future.set_exception(error)
