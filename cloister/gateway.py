"""The gateway: a deployment's replicas and limits to nginx' configuration, as pure text."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloister.config import GatewaySettings
from cloister.engines import Replica
from cloister.errors import GatewayError

_TEMPLATES = Path(__file__).parent.parent / "nginx-config"


@dataclass(frozen=True)
class Place:
    """Where one nginx keeps its files, and as whom its workers run (None: as the master).

    Without a folder for `logs` they go to the standard streams, the access log to the output.
    """

    folder: Path
    logs: Path | None
    worker_user: str | None = None

    @property
    def access_log(self) -> Path:
        """Where the access log goes."""
        return self.logs / "access.log" if self.logs else Path("/dev/stdout")

    @property
    def error_log(self) -> Path:
        """Where everything else goes; `stderr` is a word of nginx' own."""
        return self.logs / "gateway-error.log" if self.logs else Path("stderr")


@dataclass(frozen=True)
class _Refusal:
    """One answer that nginx gives by itself; `inner_codes` are its own names for the same.

    `early` ones can come before the request line is understood.
    """

    status: int
    type: str
    code: str
    message: str
    inner_codes: tuple[int, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    early: bool = False

    @property
    def codes(self) -> tuple[int, ...]:
        return (self.status, *self.inner_codes)

    @property
    def page(self) -> str:
        return f"/-/error/{self.status}" if self.early else f"@error_{self.status}"

    @property
    def body(self) -> str:
        error = {"message": self.message, "type": self.type, "param": None, "code": self.code}
        return json.dumps({"error": error}, separators=(",", ":"))


def render(
    settings: GatewaySettings,
    replicas: Sequence[Replica],
    exporter: str,
    place: Place,
    unproven: Collection[str] = (),
) -> str:
    """Return the whole configuration; `exporter` is the `host:port` that serves /metrics.

    Replicas whose names are in `unproven` get no page yet.
    Raises GatewayError for a path that cannot be written into the configuration.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # nginx configuration, not HTML; see `_path`
    )
    environment.filters["path"] = _path
    address = settings.address
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return environment.get_template("nginx.conf.j2").render(
        settings.model_dump(mode="json"),
        listen=f"{host}:{settings.port}",
        replicas=replicas,
        unproven=unproven,
        exporter=exporter,
        place=place,
        errors=_refusals(settings),
    )


def gives_pages_to(text: str, replica: Replica) -> bool:
    """Tell whether a rendered configuration lets a replica have pages; pure."""
    return f"server {replica.address} max_fails=0;" in text


def url(settings: GatewaySettings) -> str:
    """Return the address that a client on this machine uses."""
    address = settings.address
    if address.is_unspecified:
        return f"http://localhost:{settings.port}"
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return f"http://{host}:{settings.port}"


def _path(value: Path) -> str:
    text = str(value)
    if any(character.isspace() or character in "\"'\\;{}$#" for character in text):
        raise GatewayError(
            f"`{text}` has a character that nginx' configuration gives a meaning to",
            hint="set `state_dir` to a path of plain characters",
        )
    return text


def _refusals(settings: GatewaySettings) -> tuple[_Refusal, ...]:
    client, server = "invalid_request_error", "server_error"
    retry = {"Retry-After": "5"}
    malformed = "the request is malformed"
    routes = "unknown route; there are POST /v1/chat/completions, GET /v1/models and GET /health"
    too_large = f"the body is larger than {settings.max_body_mib} MiB (`gateway.max_body_mib`)"
    too_many = (
        f"more than {settings.max_connections_per_address} requests at once from one address "
        "(`gateway.max_connections_per_address`)"
    )
    silent = f"the engine sent nothing for {settings.timeout_s} s (`gateway.timeout_s`)"
    failed = "the gateway failed; its error log has the reason"
    died = "the engine died or refused the page"
    coding = "this transfer encoding is not supported"
    return (
        _Refusal(400, client, "bad_request", malformed, (414, 494, 495, 496, 497), early=True),
        _Refusal(403, client, "forbidden", "this address may not use this route"),
        _Refusal(404, client, "unknown_url", routes),
        _Refusal(405, client, "method_not_allowed", "this route does not take this method"),
        _Refusal(408, client, "timeout", "the request came too slowly"),
        _Refusal(413, client, "request_too_large", too_large),
        _Refusal(429, "rate_limit_error", "too_many_requests", too_many, headers=retry),
        _Refusal(500, server, "gateway_error", failed, early=True),
        _Refusal(501, server, "not_implemented", coding),
        _Refusal(502, server, "engine_down", died, headers=retry),
        _Refusal(503, server, "no_replica", "no replica of the engine answers", headers=retry),
        _Refusal(504, server, "engine_timeout", silent),
        _Refusal(505, client, "http_version", "HTTP/1.0 and HTTP/1.1 are spoken here", early=True),
    )
