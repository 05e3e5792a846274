"""A way to the replicas, which nothing outside their network can reach: a program inside each.

The engine's address is not routed to this machine, and a page sent there would leave through the
default route. So a request goes to `docker exec`, which asks from within the replica itself.
"""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import docker
import requests
from docker.errors import DockerException
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from cloister import chat

_DEFAULT_S = 60.0


class ExecAdapter(BaseAdapter):
    """Carries requests into one container, whose image has `cloister.inside`."""

    def __init__(self, client: docker.DockerClient, container: str) -> None:
        super().__init__()
        self._client = client
        self._container = container

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  # the base's signature
        timeout: Any = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Ask from inside the container; raises ConnectionError when nothing answers there."""
        del stream, verify, cert, proxies
        patience = timeout[1] if isinstance(timeout, tuple) else timeout or _DEFAULT_S
        body = request.body.decode() if isinstance(request.body, bytes) else request.body
        command = ["python3", "-m", "cloister.inside.ask", f"--timeout-s={patience}"]
        command += [str(request.url), *([str(body)] if body else [])]
        started = dt.datetime.now(dt.UTC)
        try:
            container = self._client.containers.get(self._container)
            result: Any = container.exec_run(command, demux=True)
        except DockerException as error:
            raise requests.ConnectionError(str(error), request=request) from error
        output, errors = result.output
        try:
            answer = json.loads(output or b"")
        except ValueError:
            reason = (errors or output or b"no output").decode(errors="replace")[-200:]
            raise requests.ConnectionError(reason, request=request) from None
        if answer["status"] == 0:
            raise requests.ConnectionError(answer["body"], request=request)
        response = requests.Response()
        response.status_code = answer["status"]
        response.headers = CaseInsensitiveDict(answer["headers"])
        response._content = answer["body"].encode()  # noqa: SLF001  # requests has no other way
        response.encoding = "utf-8"
        response.url = str(request.url)
        response.request = request
        response.elapsed = dt.datetime.now(dt.UTC) - started
        return response

    def close(self) -> None:
        """Do nothing: the client belongs to the runtime."""


def session(client: docker.DockerClient, replicas: Mapping[str, str]) -> requests.Session:
    """Return a session in which the URLs of `replicas` lead into the containers they name."""
    made = chat.session()
    for url, container in replicas.items():
        made.mount(url, ExecAdapter(client, container))
    return made
