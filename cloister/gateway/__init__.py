"""The gateway: a deployment's replicas, keys and limits to nginx' configuration, as pure text."""

from cloister.gateway.door import Door, Place, Tls, Upstream, url
from cloister.gateway.render import generation, render, replica_path

__all__ = [
    "Door",
    "Place",
    "Tls",
    "Upstream",
    "generation",
    "render",
    "replica_path",
    "url",
]
