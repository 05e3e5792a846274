"""A bounded set of worker processes, one page each at a time."""

import logging
from contextlib import suppress

import anyio
from anyio import CapacityLimiter

from cloister.engines.tesseract import bundled_tessdata
from cloister.engines.tesseract.api import ApiError
from cloister.engines.tesseract.options import Options
from cloister.engines.tesseract.process import Start, WorkerError, WorkerProcess
from cloister.engines.tesseract.reader import Refusal
from cloister.sandbox.report import describe

_log = logging.getLogger(__name__)


class Pool:
    """Reads pages in worker processes; replaces a worker that crashes or takes too long."""

    def __init__(self, options: Options) -> None:
        self._options = options
        tessdata = options.tessdata_dir or str(bundled_tessdata())
        self._start = Start(options.languages, tessdata, options.max_megapixels)
        self._workers = CapacityLimiter(options.workers)
        self._idle: list[WorkerProcess] = []
        self._started: set[WorkerProcess] = set()

    @property
    def running(self) -> int:
        """Pages at a worker now."""
        return self._workers.statistics().borrowed_tokens

    @property
    def waiting(self) -> int:
        """Pages that wait for a worker."""
        return self._workers.statistics().tasks_waiting

    async def warm(self) -> None:
        """Start every worker and load its language data, before the first page comes.

        What the workers' sandbox lacks here is logged. Raises WorkerError.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(self._options.workers):
                    tasks.start_soon(self._warm_one)
        except ExceptionGroup as errors:  # all of them say the same
            raise errors.exceptions[0] from None
        if missing := self._idle[0].missing:
            _log.warning("the workers' sandbox is not complete (%s)", describe(missing))

    async def _warm_one(self) -> None:
        self._idle.append(await self._begin())

    def close(self) -> None:
        """End the workers."""
        for worker in tuple(self._started):
            self._end(worker)

    async def read(self, url: str, name: str) -> tuple[str, ...]:
        """Return the Markdown blocks of one image; `name` is what errors call it.

        Raises ApiError: 400 for an image that cannot be read, 500 when the worker crashed, 504
        when the page took longer than `page_timeout_s` (time in the queue does not count).
        """
        longest_s = self._options.page_timeout_s
        async with self._workers:
            try:
                with anyio.fail_after(longest_s):
                    page = await self._read(url)
            except TimeoutError as error:
                message = f"{name} took longer than {longest_s:g} s; it was given up"
                raise ApiError(504, message, code="page_timeout") from error
            except WorkerError as error:
                _log.error("the process that read an image crashed: %s", error)
                message = f"the process that read {name} crashed; it has been replaced"
                raise ApiError(500, message, code="worker_crashed") from error
        if isinstance(page, Refusal):
            raise ApiError(400, f"{name} {page.reason}", code="invalid_image")
        return page

    async def _read(self, url: str) -> tuple[str, ...] | Refusal:
        worker = await self._ready()
        try:
            page = await worker.read(url)
        except BaseException:
            # Its page may still be read, for nobody.
            self._end(worker)
            raise
        self._idle.append(worker)
        return page

    async def _ready(self) -> WorkerProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._end(worker)
        return await self._begin()

    async def _begin(self) -> WorkerProcess:
        worker = WorkerProcess(self._start)
        self._started.add(worker)
        try:
            await worker.wait_ready()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _end(self, worker: WorkerProcess) -> None:
        worker.end()
        self._started.discard(worker)
        with suppress(ValueError):
            self._idle.remove(worker)
