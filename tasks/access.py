"""Who may enter: API keys and certificates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from invoke.context import Context

from tasks.command import JSON, SET, command, settings

if TYPE_CHECKING:
    from cloister.config import Settings


@command(
    name="what the key is called, in the access log too: a-z, 0-9 and -",
    rate="most requests, such as 60/min or 5/s (default: no limit)",
    concurrency="most requests at once (default: no limit)",
    expires="last day on which it opens, such as 2027-06-30, in UTC (default: none)",
    json_=JSON,
    set_=SET,
)
def create(
    _: Context,
    name: str,
    rate: str | None = None,
    concurrency: int = 0,
    expires: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Make an API key and print it, once; from the first one on every request needs one."""
    from cloister import console, keyring, keys

    limits = keyring.Limits(rate, concurrency or None, keys.until(expires) if expires else None)
    made = keyring.create(_settings(set_), name, limits)
    if json_:
        console.dump({**made.key.model_dump(exclude={"digest"}), "key": made.secret})
        return
    console.show(made.secret)
    console.say("keep it: it is stored as a hash only, and cannot be shown again")
    console.say("it is in force" if made.asked else "next: invoke up")


@command(json_=JSON, set_=SET)
def list_(_: Context, json_: bool = False, set_: list[str] | None = None) -> None:
    """List the API keys: names, limits and dates, never the keys."""
    from cloister import console, keyring

    found = keyring.listing(_settings(set_))
    if json_:
        console.dump([key.model_dump(exclude={"digest"}) for key in found])
        return
    rows = [
        (k.name, k.rate, k.concurrency, f"{k.created:%Y-%m-%d}", k.expires and f"{k.expires:%F}")
        for k in found
    ]
    console.table(("name", "rate", "at once", "created", "expires"), rows)


@command(name="the key", set_=SET)
def revoke(_: Context, name: str, set_: list[str] | None = None) -> None:
    """Revoke an API key: it opens nothing when this ends; requests under way are finished."""
    from cloister import console, keyring

    keyring.revoke(_settings(set_), name)
    console.say(f"revoked {name}")


@command(
    repeatable=("name",),
    name="a host name or an address that clients use (repeatable; this machine's own are in it)",
    days="how long it is valid",
    client="also make a certificate for a client of this name, and ask every client for one",
    json_=JSON,
    set_=SET,
)
def certify(
    _: Context,
    name: list[str] | None = None,
    days: int = 397,
    client: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Make a certificate under an authority of its own, and name it in cloister.yaml."""
    from cloister import console, keyring

    made = keyring.make_certificates(_settings(set_), name or [], days, client=client)
    if json_:
        console.dump(made)
        return
    console.show(str(made.authority))
    console.say("clients have to trust this authority, such as by SSL_CERT_FILE or --cacert")
    if made.client:
        console.say(f"`{made.client}` is the client's certificate and key")
    console.say("next: invoke up")


def _settings(overrides: Sequence[str] | None) -> "Settings":
    # An address that others reach is refused without keys and a certificate, and these commands
    # are how one gets there.
    return settings([*(overrides or ()), "insecure=true"])
