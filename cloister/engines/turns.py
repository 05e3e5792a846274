"""Turns of an event loop: work in small pieces that keeps nobody waiting for more than one of them.

Standard library only: it runs inside vLLM's image too.
"""

import asyncio
import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

# Of one round of the loop. A body of 500 KB takes 0.05 ms, so that dozens of pages share a round.
ROUND_S = 0.002


class Turns:
    """Lets work on in a round of the event loop until its time is spent, then in the next one.

    First is who had the least so far: a page does not wait for large bodies that came before it.
    """

    def __init__(self) -> None:
        self._left_s = ROUND_S
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._is_round_due = False

    async def wait(self, taken: int) -> None:
        """Wait for a turn; `taken` is how much was done for this one already, in any unit."""
        if self._left_s > 0 and not self._waiting:
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (taken, next(self._numbers), turn))
        self._await_round()
        try:
            await turn
        except asyncio.CancelledError:
            self._await_round()  # it may have been its turn, which the next one takes
            raise

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Do a piece of work, which takes from the time of this round."""
        start = perf_counter()
        try:
            yield
        finally:
            self._left_s -= perf_counter() - start
            if self._left_s > 0:
                self._let_one()
            self._await_round()

    def _await_round(self) -> None:
        if not self._is_round_due:
            self._is_round_due = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_round_due, self._left_s = False, ROUND_S
        self._let_one()

    def _let_one(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
