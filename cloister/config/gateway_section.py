"""The schema's section of the gateway."""

from ipaddress import ip_address, ip_network

from pydantic import Field

from cloister.config.fields import Address, HostNames, Networks, OptionalPath, Origins
from cloister.config.section import Section


class GatewaySettings(Section):
    """The gateway: nginx, the only door for clients."""

    address: Address = Field(
        default=ip_address("127.0.0.1"),
        description="Address it listens on; one that other machines reach needs keys and a "
        "certificate, or `insecure: true`",
    )
    port: int = Field(default=8001, ge=1, le=65535, description="TCP port it listens on")
    max_body_mib: int = Field(
        default=50, ge=1, le=1024, description="Largest request body, in MiB; beyond it 413"
    )
    timeout_s: int = Field(
        default=300,
        ge=1,
        le=3600,
        description="Longest wait for an engine in one read or write step of a page, in seconds",
    )
    max_answer_mib: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Largest answer of an engine, in MiB; beyond it 502, or a stream is ended with "
        "an error. null: what the model's longest answer takes",
    )
    max_answer_s: int | None = Field(
        default=None,
        ge=1,
        le=604800,
        description="Longest time from the first to the last byte of an engine's answer, in "
        "seconds; beyond it the answer is cut off. null: what the model's longest answer takes",
    )
    client_body_timeout_s: int = Field(
        default=30,
        ge=1,
        le=600,
        description="Longest pause of a client while it sends its request, in seconds",
    )
    max_connections_per_address: int = Field(
        default=64, ge=1, le=65535, description="Connections that one client address may hold open"
    )
    max_pages_per_replica: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Pages that one replica is given at once, read or waiting; beyond it 503. "
        "null: what its engine reads and queues",
    )
    slow_start_s: int = Field(
        default=10,
        ge=0,
        le=600,
        description="How long a new replica beside others gets no more pages than it reads at "
        "once, in seconds",
    )
    keys: bool = Field(
        default=False,
        description="Whether every request needs an API key; `invoke keys.create` makes one",
    )
    certificate: OptionalPath = Field(
        default=None,
        description="PEM file of its certificate and chain: clients then speak HTTPS. "
        "`invoke tls.create` makes one",
    )
    certificate_key: OptionalPath = Field(
        default=None, description="PEM file of the certificate's private key"
    )
    client_ca: OptionalPath = Field(
        default=None,
        description="PEM file of the authorities by whose certificates clients must show "
        "themselves; null asks for none",
    )
    client_certificate: OptionalPath = Field(
        default=None,
        description="PEM file of a certificate and its key by which `invoke` itself enters where "
        "`gateway.client_ca` is set",
    )
    server_names: HostNames = Field(
        default=(), description="Host names that it answers to, others get 421; empty for any"
    )
    cors_origins: Origins = Field(
        default=(),
        description="Web origins whose pages may call it, such as https://app.example.org",
    )
    metrics_allow: Networks = Field(
        default=(ip_network("127.0.0.1/32"), ip_network("::1/128")),
        description="Networks whose clients may read /metrics without a key",
    )
    nginx: OptionalPath = Field(
        default=None,
        description="The nginx program; null looks on PATH, then in the usual system folders",
    )
