"""Certificates: a small authority of this service's own, and a look at those it is given."""

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.config.fields import HOST_NAME
from cloister.errors import AccessError
from cloister.files import write_atomically

AUTHORITY, AUTHORITY_KEY = "ca.crt", "ca.key"
SERVER, SERVER_KEY = "server.crt", "server.key"
AUTHORITY_DAYS = 3650
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PRIVATE = 0o600
_OTHERS = 0o007


@dataclass(frozen=True)
class Pem:
    """A server's certificate, chain and key as one text; `fingerprint` is SHA-256 of the first."""

    text: str
    fingerprint: str
    expires: dt.datetime


def authority(folder: Path) -> Path:
    """Make the authority unless it is there; return its certificate, which clients have to trust.

    Raises AccessError when only one half of it is there.
    """
    certificate, key = folder / AUTHORITY, folder / AUTHORITY_KEY
    if certificate.exists() and key.exists():
        return certificate
    if certificate.exists() or key.exists():
        raise AccessError(
            f"`{folder}` has only one of {AUTHORITY} and {AUTHORITY_KEY}",
            hint="restore the other, or remove both: clients then need the new one",
        )
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cloister local authority")])
    made = (
        _builder(name, name, private.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(key, _key_pem(private), mode=_PRIVATE)
    write_atomically(certificate, _pem(made))
    return certificate


def server(folder: Path, names: Sequence[str], days: int) -> tuple[Path, Path]:
    """Make a certificate for host names and addresses, and for this machine; return it and its key.

    Raises AccessError for a name that is neither.
    """
    alternative = x509.SubjectAlternativeName(
        [_general_name(name) for name in dict.fromkeys((*names, *_LOCAL))]
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate, key = _issue(folder, (names or _LOCAL)[0], days, (alternative, usage))
    # The key first: a new certificate beside an old key would be refused until the next try.
    write_atomically(folder / SERVER_KEY, key, mode=_PRIVATE)
    write_atomically(folder / SERVER, certificate + (folder / AUTHORITY).read_bytes())
    return folder / SERVER, folder / SERVER_KEY


def client(folder: Path, name: str, days: int) -> Path:
    """Make a client's certificate; return the file that has it and its key."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate, key = _issue(folder, name, days, (usage,))
    path = folder / f"client-{name}.pem"
    write_atomically(path, certificate + key, mode=_PRIVATE)
    return path


def load(certificate: Path, key: Path) -> Pem:
    """Return a server's certificate and key as nginx takes them, in one text.

    Raises AccessError when they cannot be read, do not belong together or are not valid now, and
    when anybody on this machine may read the key.
    """
    chain = _certificates(certificate)
    text = _read(key)
    if key.stat().st_mode & _OTHERS:
        raise AccessError(f"everybody may read the key `{key}`", hint=f"chmod 600 {key}")
    try:
        private = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        raise AccessError(
            f"`{key}` is not a private key in PEM without a password", hint="openssl pkey -in ..."
        ) from error
    leaf, now = chain[0], dt.datetime.now(dt.UTC)
    if leaf.public_key() != private.public_key():
        raise AccessError(f"`{key}` is not the key of the first certificate in `{certificate}`")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        raise AccessError(
            f"`{certificate}` is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, not today",
            hint="invoke tls.create makes a new one",
        )
    der = leaf.public_bytes(serialization.Encoding.DER)
    return Pem(
        "".join(_pem(one).decode() for one in chain) + text.decode(),
        hashlib.sha256(der).hexdigest(),
        leaf.not_valid_after_utc,
    )


def authorities(path: Path) -> str:
    """Return certificates of authorities as text; raises AccessError when there is none."""
    return "".join(_pem(one).decode() for one in _certificates(path))


def _issue(
    folder: Path, name: str, days: int, extensions: Sequence[x509.ExtensionType]
) -> tuple[bytes, bytes]:
    issuer = _certificates(folder / AUTHORITY)[0]
    issuer_key = serialization.load_pem_private_key(_read(folder / AUTHORITY_KEY), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise AccessError(f"`{folder / AUTHORITY_KEY}` is not a key that signs certificates")
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = _builder(issuer.subject, subject, private.public_key(), days)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    signed = (
        builder.add_extension(above, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(signed), _key_pem(private)


def _builder(
    issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    # An hour back, for clients whose clock is behind.
    begins = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass  # a host name, then
    if not HOST_NAME.fullmatch(name.lower()):
        raise AccessError(f"`{name}` is neither a host name nor an address")
    return x509.DNSName(name.lower())


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise AccessError(f"`{path}` has no certificate in PEM") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AccessError(
            f"`{path}` cannot be read: {error.strerror}", hint="invoke tls.create"
        ) from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
