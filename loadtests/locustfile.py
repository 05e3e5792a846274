"""Pages as Locust's users: started by `cloister.loadtest`, which orders one load after the other.

The folder named by CLOISTER_LOADTEST holds `run.json`, what to send and where to, `order.json`, the
present load, and gets `records.jsonl`. With `--master` and `--worker` the orders and the records
travel as Locust's own messages.
"""

import os
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.course import Course
from loadtests.guarding import guard
from loadtests.sender import Sender

FOLDER = Path(os.environ["CLOISTER_LOADTEST"])
WEB = "CLOISTER_LOADTEST_WEB" in os.environ
_NO_LIMIT = 10_000
course = Course(FOLDER)
guard(course.run.users)


class Reader(FastHttpUser):
    """A client: in closed loop it asks for page after page, in open loop it follows a schedule."""

    network_timeout = course.run.timeout_s
    connection_timeout = 30.0
    concurrency = _NO_LIMIT
    insecure = False
    max_redirects = 0  # a page is for the server that is measured
    ssl_context_factory = course.run.trust

    def on_start(self) -> None:
        """Make what sends; the client is Locust's own."""
        self.sender = Sender(self.client, course)

    @task
    def work(self) -> None:
        """Do what the present order says, until there is another one."""
        order = course.wait()
        if order.offsets_s is None:
            self.sender.begin(order)
            self.sender.ask(order)
        else:
            if course.claim(order):
                self.sender.follow(order)
            course.wait_for_another(order)


if not WEB:

    class Ordered(LoadTestShape):
        """As many users as the present order says; over when it says so."""

        def tick(self) -> tuple[int, float] | None:
            """Return the users and how many to start a second, None at the end."""
            order = course.read()
            if order is None:
                return None
            runner = self.runner
            if runner is None:  # before Locust has made one
                return 0, 1.0
            course.ready()
            present = runner.target_user_count
            if isinstance(runner, MasterRunner):
                course.tell(order, runner)
                present = max(present, runner.worker_count)
            else:
                course.begin(order)
            # Nobody is sent home for a schedule, which any of them may be following.
            users = order.users or max(present, 1)
            return users, float(users)


@events.init.add_listener
def _listen(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message("order", lambda msg, **_: course.hear(msg.data))
        return
    gevent.spawn(course.keep_writing)
    order = course.read()
    if WEB and order is not None:
        course.ready()
        course.begin(order)


@events.quit.add_listener
def _finish(exit_code: int) -> None:
    del exit_code
    course.keep(course.take())


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    data["pages"] = course.take()


@events.worker_report.add_listener
def _receive(client_id: str, data: dict[str, Any]) -> None:
    del client_id
    course.keep(data.pop("pages", []))
