"""What an image and a profile bring along that a plan would only repeat; pure."""

import hashlib
import re
from collections.abc import Iterator

from cloister.isolation.differences import line
from cloister.isolation.finding import Finding
from cloister.isolation.part import Part

# The profile that this version was proven with: whoever edits the file before `up` would have it
# compared with itself.
SECCOMP_SHA256 = "3a8fbe712793fc0bde142c0dd446f743a5e86a0c3343639c7d03c919e88d546c"
_PROXY = re.compile(r"(?i)[a-z]+_proxy")
# By these a program loads code from folders that they name.
_LOADING = frozenset(
    {
        *("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD", "GCONV_PATH", "OPENSSL_CONF"),
        *("OPENSSL_ENGINES", "OPENSSL_MODULES", "CUDA_INJECTION64_PATH", "BASH_ENV", "ENV"),
        *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"),
    }
)
# Of an image, and read-only in its containers.
_FIXED = ("/lib/", "/lib64/", "/opt/", "/usr/")


def judge_profile(content: bytes) -> Finding:
    """Return whether the seccomp profile is the one of this version."""
    found = hashlib.sha256(content).hexdigest()
    if found == SECCOMP_SHA256:
        return Finding("seccomp.json", "profile", "sealed", "the one of this version")
    seen = f"SHA-256 {found}, planned: {SECCOMP_SHA256}"
    return Finding("seccomp.json", "profile", "open", seen, "git checkout compose/seccomp.json")


def judge_variables(part: Part) -> Iterator[Finding]:
    """Yield each variable of a container's image by which other code or a way out comes in."""
    for text in part.image.configuration.get("Env") or ():
        name, _, value = str(text).partition("=")
        if not _is_harmless(name, value):
            check, seen = f"image.{name}", f"{value} by the image {part.image.name}"
            difference = line(part.service, check, value)
            yield Finding(part.service, check, "open", seen, "invoke images.build", difference)


def _is_harmless(name: str, value: str) -> bool:
    if _PROXY.fullmatch(name):
        return not value
    # "/opt/../tmp" begins as it should, and leads elsewhere.
    places = [place for place in re.split("[: ]", value) if place and name in _LOADING]
    return all(f"{place}/".startswith(_FIXED) and ".." not in place for place in places)
