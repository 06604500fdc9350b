"""Certificates of an authority that nobody else trusts."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey
_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of a client that it has signed a certificate for; the server's side of TLS."""

    authority: Path
    client_cert: Path
    client_key: Path
    server: ssl.SSLContext


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a server on 127.0.0.1 and a client; the server asks its clients for a certificate."""
    authority_key, authority = _signed("authority")
    _write(folder / "authority", authority_key, authority)
    for name in ("server", "client"):
        _write(folder / name, *_signed(name, authority_key, authority))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.load_verify_locations(folder / "authority.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    return Certificates(folder / "authority.pem", folder / "client.pem", folder / "client.key", server)


def _signed(
    title: str, issuer_key: _Key | None = None, issuer: x509.Certificate | None = None
) -> tuple[_Key, x509.Certificate]:
    """A key and its certificate; without an issuer that of an authority, signed by itself."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]),
    )
    signer, now = issuer_key or key, datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    # Python 3.13 trusts no authority that does not say that it signs certificates.
    usage = dict.fromkeys(_USES, False) | {"digital_signature": True, "key_cert_sign": issuer is None}
    signer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(signer_id, critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(address, critical=False)
    )
    return key, builder.sign(signer, SHA256())


def _write(path: Path, key: _Key, certificate: x509.Certificate) -> None:
    path.with_suffix(".pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.with_suffix(".key").write_bytes(private)
