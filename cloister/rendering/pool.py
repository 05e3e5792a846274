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
from cloister.rendering.drawing import WHOLE, Drawing, Drawn, Part
from cloister.rendering.process import CrashedError, Limits, Process

_DEFAULT = Limits()


@dataclass(frozen=True)
class _Job:
    future: Future[Any]
    ask: Callable[[Process], Any]


class Renderers:
    """Some workers that take jobs in turn, as a context manager.

    A document that goes over the limits, or crashes its worker, gives an UnreadableError, and the
    next one a new worker. Leaving the block kills the workers and cancels what is not done.
    `report` is called once, from another thread, with what the workers' sandbox lacks. Where it
    lacks every layer, each job gives an OcrError, and no document is opened.
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
        with suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                if job.future.cancel():
                    job.future.set_running_or_notify_cancel()  # for whoever waits for it
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def count(self, path: Path) -> Future[int]:
        """Count the pages. The future raises UnreadableError, as do the others."""
        return self._submit(lambda process: process.count(path))

    def draw(self, path: Path, number: int, drawing: Drawing) -> Future[Drawn]:
        """Draw a page, counted from 1."""
        return self._submit(lambda process: process.draw(path, number, drawing))

    def blank(self, path: Path, number: int, part: Part = WHOLE) -> Future[bool]:
        """Say whether a page, counted from 1, or a half of it, shows nothing but paper."""
        return self._submit(lambda process: process.blank(path, number, part))

    def _submit(self, ask: Callable[[Process], Any]) -> Future[Any]:
        job = _Job(Future(), ask)
        with self._lock:
            if self._closed:
                raise RuntimeError("the renderers are closed")
            self._jobs.put(job)
        return job.future

    def _serve(self) -> None:
        process: Process | None = None
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                process = self._ready(process)
                try:
                    answer = job.ask(process)
                except CrashedError as error:
                    if not error.shared:
                        raise
                    # Another document may be why, which the same process had before this one.
                    process = self._ready(process)
                    answer = job.ask(process)
            except BaseException as error:  # noqa: BLE001  # whose it is, the future's owner says
                job.future.set_exception(CancelledError() if self._closed else error)
            else:
                job.future.set_result(answer)
        self._ended(process)

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
