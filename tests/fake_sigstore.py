"""A whole Sigstore in this process: certificate authority, certificate log, transparency log (v1 or v2) and time stamps.

Real keyless signing and verification with nothing but loopback: sigstore-python talks to it as to the public instance.

    with FakeSigstore() as sigstore:
        config = ClientTrustConfig.from_json(sigstore.trust_config)
        with SigningContext.from_trust_config(config).signer(IdentityToken(sigstore.token())) as signer: ...
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import jwt
from asn1crypto import algos, cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = ["IDENTITY", "ISSUER", "FakeSigstore", "certificate", "new_key", "usage"]

IDENTITY: Final = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v1"
ISSUER: Final = "https://issuer.example"
DAY: Final = dt.timedelta(days=1)
_FULCIO: Final = "1.3.6.1.4.1.57264.1."
_CLAIMS: Final = {"repository": ("12", "https://github.com/"), "sha": ("13", ""), "ref": ("14", "")}

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _sign(key: Key, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _log_id(key: Key) -> bytes:
    return hashlib.sha256(_spki(key)).digest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fake.example"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def usage(**granted: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})


def certificate(
    common: str,
    key: Key,
    issuer: x509.Certificate | None = None,
    issuer_key: Key | None = None,
    *,
    ca: bool = False,
    said_ca: bool | None = None,
    may: x509.KeyUsage | None = None,
    eku: ObjectIdentifier | None = None,
    start: dt.datetime | None = None,
    days: float = 365,
    algorithm: Any = None,
) -> x509.Certificate:
    """A certificate; self-signed without an issuer. `said_ca` is what its constraints say, when that is not what it may do (`may`)."""
    begin = start or dt.datetime.now(dt.UTC) - DAY
    above = issuer_key or key
    build = (
        x509.CertificateBuilder()
        .subject_name(_name(common)).issuer_name(issuer.subject if issuer else _name(common))
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca if said_ca is None else said_ca, None), critical=True)
        .add_extension(may or (usage(key_cert_sign=True, crl_sign=True) if ca else usage(digital_signature=True)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), critical=False)
    )  # fmt: skip
    if eku is not None:
        build = build.add_extension(x509.ExtendedKeyUsage([eku]), critical=True)
    return build.sign(above, algorithm or hashes.SHA256())


def _der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.DER)


def _utf8_string(text: str) -> bytes:
    raw = text.encode()
    return b"\x0c" + (bytes([len(raw)]) if len(raw) < 128 else b"\x81" + bytes([len(raw)])) + raw


class FakeSigstore:
    """Serves on loopback inside `with`.

    Attributes:
        rekor: Version of the transparency log's API, 1 or 2.
        tsa: Whether clients are told of the timestamp authority.
        lifetime: Seconds that a signing certificate is valid.
        ahead: Seconds by which the clocks of log and timestamp authority are ahead, so that they see certificates expired.
        eku: What the signing certificates are for.

    All but the first two may be changed between two signatures.
    """

    def __init__(self, *, rekor: int = 1, tsa: bool = True) -> None:
        self.rekor, self.tsa, self.lifetime, self.ahead = rekor, tsa, 600.0, 0.0
        self.eku = ExtendedKeyUsageOID.CODE_SIGNING
        self._ca_key, self._issuing_key, self._ct_key, self._log_key, self._tsa_key = (new_key() for _ in range(5))
        self._ca = certificate("root", self._ca_key, ca=True, days=3650)
        self._issuing = certificate("issuing", self._issuing_key, self._ca, self._ca_key, ca=True, days=3000)
        tsa_root_key = new_key()
        self._tsa_root = certificate("tsa root", tsa_root_key, ca=True, days=3650)
        self._tsa_cert = certificate("tsa", self._tsa_key, self._tsa_root, tsa_root_key, eku=ExtendedKeyUsageOID.TIME_STAMPING)
        self._leaves: list[bytes] = []
        self.url = ""

    # ---- the authority and the certificate log

    def _issue(self, public_key: Any, claims: dict[str, str]) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        start = now - dt.timedelta(seconds=1)
        subject = claims.get("email") or claims["sub"]
        name = x509.UniformResourceIdentifier(subject) if "://" in subject else x509.RFC822Name(subject)
        build = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([])).issuer_name(self._issuing.subject).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(start)
            .not_valid_after(start + dt.timedelta(seconds=self.lifetime))
            .add_extension(usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([self.eku]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuing_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        )  # fmt: skip
        facts = {"1": claims["iss"].encode(), "8": _utf8_string(claims["iss"])}
        facts |= {oid: _utf8_string(prefix + claims[claim]) for claim, (oid, prefix) in _CLAIMS.items() if claim in claims}
        for oid, value in facts.items():
            build = build.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(_FULCIO + oid), value), critical=False)
        return self._with_sct(build, now)

    def _with_sct(self, build: x509.CertificateBuilder, now: dt.datetime) -> x509.Certificate:
        """RFC 6962, 3.2: sign what the certificate is without the time stamp, and put that in."""
        tbs = build.sign(self._issuing_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = int(now.timestamp() * 1000)
        entry = _log_id(self._issuing_key) + len(tbs).to_bytes(3, "big") + tbs
        signature = _sign(self._ct_key, struct.pack("!BBQH", 0, 0, stamp, 1) + entry + b"\0\0")
        sct = struct.pack("!B32sQH", 0, _log_id(self._ct_key), stamp, 0) + b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        octets = b"\x04" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        extension = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), octets)
        return build.add_extension(extension, critical=False).sign(self._issuing_key, hashes.SHA256())

    # ---- the transparency log

    def _append(self, body: bytes) -> tuple[int, bytes, list[bytes], str]:
        """Add a leaf; return its index, the tree's root, the way there (RFC 9162, 2.1.3), and a signed checkpoint."""
        self._leaves.append(hashlib.sha256(b"\0" + body).digest())
        index, size = len(self._leaves) - 1, len(self._leaves)
        root = _tree(self._leaves)
        note = f"fake.example - 1\n{size}\n{_b64(root)}\n"
        signature = _b64(_log_id(self._log_key)[:4] + _sign(self._log_key, note.encode()))
        return index, root, _path(index, self._leaves), f"{note}\n\N{EM DASH} fake.example {signature}\n"

    def _log_v1(self, proposed: dict[str, Any]) -> dict[str, Any]:
        body = _canonical(_dsse_entry(proposed) if proposed["kind"] == "dsse" else proposed)
        index, root, path, checkpoint = self._append(body)
        stamp = int(time.time() + self.ahead)
        promise = {"body": _b64(body), "integratedTime": stamp, "logID": _log_id(self._log_key).hex(), "logIndex": index}
        proof = {
            "logIndex": index, "treeSize": len(self._leaves), "rootHash": root.hex(), "hashes": [node.hex() for node in path],
            "checkpoint": checkpoint,
        }  # fmt: skip
        signed = _b64(_sign(self._log_key, _canonical(promise)))
        return {hashlib.sha256(body).hexdigest(): {**promise, "verification": {"signedEntryTimestamp": signed, "inclusionProof": proof}}}

    def _log_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = request["hashedRekordRequestV002"]
        spec = {"data": {"algorithm": "SHA2_256", "digest": asked["digest"]}, "signature": asked["signature"]}
        body = _canonical({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}})
        index, root, path, checkpoint = self._append(body)
        proof = {
            "logIndex": str(index), "treeSize": str(len(self._leaves)), "rootHash": _b64(root), "hashes": [_b64(node) for node in path],
            "checkpoint": {"envelope": checkpoint},
        }  # fmt: skip
        return {
            "logIndex": str(index), "logId": {"keyId": _b64(_log_id(self._log_key))}, "canonicalizedBody": _b64(body),
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"}, "inclusionProof": proof,
        }  # fmt: skip

    def as_intoto(self, bundle: bytes, change: Callable[[dict[str, Any]], object] | None = None) -> bytes:
        """Log a signed statement as `intoto` 0.0.2, in the place of the entry that a bundle of Rekor v1 has.

        Args:
            bundle: As sigstore-python made it.
            change: What the log should say otherwise.
        """
        document = json.loads(bundle)
        material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
        pem = x509.load_der_x509_certificate(base64.b64decode(material["certificate"]["rawBytes"])).public_bytes(Encoding.PEM)
        (signed,) = envelope["signatures"]
        logged = {"payloadType": envelope["payloadType"], "signatures": [{"publicKey": _b64(pem), "sig": _b64(signed["sig"].encode())}]}

        def hashed(data: bytes) -> dict[str, str]:
            return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}

        content = {"envelope": logged, "hash": hashed(_canonical(envelope)), "payloadHash": hashed(base64.b64decode(envelope["payload"]))}
        body = {"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": content}}
        if change is not None:
            change(body)
        ((_, entry),) = self._log_v1(body).items()
        proof = entry["verification"]["inclusionProof"]
        material["tlogEntries"] = [{
            "logIndex": str(entry["logIndex"]), "logId": {"keyId": _b64(bytes.fromhex(entry["logID"]))},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]}, "integratedTime": str(entry["integratedTime"]),
            "inclusionPromise": {"signedEntryTimestamp": entry["verification"]["signedEntryTimestamp"]},
            "inclusionProof": {
                "logIndex": str(proof["logIndex"]), "rootHash": _b64(bytes.fromhex(proof["rootHash"])), "treeSize": str(proof["treeSize"]),
                "hashes": [_b64(bytes.fromhex(node)) for node in proof["hashes"]], "checkpoint": {"envelope": proof["checkpoint"]},
            },
            "canonicalizedBody": entry["body"],
        }]  # fmt: skip
        return json.dumps(document).encode()

    # ---- time stamps (RFC 3161)

    def _timestamp(self, raw: bytes) -> bytes:
        query = tsp.TimeStampReq.load(raw)
        own = asn1_x509.Certificate.load(_der(self._tsa_cert))
        now = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.ahead)).replace(microsecond=0)
        content = tsp.TSTInfo({
            "version": "v1", "policy": "1.3.6.1.4.1.57264.2", "message_imprint": query["message_imprint"],
            "serial_number": int.from_bytes(os.urandom(8), "big") >> 1, "gen_time": now,
            "nonce": query["nonce"].native, "accuracy": {"seconds": 1},
        }).dump()  # fmt: skip
        hint = tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(_der(self._tsa_cert)).digest()})
        attributes = cms.CMSAttributes([
            cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(content).digest()]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [hint]})]}),
        ])  # fmt: skip
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
        signer = cms.SignerInfo({
            "version": "v1", "digest_algorithm": sha256, "signed_attrs": attributes,
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": {"issuer": own.issuer, "serial_number": own.serial_number}}),
            "signature_algorithm": {"algorithm": "sha256_ecdsa"}, "signature": _sign(self._tsa_key, attributes.dump()),
        })  # fmt: skip
        signed = cms.SignedData({
            "version": "v3", "digest_algorithms": [sha256], "certificates": [own], "signer_infos": [signer],
            "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(content)},
        })  # fmt: skip
        token = {"content_type": "signed_data", "content": signed}
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())

    # ---- what clients are told

    def _trusted_root(self) -> dict[str, Any]:
        valid = {"start": (dt.datetime.now(dt.UTC) - DAY).strftime("%Y-%m-%dT%H:%M:%SZ")}

        def log(key: Key) -> dict[str, Any]:
            public = {"rawBytes": _b64(_spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
            return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": _b64(_log_id(key))}}

        def authority(*chain: x509.Certificate) -> dict[str, Any]:
            subject = {"organization": "fake.example", "commonName": "fake"}
            listed = {"certificates": [{"rawBytes": _b64(_der(cert))} for cert in chain]}
            return {"subject": subject, "uri": self.url, "certChain": listed, "validFor": valid}

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [log(self._log_key)],
            "ctlogs": [log(self._ct_key)], "certificateAuthorities": [authority(self._issuing, self._ca)],
            "timestampAuthorities": [authority(self._tsa_cert, self._tsa_root)],
        }  # fmt: skip

    @property
    def trusted_root(self) -> str:
        """A TrustedRoot, JSON."""
        return json.dumps(self._trusted_root())

    @property
    def trust_config(self) -> str:
        """A ClientTrustConfig, JSON."""
        valid = {"start": (dt.datetime.now(dt.UTC) - DAY).strftime("%Y-%m-%dT%H:%M:%SZ")}

        def service(path: str = "", version: int = 1) -> dict[str, Any]:
            return {"url": self.url + path, "majorApiVersion": version, "validFor": valid, "operator": "fake"}

        config = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "caUrls": [service()], "oidcUrls": [service()],
            "rekorTlogUrls": [service(version=self.rekor)], "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service("/api/v1/timestamp")] if self.tsa else [], "tsaConfig": {"selector": "ANY"},
        }  # fmt: skip
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return json.dumps({"mediaType": kind, "trustedRoot": self._trusted_root(), "signingConfig": config})

    def token(self, sub: str = IDENTITY, iss: str = ISSUER, **claims: str) -> str:
        """An identity token that sigstore-python takes; nobody checks its signature here."""
        now = int(time.time())
        base = {"iss": iss, "sub": sub, "aud": "sigstore", "iat": now - 5, "nbf": now - 5, "exp": now + 300}
        return jwt.encode({**base, **claims}, "x" * 32, algorithm="HS256")

    # ---- HTTP

    def _answer(self, path: str, authorization: str, raw: bytes) -> bytes:
        if path == "/api/v2/signingCert":
            claims = jwt.decode(authorization.split()[1], options={"verify_signature": False})
            request = x509.load_pem_x509_csr(base64.b64decode(json.loads(raw)["certificateSigningRequest"]))
            chain = [self._issue(request.public_key(), claims), self._issuing, self._ca]
            listed = [cert.public_bytes(Encoding.PEM).decode() for cert in chain]
            return json.dumps({"signedCertificateEmbeddedSct": {"chain": {"certificates": listed}}}).encode()
        if path == "/api/v1/log/entries":
            return json.dumps(self._log_v1(json.loads(raw))).encode()
        if path == "/api/v2/log/entries":
            return json.dumps(self._log_v2(json.loads(raw))).encode()
        return self._timestamp(raw)

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:  # model-signing asks for endpoints even when it is given a token
                if self.path.startswith("/ambient"):  # as GitHub answers a workflow that may have a token
                    known = self.headers.get("authorization") == "bearer asked-by-workflow"
                    self._send(200 if known else 403, json.dumps({"value": fake.token()}).encode())
                    return
                endpoints = {name: f"{fake.url}/{name}" for name in ("authorization_endpoint", "token_endpoint")}
                self._send(200, json.dumps({"issuer": fake.url, **endpoints}).encode())

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                self._send(201, fake._answer(self.path, self.headers.get("authorization", ""), raw))

            def _send(self, status: int, data: bytes) -> None:
                self.send_response(status)
                stamp = self.path.endswith("/timestamp")
                self.send_header("content-type", "application/timestamp-reply" if stamp else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def _tree(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = _split(len(leaves))
    return _node(_tree(leaves[:half]), _tree(leaves[half:]))


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = _split(len(leaves))
    if index < half:
        return [*_path(index, leaves[:half]), _tree(leaves[half:])]
    return [*_path(index - half, leaves[half:]), _tree(leaves[:half])]


def _dsse_entry(proposed: dict[str, Any]) -> dict[str, Any]:
    """What Rekor v1 makes of a proposed DSSE entry."""
    content = proposed["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])

    def hashed(data: bytes) -> dict[str, str]:
        return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}

    signatures = [{"signature": entry["sig"], "verifier": content["verifiers"][0]} for entry in envelope["signatures"]]
    spec = {
        "envelopeHash": hashed(content["envelope"].encode()), "payloadHash": hashed(base64.b64decode(envelope["payload"])),
        "signatures": signatures,
    }  # fmt: skip
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}
