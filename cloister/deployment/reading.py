"""Whether replicas read: a page to prove one, first ones to warm it up, last ones to wait for."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from cloister import canary, chat, sockets
from cloister.deployment import access, gauges
from cloister.deployment.plan import Plan
from cloister.endpoint import TcpAddress, UnixSocket
from cloister.engines import ENGINES, Replica
from cloister.errors import DeploymentError, OcrError
from cloister.runtimes import GATEWAY, Runtime

Progress = Callable[[str], None]
_POLL_S, _SLOWEST_POLL_S = 0.25, 5.0
_LOG_LINES = 8
_ASK_S = 2.0
_QUIET_IN_A_ROW = 2  # an old worker of nginx may just have passed a page on


def through_gateway(planned: Plan, running: Runtime, progress: Progress) -> chat.Reading:
    """Return a fresh page as it came through the gateway; raises DeploymentError if none does."""
    ready_s = ENGINES[planned.engine].ready_s
    progress(f"waiting for a page through the gateway, at most {ready_s:g} s")
    with chat.session(access.of_this_machine(planned.settings)) as session:
        return first_page(planned, running, session, planned.url, GATEWAY)


def first_page(
    planned: Plan,
    running: Runtime,
    session: requests.Session,
    url: str,
    program: str,
) -> chat.Reading:
    """Wait until the service at `url`, where a program listens, has read a page.

    Raises DeploymentError with the last lines of its log when the program ends instead, when it
    takes too long, and when the answer is other text than the page's.
    """
    ready_s = ENGINES[planned.engine].ready_s
    begun = _pid(running, program)
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(chat.RefusedError),
            stop=stop_after_delay(ready_s),
            # Slower and slower: asking takes time from an engine that is starting.
            wait=wait_exponential(multiplier=_POLL_S, exp_base=1.2, max=_SLOWEST_POLL_S),
            before_sleep=lambda _: _require_alive(running, program, begun),
            reraise=True,
        ):
            with attempt:
                return read_page(planned, session, url)
    except canary.MisreadError as error:
        raise DeploymentError(
            f"it answers but cannot read, so it gets no pages: {error.message}",
            hint="invoke models.verify; if the weights are noise, `model.synthetic: true`",
        ) from error
    except OcrError as error:
        raise DeploymentError(
            f"no page was read within {ready_s:g} s: {error.message}", hint="invoke logs"
        ) from error
    raise AssertionError  # Retrying returns or raises


def read_page(
    planned: Plan, session: requests.Session, url: str, timeout_s: float | None = None
) -> chat.Reading:
    """Return a fresh page as the service at `url` reads it; raises OcrError when it does not.

    Through the gateway it is larger than every buffer on its way, to prove the whole of that.
    """
    settings = planned.settings
    return canary.check(
        session,
        url,
        model=settings.model.name,
        prompt=settings.ocr.prompt,
        timeout_s=timeout_s or settings.gateway.timeout_s,
        synthetic=not planned.proves_reading,
        padding=canary.PADDING_BYTES if url == planned.url else 0,
    )


def warm_up(planned: Plan, session: requests.Session, cold: Sequence[Replica]) -> None:
    """Wait until new replicas have read as many pages as they read at once, or for a while."""
    already = gauges.total(session, cold, gauges.READ)
    wanted = already + planned.slots // len(planned.replicas) * len(cold)
    Retrying(
        retry=retry_if_result(lambda read: read < wanted),
        stop=stop_after_delay(planned.settings.gateway.slow_start_s),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda _: None,  # long enough: they have had time to warm up
    )(gauges.total, session, cold, gauges.READ)


def drained(
    planned: Plan, running: Runtime, replicas: Sequence[Replica], *, is_gateway_new: bool
) -> bool:
    """Wait until replicas that get no pages any more have none; False when that takes too long.

    One that has ended has none, and neither has one whose socket nobody serves, or whom a new
    gateway does not know: the one before had finished its pages. What is still there after
    `gateway.timeout_s` is left to the engine, which gets time for it when it is stopped.
    """
    quiet = 0

    def is_idle(one: Replica) -> bool:
        load = gauges.load(session, one.url)
        return load == 0 or (
            load is None and _is_cut_off(session, one, is_gateway_new=is_gateway_new)
        )

    def empty() -> bool:
        nonlocal quiet
        alive = {state.name for state in running.states() if state.pid}
        waited = [one for one in replicas if one.name in alive]
        quiet = quiet + 1 if all(map(is_idle, waited)) else 0
        return quiet >= _QUIET_IN_A_ROW

    with running.session() as session:
        return bool(
            Retrying(
                retry=retry_if_result(lambda done: not done),
                stop=stop_after_delay(planned.settings.gateway.timeout_s),
                wait=wait_fixed(_POLL_S),
                retry_error_callback=lambda _: False,
            )(empty)
        )


def _is_cut_off(session: requests.Session, replica: Replica, *, is_gateway_new: bool) -> bool:
    """Return whether nothing can pass pages on to a replica any more."""
    here = replica.listener.here
    if isinstance(here, TcpAddress):
        return False
    socket = here if isinstance(here, UnixSocket) else here.via
    try:
        if not sockets.is_served(socket.path):
            return True
        if isinstance(here, UnixSocket) or not is_gateway_new:
            return False  # workers of a gateway that was reloaded finish pages of those it forgot
        answer = session.get(f"{here.url}/metrics", timeout=_ASK_S)
    except OSError:  # of requests, too
        return False  # it may be busy
    return answer.status_code == HTTPStatus.NOT_FOUND


def _require_alive(running: Runtime, program: str, begun: int | None) -> None:
    """Require that a program goes on; one that was started again meanwhile has ended, too."""
    for state in running.states():
        if state.name != program:
            continue
        ended = state.pid is None and state.state in {"backoff", "failed"}
        if ended or (begun is not None and state.pid not in {begun, None}):
            tail = running.tail(program, _LOG_LINES).strip().splitlines()
            log = "\n".join(f"  {line[:200]}" for line in tail) or "  (nothing)"
            raise DeploymentError(
                f"{program} ended ({state.detail}); its log says:\n{log}", hint="invoke logs"
            )


def _pid(running: Runtime, program: str) -> int | None:
    return next((state.pid for state in running.states() if state.name == program), None)
