"""Publishing: built, tested, pushed by digest, signed, proven, and only then tagged."""

from cloister.publishing.command import Request, publish, verify
from cloister.publishing.cosign import Trust

__all__ = ["Request", "Trust", "publish", "verify"]
