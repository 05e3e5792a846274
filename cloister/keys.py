"""API keys: who may ask the gateway. A key is shown once; what is kept is its hash."""

import base64
import datetime as dt
import hashlib
import re
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cloister import datafiles, statefolder
from cloister.errors import AccessError
from cloister.files import write_atomically
from cloister.layout import Layout

OPERATOR = "operator"  # the key of this machine's own commands
_NAME = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
_RATE = re.compile(r"([1-9][0-9]{0,5})/(s|min)")
_SECRET_BYTES = 32
_MOST = 65535
_PRIVATE = 0o600
_MOST_BYTES = 16 << 20


class Key(BaseModel):
    """One key: `digest` is what nginx compares, see `digest`; `rate` is such as "60/min".

    `concurrency` is how many requests may be under way at once; None is no limit of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    digest: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]
    created: dt.datetime
    rate: Annotated[str, Field(pattern=f"^{_RATE.pattern}$")] | None = None
    concurrency: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    expires: dt.datetime | None = None

    @property
    def per_minute(self) -> bool:
        """Whether the rate counts minutes, and not seconds."""
        return self.rate is not None and self.rate.endswith("min")

    @property
    def burst(self) -> int:
        """How many requests the rate allows in one go: those of its whole minute or second."""
        return int((self.rate or "0").partition("/")[0])


_KEYS = TypeAdapter(tuple[Key, ...])


def header(key: str) -> str:
    """Return the value of the header `Authorization` that shows a key."""
    return f"Bearer {key}"


def digest(key: str) -> str:
    """Return what nginx compares: MD5 of the header, in base64url without padding.

    MD5 is what nginx has without a module of its own (ngx_http_secure_link_module). Its known
    weakness, collisions, is of no use here: a key is 256 random bits that we choose, and to find
    one from its hash takes a preimage.
    """
    hashed = hashlib.md5(header(key).encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def read(layout: Layout) -> tuple[Key, ...]:
    """Return all keys; raises AccessError when their file is damaged.

    Raises DeploymentError when another user could have put it there.
    """
    statefolder.require_own(layout.state)
    try:
        return _KEYS.validate_json(datafiles.read_json(layout.keys, _MOST_BYTES))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise AccessError(
            f"`{layout.keys}` cannot be read: {str(error).splitlines()[0]}",
            hint="restore it, or remove it and make the keys anew",
        ) from error


def require_name(name: str) -> None:
    """Raise AccessError for what cannot be the name of a key, or of a client."""
    if not re.fullmatch(_NAME, name):
        raise AccessError(f"`{name}` is no name: 1 to 40 of a-z, 0-9 and -, first and last no -")


def create(
    layout: Layout,
    name: str,
    *,
    rate: str | None = None,
    concurrency: int | None = None,
    expires: dt.datetime | None = None,
) -> tuple[Key, str]:
    """Make a key and keep its hash; return it with the key itself, which nobody can tell again.

    Raises AccessError for a name that is taken or unfit, and for limits that nginx cannot keep.
    """
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    present = read(layout)
    if any(key.name == name for key in present):
        raise AccessError(f"there is a key `{name}`", hint=f"invoke keys.revoke {name}")
    require_name(name)
    if rate is not None and not _RATE.fullmatch(rate):
        raise AccessError(f"`{rate}` is no rate", hint="--rate 60/min, or --rate 5/s")
    if concurrency is not None and not 1 <= concurrency <= _MOST:
        raise AccessError(f"--concurrency must be a whole number from 1 to {_MOST}")
    if expires is not None and expires <= now:
        raise AccessError(f"a key that expired on {expires:%Y-%m-%d} would open nothing")
    secret = f"cloister_{name}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    made = Key(
        name=name,
        digest=digest(secret),
        created=now,
        rate=rate,
        concurrency=concurrency,
        expires=expires,
    )
    _write(layout.keys, (*present, made))
    return made, secret


def revoke(layout: Layout, name: str) -> Key:
    """Forget a key and return it; raises AccessError when there is none of that name."""
    present = read(layout)
    found = next((key for key in present if key.name == name), None)
    if found is None:
        names = ", ".join(key.name for key in present) or "none"
        raise AccessError(f"no key `{name}`; there are: {names}", hint="invoke keys.list")
    _write(layout.keys, tuple(key for key in present if key is not found))
    return found


def ensure_operator(layout: Layout) -> None:
    """Make the key by which this machine's own commands enter, unless it is there and fits."""
    kept = operator(layout)
    present = read(layout)
    if kept and any(key.name == OPERATOR and key.digest == digest(kept) for key in present):
        return
    if any(key.name == OPERATOR for key in present):
        revoke(layout, OPERATOR)
    _, secret = create(layout, OPERATOR)
    write_atomically(layout.operator_key, secret + "\n", mode=_PRIVATE)


def operator(layout: Layout) -> str | None:
    """Return the key of this machine's own commands, None before the first one was needed."""
    try:
        return layout.operator_key.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def until(text: str) -> dt.datetime:
    """Return the end of a day such as 2027-06-30, in UTC; raises AccessError for other text."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise AccessError(f"`{text}` is no date", hint="--expires 2027-06-30") from None
    return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def _write(path: Path, present: tuple[Key, ...]) -> None:
    write_atomically(path, _KEYS.dump_json(present, indent=2) + b"\n", mode=_PRIVATE)
