"""Every answer that nginx gives by itself, in OpenAI's shape."""

import json
from dataclasses import dataclass

from cloister.config import GatewaySettings
from cloister.engines import AnswerLimits

_CLIENT, _LIMIT, _SERVER = "invalid_request_error", "rate_limit_error", "server_error"


@dataclass(frozen=True)
class Variant:
    """Another answer in place of a refusal's own, where an nginx condition holds."""

    condition: str
    status: int
    body: str


@dataclass(frozen=True)
class Refusal:
    """One answer; `inner_codes` are the statuses that it stands for, where they are not its own.

    `early` ones can come before the request line is understood.
    """

    status: int
    type: str
    code: str
    message: str
    inner_codes: tuple[int, ...] = ()
    early: bool = False
    variants: tuple[Variant, ...] = ()

    @property
    def codes(self) -> tuple[int, ...]:
        """The statuses that it answers."""
        return self.inner_codes or (self.status,)

    @property
    def page(self) -> str:
        """The location that answers."""
        return f"/-/error/{self.codes[0]}" if self.early else f"@error_{self.codes[0]}"

    @property
    def body(self) -> str:
        """The JSON of the answer."""
        return _body(self.message, self.type, self.code)


def refusals(settings: GatewaySettings, answer: AnswerLimits) -> tuple[Refusal, ...]:
    """Return every refusal of a gateway before engines whose answers have these limits."""
    return (*_malformed(), *_not_allowed(settings), *_upstream(settings, answer))


def too_large(answer: AnswerLimits) -> str:
    """Return the error for an answer that is too large."""
    text = f"the answer of the engine is larger than {answer.mib} MiB (`gateway.max_answer_mib`)"
    return _body(text, _SERVER, "answer_too_large")


def too_long(answer: AnswerLimits) -> str:
    """Return the error for an answer that takes too long."""
    text = f"the answer of the engine took longer than {answer.seconds} s (`gateway.max_answer_s`)"
    return _body(text, _SERVER, "answer_too_long")


def _malformed() -> tuple[Refusal, ...]:
    malformed, plain = (
        "the request is malformed",
        "this port speaks HTTPS: use https:// in the address",
    )
    certificate = "a client certificate is needed, of the authority in `gateway.client_ca`"
    coding = "this transfer encoding is not supported"
    version = "HTTP/1.0, HTTP/1.1 and, with TLS, HTTP/2 are spoken here"
    return (
        Refusal(400, _CLIENT, "bad_request", malformed, (400, 412, 414, 494), early=True),
        Refusal(400, _CLIENT, "client_certificate", certificate, (495, 496), early=True),
        Refusal(400, _CLIENT, "https_required", plain, (497,), early=True),
        Refusal(501, _SERVER, "not_implemented", coding),
        Refusal(505, _CLIENT, "http_version", version, early=True),
    )


def _not_allowed(settings: GatewaySettings) -> tuple[Refusal, ...]:
    key = "an API key is needed, and there was none, a wrong one or one that has expired"
    routes = "unknown route; there are POST /v1/chat/completions, GET /v1/models and GET /health"
    too_large = f"the body is larger than {settings.max_body_mib} MiB (`gateway.max_body_mib`)"
    too_many = (
        f"more than {settings.max_connections_per_address} requests at once from one address "
        "(`gateway.max_connections_per_address`), or more than the key may have"
    )
    rate = _body("more requests than the rate of the key allows", _LIMIT, "rate_limit_exceeded")
    return (
        Refusal(401, _CLIENT, "invalid_api_key", f"{key}: `Authorization: Bearer KEY`"),
        Refusal(403, _CLIENT, "forbidden", "this address may not use this route"),
        Refusal(404, _CLIENT, "unknown_url", routes),
        Refusal(405, _CLIENT, "method_not_allowed", "this route does not take this method"),
        Refusal(408, _CLIENT, "timeout", "the request came too slowly"),
        Refusal(413, _CLIENT, "request_too_large", too_large),
        Refusal(421, _CLIENT, "unknown_host", "this gateway has no such host name"),
        Refusal(
            *(429, _LIMIT, "too_many_requests", too_many),
            variants=(Variant("$limit_req_status = REJECTED", 429, rate),),
        ),
    )


def _upstream(settings: GatewaySettings, answer: AnswerLimits) -> tuple[Refusal, ...]:
    silent = f"the engine sent nothing for {settings.timeout_s} s (`gateway.timeout_s`)"
    failed = "the gateway failed; its error log has the reason"
    full = _body("every replica is full or down", _SERVER, "no_replica")
    strange = "the answer of the engine has a status, type or header that is not passed on"
    strange_body = _body(strange, _SERVER, "invalid_answer")
    failed_body = _body(failed, _SERVER, "gateway_error")
    return (
        Refusal(500, _SERVER, "gateway_error", failed, early=True),
        Refusal(
            *(502, _SERVER, "engine_down", "the engine died or refused the page"),
            variants=(
                # nginx names the group, and no member, when it found none to ask.
                Variant("$upstream_addr ~ engine$", 503, full),
                Variant("$answer_fault = size", 502, too_large(answer)),
                Variant("$answer_fault = gateway", 502, failed_body),
                Variant('$answer_fault != ""', 502, strange_body),
            ),
        ),
        Refusal(
            *(503, _SERVER, "no_replica", "no replica of the engine answers"),
        ),
        Refusal(504, _SERVER, "engine_timeout", silent),
    )


def _body(message: str, kind: str, code: str) -> str:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}, separators=(",", ":"))
