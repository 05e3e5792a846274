"""The gateway's allow-list against every route that an engine is known to have."""

import hashlib
import http.client
import json
import ssl
from collections.abc import Sequence

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister import bounded
from cloister.chat import Pass
from cloister.config import GatewaySettings
from cloister.errors import DeploymentError
from cloister.isolation.finding import Finding
from cloister.runtimes import GATEWAY

# What vLLM 0.32 prints at its start; tests/docker compares this with what it prints then.
VLLM_ROUTES = (
    *("GET /load", "GET /version", "GET /kv_event_sources", "GET /health", "GET /metrics"),
    *("POST /tokenize", "POST /detokenize", "GET /v1/models", "POST /v1/systemone", "GET /ping"),
    *("POST /ping", "POST /invocations", "POST /v1/chat/completions"),
    *("POST /v1/chat/completions/batch", "POST /v1/responses", "GET /v1/responses/{response_id}"),
    *("POST /v1/responses/{response_id}/cancel", "POST /v1/completions", "POST /v1/messages"),
    *("POST /v1/messages/count_tokens", "POST /generative_scoring", "POST /scale_elastic_ep"),
    *("POST /is_scaling_elastic_ep", "POST /v1/chat/completions/render"),
    *("POST /v1/messages/render", "POST /v1/completions/render", "POST /v1/responses/render"),
    *("POST /v1/chat/completions/derender", "POST /v1/completions/derender"),
    *("POST /inference/v1/generate", "POST /inference/v1/abort_requests"),
)
# Other versions, other tasks and development mode.
_OTHERS = (
    *("GET /docs", "GET /redoc", "GET /openapi.json", "GET /server_info", "POST /collective_rpc"),
    *("POST /pause", "POST /resume", "POST /sleep", "POST /wake_up", "POST /update_weights"),
    *("POST /reset_prefix_cache", "POST /reset_mm_cache", "POST /v1/load_lora_adapter"),
    *("POST /v1/unload_lora_adapter", "POST /v1/embeddings", "POST /pooling", "POST /score"),
    *("POST /v1/score", "POST /rerank", "POST /v1/rerank", "POST /v2/rerank", "POST /classify"),
    *("POST /v1/audio/transcriptions", "POST /start_profile", "POST /stop_profile"),
)
_DISGUISED = (
    *("GET //version", "GET /v1/../version", "GET /%2e%2e/version", "GET /v1/models/../../load"),
    *("POST /v1/chat/completions/../../../invocations", "GET /version?/v1/models"),
    *("GET /v1/models%00/../version", "GET /v1//models/..%2f..%2fversion", "GET /V1/models"),
)
ALLOWED = frozenset({"GET /health", "GET /metrics", "GET /v1/models", "POST /v1/chat/completions"})
_PATIENCE_S = 10.0
_REFUSED = frozenset({400, 404})
_OK, _NO_ANSWER = 200, 0
_NO_REPLICA = frozenset({502, 503, 504})
_REPLICA_S, _PAUSE_S = 60.0, 1.0


def allow_list(settings: GatewaySettings, enter: Pass) -> Finding:
    """Ask the gateway for every route; only the allowed ones may be anything but an error of its.

    An error of an engine would be one too, so the answer has to be the gateway's own.
    """
    # The watchdog may have taken the only replica out for as long as that reads a test page.
    status, body = Retrying(
        retry=retry_if_result(lambda answer: answer[0] in _NO_REPLICA),
        stop=stop_after_delay(_REPLICA_S),
        wait=wait_fixed(_PAUSE_S),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(_ask, settings, enter, "GET /v1/models")
    if status != _OK:
        answer = status or f"nothing: {body.decode(errors='replace')}"
        seen = f"GET /v1/models, which is allowed, was answered with {answer}"
        return Finding(GATEWAY, "allow-list", "unproven", seen, "invoke status")
    tried = [route for route in (*VLLM_ROUTES, *_OTHERS, *_DISGUISED) if route not in ALLOWED]
    passed, silence = list[str](), None
    for route in tried:
        status, body = _ask(settings, enter, route)
        if status == _NO_ANSWER:
            # Each that comes after would be waited for as long.
            silence = f"no answer to {route}: {body.decode(errors='replace')}"
            break
        if not _refused(status, body):
            passed.append(route)
    if passed:
        fix = "nginx-config/nginx.conf.j2 has the allow-list; invoke up renders it again"
        return Finding(GATEWAY, "allow-list", "open", f"passed on: {', '.join(passed)}", fix)
    if silence:
        return Finding(GATEWAY, "allow-list", "unproven", silence, "invoke status")
    seen = f"{len(tried)} routes and disguises refused, GET /v1/models answered"
    return Finding(GATEWAY, "allow-list", "sealed", seen)


def other_addresses(settings: GatewaySettings, enter: Pass, addresses: Sequence[str]) -> Finding:
    """Try the gateway's port at every address of this machine but the one it is bound to."""
    bound = str(settings.address)
    if settings.address.is_unspecified:
        return Finding(GATEWAY, "other addresses", "sealed", f"bound to all addresses ({bound})")
    others = [address for address in addresses if address != bound]
    answering = [
        a for a in others if _ask(settings, enter, "GET /health", address=a)[0] != _NO_ANSWER
    ]
    if answering:
        seen = f"the gateway also answers on {', '.join(answering)}"
        return Finding(GATEWAY, "other addresses", "open", seen, "set `gateway.address`")
    if _ask(settings, enter, "GET /health")[0] == _NO_ANSWER:
        return Finding(GATEWAY, "other addresses", "unproven", f"no answer on {bound}", None)
    return Finding(GATEWAY, "other addresses", "sealed", f"answers on {bound} only")


def _refused(status: int, body: bytes) -> bool:
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, LookupError, TypeError):
        return False
    return status in _REFUSED and code in {"unknown_url", "bad_request"}


def _ask(
    settings: GatewaySettings, enter: Pass, route: str, *, address: str | None = None
) -> tuple[int, bytes]:
    """Send a path as it is: libraries would tidy it up first. Why nothing came back is the body."""
    method, _, path = route.partition(" ")
    own = "127.0.0.1" if settings.address.is_unspecified else str(settings.address)
    connection = _connection(address or own, settings.port, enter)
    connection.response_class = bounded.Answer
    try:
        connection.connect()
        if enter.guard is not None:
            enter.guard.require(connection.sock)
        if enter.fingerprint is not None and _fingerprint(connection) != enter.fingerprint:
            return _NO_ANSWER, b"another certificate than this deployment's"
        body = b"{}" if method == "POST" else None
        connection.request(method, path, body=body, headers=enter.headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except DeploymentError as error:  # another user's program, which gets no key
        return _NO_ANSWER, error.message.encode()
    except (OSError, http.client.HTTPException) as error:
        return _NO_ANSWER, (str(error) or type(error).__name__).encode()
    finally:
        connection.close()


def _connection(address: str, port: int, enter: Pass) -> http.client.HTTPConnection:
    if enter.fingerprint is None:
        return http.client.HTTPConnection(address, port, timeout=_PATIENCE_S)
    context = ssl.create_default_context()
    context.check_hostname = False  # the one certificate is compared instead
    context.verify_mode = ssl.CERT_NONE
    if enter.client_certificate is not None:
        context.load_cert_chain(enter.client_certificate)
    return http.client.HTTPSConnection(address, port, timeout=_PATIENCE_S, context=context)


def _fingerprint(connection: http.client.HTTPConnection) -> str:
    certificate = getattr(connection.sock, "getpeercert", lambda **_: None)(binary_form=True)
    return hashlib.sha256(certificate or b"").hexdigest()
