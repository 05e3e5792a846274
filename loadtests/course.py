"""The present load, and the records of what was sent: shared by all users of a process."""

import json
import os
import ssl
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust.runners import MasterRunner

from cloister.config import API_KEY_VARIABLE
from cloister.loadtest import documents
from cloister.loadtest.documents import Letter, Question
from cloister.loadtest.record import Record, lines
from cloister.loadtest.workload import OutputLengths
from loadtests import replicas

_LOOK_S = 0.05


@dataclass(frozen=True)
class Order:
    """One load; `offsets_s` are this process' pages from `begin_s`, None in closed loop."""

    number: int
    users: int | None
    begin_s: float
    offsets_s: tuple[float, ...] | None
    direct: bool

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Order":
        """Return an order as it was told in JSON, which has no tuples."""
        offsets = told["offsets_s"]
        return cls(**{**told, "offsets_s": None if offsets is None else tuple(offsets)})


@dataclass(frozen=True)
class Run:
    """What to send, and where to; `leader` is the process that gives the orders.

    `users` are those whose program the service may be, None where that is not known.
    """

    pages: Path
    question: Question
    direct: tuple[str, ...]
    authorities: str | None
    any_name: bool
    host: str | None
    seed: int
    run_id: int
    timeout_s: float
    leader: int
    users: tuple[int, ...] | None

    @cached_property
    def headers(self) -> dict[str, str]:
        """What every request says; the key is in the environment, where no list shows it."""
        said = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        said |= {"Accept-Encoding": "identity"}
        if key := os.environ.get(API_KEY_VARIABLE):
            said["Authorization"] = f"Bearer {key}"
        return said | ({"Host": self.host} if self.host else {})

    def trust(self) -> ssl.SSLContext:
        """Return whose certificates are taken."""
        context = ssl.create_default_context(cafile=self.authorities)
        context.check_hostname = not self.any_name  # it is the one certificate that is taken
        return context


class Course:
    """What this process does now, what it did, and what the others did if it leads them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._order: Order | None = None
        self._told = self._claimed = -1
        self._changed = Event()
        self._records: list[Record] = []
        self.worker = 0
        told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        question = told.pop("question")
        lengths = question.pop("lengths")
        self.run = Run(
            pages=Path(told.pop("pages")),
            question=Question(**question, lengths=OutputLengths(**lengths) if lengths else None),
            direct=tuple(map(replicas.reachable, told.pop("direct"))),
            **told,
        )

    @cached_property
    def letters(self) -> tuple[Letter, ...]:
        """The pages, made when the first user needs them."""
        return documents.letters(self.run.pages, self.run.question)

    def read(self) -> Order | None:
        """Return the order in the folder, None when the test is over, or who led it was killed."""
        if os.getppid() != self.run.leader:
            return None
        told = json.loads((self._folder / "order.json").read_text(encoding="utf-8"))
        return None if told is None else Order.of(told)

    def ready(self) -> None:
        """Say in the folder that orders are taken."""
        (self._folder / "ready").touch()

    def tell(self, order: Order, runner: MasterRunner) -> None:
        """Tell the workers of a new order, each its share."""
        if order.number == self._told:
            return
        ready = [client.id for client in runner.clients.all]
        for index, client in enumerate(ready):
            offsets = order.offsets_s
            own = None if offsets is None else offsets[index :: len(ready)]
            share = asdict(replace(order, offsets_s=own))
            runner.send_message("order", {"order": share, "worker": index}, client_id=client)
        self._told = order.number

    def hear(self, told: dict[str, Any]) -> None:
        """Take an order that came as a message."""
        self.worker = told["worker"]
        self.begin(Order.of(told["order"]))

    def begin(self, order: Order) -> None:
        """Make an order the present one."""
        if self._order is None or order.number != self._order.number:
            _ = self.letters  # made before its time begins to count
            self._order = order
            self._changed.set()
            self._changed.clear()

    def wait(self) -> Order:
        """Return the present order, once there is one."""
        while self._order is None:
            self._changed.wait(_LOOK_S)
        return self._order

    def claim(self, order: Order) -> bool:
        """Tell whether whoever asks is the first of this process' users to follow a schedule."""
        first = self._claimed != order.number
        self._claimed = order.number
        return first

    def wait_for_another(self, order: Order) -> None:
        """Wait until another order is the present one."""
        while self._order is order:
            self._changed.wait(_LOOK_S)

    def done(self, record: Record) -> None:
        """Keep a record until it is told or written."""
        self._records.append(record)

    def take(self) -> list[str]:
        """Return the records as lines, and forget them."""
        taken, self._records = self._records, []
        return [lines([record]) for record in taken]

    def keep(self, told: list[str]) -> None:
        """Write records to the folder."""
        if told:
            with (self._folder / "records.jsonl").open("a", encoding="utf-8") as file:
                file.write("".join(told))

    def keep_writing(self) -> None:
        """Write this process' own records as they come, forever."""
        while True:
            gevent.sleep(_LOOK_S * 5)
            self.keep(self.take())
