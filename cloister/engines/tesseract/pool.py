"""A bounded set of worker processes, one page each at a time."""

import math

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from cloister.engines.tesseract import bundled_tessdata, reader
from cloister.engines.tesseract.api import ApiError
from cloister.engines.tesseract.options import Options


class Pool:
    """Reads pages in worker processes; replaces a worker that crashes or takes too long."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._tessdata = options.tessdata_dir or str(bundled_tessdata())
        self._workers = CapacityLimiter(options.workers)
        self._unlimited = CapacityLimiter(math.inf)  # `_workers` is already held, see `read`

    @property
    def running(self) -> int:
        """Pages at a worker now."""
        return self._workers.statistics().borrowed_tokens

    @property
    def waiting(self) -> int:
        """Pages that wait for a worker."""
        return self._workers.statistics().tasks_waiting

    async def warm(self) -> None:
        """Start every worker and load its language data, before the first page comes."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._options.workers):
                tasks.start_soon(self._warm_one)

    async def _warm_one(self) -> None:
        await to_process.run_sync(
            reader.warm, self._options.languages, self._tessdata, limiter=self._unlimited
        )

    async def read(self, url: str, name: str) -> tuple[str, ...]:
        """Return the Markdown blocks of one image; `name` is what errors call it.

        Raises ApiError: 400 for an image that cannot be read, 500 when the worker crashed, 504
        when the page took longer than `page_timeout_s` (time in the queue does not count).
        """
        options = self._options
        async with self._workers:
            try:
                with anyio.fail_after(options.page_timeout_s):
                    page = await to_process.run_sync(
                        reader.read,
                        url,
                        options.languages,
                        self._tessdata,
                        options.max_megapixels,
                        cancellable=True,
                        limiter=self._unlimited,
                    )
            except TimeoutError as error:
                message = f"{name} took longer than {options.page_timeout_s:g} s; it was given up"
                raise ApiError(504, message, code="page_timeout") from error
            except BrokenWorkerProcess as error:
                message = f"the process that read {name} crashed; it has been replaced"
                raise ApiError(500, message, code="worker_crashed") from error
        if isinstance(page, reader.Refusal):
            raise ApiError(400, f"{name} {page.reason}", code="invalid_image")
        return page
