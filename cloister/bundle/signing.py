"""Keys and signatures by the openssl program, because the far side has that and not Python."""

from pathlib import Path

from cloister import shell
from cloister.errors import BundleError

_MINIMUM = "OpenSSL 3.0 or newer"


def make_key(path: Path) -> Path:
    """Make an Ed25519 key for whoever signs; return the file of its public half.

    Raises BundleError when there is one already: what was signed with it could not be checked.
    """
    public = path.with_name(path.name + ".pub")
    if path.exists() or public.exists():
        raise BundleError(f"`{path}` exists, and is not overwritten", hint="name another --key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise BundleError(f"`{path}` cannot be written: {error.strerror}") from error
    _openssl("genpkey", "-algorithm", "ed25519", "-out", str(path))
    _openssl("pkey", "-in", str(path), "-pubout", "-out", str(public))
    return public


def require_key(path: Path) -> None:
    """Raise BundleError unless the file is a private key that only its owner reads."""
    if not path.is_file():
        raise BundleError(f"there is no key `{path}`", hint=f"invoke bundle.keygen --key {path}")
    if path.stat().st_mode & 0o077:
        raise BundleError(f"others may read the key `{path}`", hint=f"chmod 600 {path}")


def sign(path: Path, key: Path) -> Path:
    """Sign a file; return the file of the signature, beside it."""
    signature = path.with_name(path.name + ".sig")
    flags = ("-sign", "-rawin", "-inkey", str(key), "-in", str(path), "-out", str(signature))
    _openssl("pkeyutl", *flags)
    return signature


def _openssl(*arguments: str) -> None:
    result = shell.run(["openssl", *arguments], check=False)
    if result.code != 0:
        last = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise BundleError(f"openssl {arguments[0]} failed: {last[0]}", hint=f"needs {_MINIMUM}")
