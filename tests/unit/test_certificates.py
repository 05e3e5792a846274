"""Certificates: an authority, what it signs, and files that are refused."""

import datetime as dt
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from cloister import certificates
from cloister.errors import AccessError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    certificates.authority(made)
    certificates.server(made, ["ocr.example.org", "192.0.2.7"], 30)
    return made


def chain(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def test_its_own_authority_vouches_for_every_name(folder: Path) -> None:
    leaf, root = chain(folder / certificates.SERVER)
    policy = PolicyBuilder().store(Store([root])).time(dt.datetime.now(dt.UTC))
    for name in (x509.DNSName("ocr.example.org"), x509.DNSName("localhost")):
        policy.build_server_verifier(name).verify(leaf, [])
    for address in ("192.0.2.7", "127.0.0.1", "::1"):
        subject = x509.IPAddress(ipaddress.ip_address(address))
        policy.build_server_verifier(subject).verify(leaf, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("other.example.org")).verify(leaf, [])


def test_keys_are_the_owners_only(folder: Path) -> None:
    for name in (certificates.AUTHORITY_KEY, certificates.SERVER_KEY):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert certificates.client(folder, "app", 30).stat().st_mode & 0o777 == 0o600


def test_a_new_certificate_keeps_the_authority(folder: Path) -> None:
    before = (folder / certificates.AUTHORITY).read_bytes()
    first = certificates.load(folder / "server.crt", folder / "server.key")
    certificates.authority(folder)
    certificates.server(folder, ["ocr.example.org", "192.0.2.7"], 30)
    second = certificates.load(folder / "server.crt", folder / "server.key")
    assert (folder / certificates.AUTHORITY).read_bytes() == before
    assert first.fingerprint != second.fingerprint
    assert second.text.count("BEGIN CERTIFICATE") == 2
    assert second.text.count("PRIVATE KEY") == 2


@pytest.mark.parametrize("name", ["", "a b", "a;b", "-a", "a..b", "*", "a" * 300])
def test_what_is_no_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(AccessError, match="neither a host name nor an address"):
        certificates.server(folder, [name], 30)


def test_files_that_cannot_be_used_are_told_apart(folder: Path, tmp_path: Path) -> None:
    certificate, key = folder / "server.crt", folder / "server.key"
    other = tmp_path / "other"
    certificates.authority(other)
    certificates.server(other, [], 30)
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN CERTIFICATE-----")
    open_ = tmp_path / "open.key"
    open_.write_bytes(key.read_bytes())
    open_.chmod(0o644)
    for files, words in {
        (tmp_path / "none", key): "cannot be read",
        (certificate, tmp_path / "none"): "cannot be read",
        (junk, key): "no certificate in PEM",
        (certificate, certificate): "everybody may read",
        (certificate, other / "server.key"): "is not the key of",
        (certificate, open_): "chmod 600",
    }.items():
        with pytest.raises(AccessError) as caught:
            certificates.load(*files)
        assert words in str(caught.value), files
    certificate.chmod(0o600)
    with pytest.raises(AccessError, match="not a private key"):
        certificates.load(certificate, certificate)


def test_an_expired_one_is_refused(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    certificates.authority(old)
    certificates.server(old, [], 0)
    with pytest.raises(AccessError, match="not today"):
        certificates.load(old / "server.crt", old / "server.key")
    assert folder.exists()


def test_half_an_authority_is_not_replaced(tmp_path: Path) -> None:
    certificates.authority(tmp_path)
    (tmp_path / certificates.AUTHORITY_KEY).unlink()
    with pytest.raises(AccessError, match="has only one of"):
        certificates.authority(tmp_path)
