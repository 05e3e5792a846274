"""Attempts to get out, made from inside a container's own network and with its own rights.

Run as `python3 -m cloister.inside.probe '[{"kind": "tcp", "host": "192.0.2.1", "port": 80}]'`;
prints one `{"reached", "detail"}` for each attempt, in order. Standard library only.
"""

import json
import os
import secrets
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloister.inside.ask import ask

Attempt = Mapping[str, Any]
Result = dict[str, Any]

_PATIENCE_S = 3.0
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_ANSWERED = {0: "NOERROR", 3: "NXDOMAIN"}  # somebody outside knew, or knew that there is none
_STATUS = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Uid")


def tcp(attempt: Attempt) -> Result:
    """Connect, send the nonce, and say what came back."""
    with socket.create_connection((attempt["host"], attempt["port"]), _PATIENCE_S) as connection:
        nonce = str(attempt.get("nonce", ""))
        connection.sendall(nonce.encode())
        back = connection.recv(200) if nonce else b""
    return _reached(back.decode(errors="replace") or "connected")


def udp(attempt: Attempt) -> Result:
    """Send the nonce; what arrives is known where it arrives, an echo tells it here too."""
    with _datagrams() as sender:
        sender.sendto(str(attempt["nonce"]).encode(), (attempt["host"], attempt["port"]))
        return _reached(sender.recv(200).decode(errors="replace"))


def icmp(attempt: Attempt) -> Result:
    """Ping once, by the socket that needs no capability."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sender:
        sender.settimeout(_PATIENCE_S)
        # The kernel fills in identifier and checksum.
        sender.sendto(struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, 0, 1), (attempt["host"], 0))
        kind = sender.recv(200)[0]
    return _reached("pong") if kind == _ECHO_REPLY else _stopped(f"ICMP type {kind}")


def dns(attempt: Attempt) -> Result:
    """Ask a name server; any answer about the name itself means that it went out."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in attempt["name"].split("."))
    kind = {"A": 1, "TXT": 16}[attempt.get("type", "A")]
    query = secrets.token_bytes(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0)
    query += labels + b"\0" + struct.pack("!HH", kind, 1)
    server = (attempt["server"], 53)
    if attempt.get("tcp"):
        with socket.create_connection(server, _PATIENCE_S) as connection:
            connection.sendall(struct.pack("!H", len(query)) + query)
            answer = connection.recv(600)[2:]
    else:
        with _datagrams() as sender:
            sender.sendto(query, server)
            answer = sender.recv(600)
    code = answer[3] & 0x0F
    if code not in _ANSWERED:
        return _stopped(f"refused with code {code}")
    return _reached(_ANSWERED[code])


def resolve(attempt: Attempt) -> Result:
    """Resolve a name as any program would."""
    found = socket.getaddrinfo(attempt["name"], None, socket.AF_INET)
    return _reached(str(found[0][4][0]))


def https(attempt: Attempt) -> Result:
    """Shake hands by TLS, whoever it is: a certificate that is refused was received."""
    host, port = attempt["host"], int(attempt.get("port", 443))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), _PATIENCE_S) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        return _reached(str(secured.version()))


def raw(_: Attempt) -> Result:
    """Open a socket that writes frames of its own, past every table of the kernel."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return _reached("opened")


def write(attempt: Attempt) -> Result:
    """Write a file where nothing should be written, and take it away again."""
    path = Path(attempt["folder"]) / f".cloister-{secrets.token_hex(4)}"
    path.touch()
    path.unlink()
    return _reached(f"wrote to {attempt['folder']}")


def http(attempt: Attempt) -> Result:
    """Ask a neighbour by HTTP."""
    answer = ask(attempt["url"], method=attempt.get("method"), timeout_s=_PATIENCE_S)
    return _reached(str(answer.status)) if answer.status else _stopped(answer.body)


def facts(_: Attempt) -> Result:
    """Return what the kernel says about this process and its network."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    inet6 = Path("/proc/net/if_inet6")
    return {
        "reached": True,
        "detail": "",
        **{name: status[name].strip() for name in _STATUS},
        "inet6": inet6.read_text().splitlines() if inet6.exists() else [],
        "ip_forward": Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(),
        "docker_socket": [p for p in ("/var/run/docker.sock", "/run/docker.sock") if _there(p)],
        "offline": os.environ.get("HF_HUB_OFFLINE", ""),
    }


def hub(attempt: Attempt) -> Result:
    """Ask the hub by its own library, with HF_HUB_OFFLINE as it is here or as the attempt says."""
    if "offline" in attempt:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = attempt["offline"]
    from huggingface_hub import HfApi  # noqa: PLC0415  # only vLLM's image has it
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415

    try:
        HfApi().model_info("cloister/probe", timeout=_PATIENCE_S)
    except OfflineModeIsEnabled as error:
        return _stopped(type(error).__name__)
    except Exception as error:  # noqa: BLE001  # whatever else: it tried
        return _reached(f"it tried: {type(error).__name__}")
    return _reached("it answered")


_KINDS: dict[str, Callable[[Attempt], Result]] = {
    function.__name__: function
    for function in (tcp, udp, icmp, dns, resolve, https, raw, write, http, facts, hub)
}


def attempt(wanted: Attempt) -> Result:
    """Make one attempt; what stopped it is the detail."""
    try:
        return _KINDS[wanted["kind"]](wanted)
    except OSError as error:
        return _stopped(error.strerror or str(error) or type(error).__name__)
    except ImportError as error:
        return _stopped(str(error))


def _reached(detail: str) -> Result:
    return {"reached": True, "detail": detail}


def _stopped(detail: str) -> Result:
    return {"reached": False, "detail": detail}


def _datagrams() -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.settimeout(_PATIENCE_S)
    return sender


def _there(path: str) -> bool:
    return Path(path).exists()


def main() -> None:
    """Make all attempts side by side and print their results."""
    wanted = json.loads(sys.argv[1])
    with ThreadPoolExecutor(max(1, min(32, len(wanted)))) as threads:
        json.dump(list(threads.map(attempt, wanted)), sys.stdout)


if __name__ == "__main__":
    main()
