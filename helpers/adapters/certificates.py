"""`ports.certificates.Certificates` with the cryptography library: elliptic curves, made in a millisecond."""

from __future__ import annotations

import ipaddress
import itertools
import re
import secrets
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from helpers.domain.admission.certificate_plan import Authority, ServingCertificate
from helpers.domain.errors import InputError

# For API servers whose clock is behind ours; a tenth of a short lifetime, so that tests can have one.
MOST_BACKDATED_SECONDS = 300.0
_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class X509Certificates:
    """Makes and reads certificates on P-256, which every TLS library of the last ten years knows."""

    def issue(self, names: frozenset[str], *, now_at: datetime, lifetime_seconds: float) -> ServingCertificate:
        """A new authority and the one certificate that it will ever sign."""
        begin_at = (now_at - timedelta(seconds=min(MOST_BACKDATED_SECONDS, lifetime_seconds / 10))).replace(
            microsecond=0
        )
        span = (begin_at, begin_at + timedelta(seconds=lifetime_seconds))
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key, span)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(key.public_key(), names, authority, authority_key, span)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _serving([leaf], key_pem, authority)

    def read(self, *, chain_pem: bytes, key_pem: bytes, authority_pem: bytes) -> ServingCertificate:
        """What a Secret holds, checked."""
        chain = _certificates(chain_pem, "tls.crt")
        authorities = _certificates(authority_pem, "ca.crt")
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError) as error:
            raise InputError(f"tls.key cannot be read: {error}") from error
        if key.public_key() != chain[0].public_key():
            raise InputError("tls.key is not the key of tls.crt")
        for one, signer in itertools.pairwise(chain):
            if not _signed_by(one, signer):
                raise InputError("tls.crt is no chain: a certificate in it was not signed by the next one")
        authority = next((each for each in authorities if _signed_by(chain[-1], each)), None)
        if authority is None:
            raise InputError("tls.crt was not signed by ca.crt")
        return _serving(chain, key_pem, authority)

    def authorities(self, pem: str) -> tuple[Authority, ...]:
        """The certificates in a caBundle."""
        found = []
        for text in _PEM_CERTIFICATE.findall(pem):
            try:
                found.append(_described(x509.load_pem_x509_certificate(text.encode())))
            except ValueError:
                continue  # whatever stands there, nobody can be trusted by it
        return tuple(found)


def _authority(key: ec.EllipticCurvePrivateKey, span: tuple[datetime, datetime]) -> x509.Certificate:
    # A name of its own: of several authorities in one caBundle the right one is found by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gpumem-injector {secrets.token_hex(8)}")])
    usage = x509.KeyUsage(
        digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    builder = _builder(name, name, key.public_key(), span)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def _leaf(
    public: ec.EllipticCurvePublicKey,
    names: frozenset[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    span: tuple[datetime, datetime],
) -> x509.Certificate:
    # 64 characters are all that a common name may have; clients go by the alternative names.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, min(names, key=len)[:64])])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=False, crl_sign=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = _builder(subject, authority.subject, public, span)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in sorted(names)]), False)
    return builder.add_extension(signer, critical=False).sign(authority_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, span: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(span[0]).not_valid_after(span[1])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    if not pem.strip():
        raise InputError(f"{what} is missing")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InputError(f"{what} cannot be read: {error}") from error


def _signed_by(one: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _serving(chain: list[x509.Certificate], key_pem: bytes, authority: x509.Certificate) -> ServingCertificate:
    leaf = chain[0]
    return ServingCertificate(
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        authority=_described(authority),
        names=_names(leaf),
        not_before_at=leaf.not_valid_before_utc,
        not_after_at=leaf.not_valid_after_utc,
        chain_pem="".join(_pem(each) for each in chain),
        key_pem=key_pem.decode(),
    )


def _names(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(each) for each in found.get_values_for_type(x509.IPAddress))
    return frozenset(found.get_values_for_type(x509.DNSName)) | frozenset(addresses)


def _described(authority: x509.Certificate) -> Authority:
    return Authority(authority.fingerprint(hashes.SHA256()).hex(), authority.not_valid_after_utc, _pem(authority))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
