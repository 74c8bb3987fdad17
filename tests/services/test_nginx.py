"""Files behind a real nginx: ranges as it gives them, TLS, passwords, redirects, compression, a file that is replaced."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import safeload
from safeload.cli import run
from safeload.errors import RemoteError
from safeload.findings import Outcome
from safeload.remote import Address
from safeload.source import Source
from tests.forge_cli import CALL, write_checkpoint, write_hostile
from tests.large_files import write_large
from tests.services.starting import free_port, running, tool

PASSWORD = "hunter2"
_CONF = """
daemon off; master_process off; pid {top}/nginx.pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  log_format sent '$status $body_bytes_sent $http_range';
  access_log {top}/access.log sent;
  client_body_temp_path {top}/t1; proxy_temp_path {top}/t2; fastcgi_temp_path {top}/t3; uwsgi_temp_path {top}/t4; scgi_temp_path {top}/t5;
  types {{ application/octet-stream pt; text/plain txt; }}
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {top}/cert.pem; ssl_certificate_key {top}/key.pem;
    root {top}/www;
    location /private/ {{ alias {top}/www/; auth_basic "models"; auth_basic_user_file {top}/users; }}
    location /packed/ {{ alias {top}/www/; gzip on; gzip_types *; gzip_min_length 1; }}
    location /whole/ {{ alias {top}/www/; max_ranges 0; }}
    location /moved/ {{ return 302 http://127.0.0.1:{port}/$arg_to; }}
    location /circle/ {{ return 302 http://127.0.0.1:{port}/circle/; }}
    location /secure/ {{ return 302 http://127.0.0.1:{port}/model.pt; }}
    location /forbidden/ {{ return 403; }}
    location /busy/ {{ return 503; }}
    location /slow/ {{ alias {top}/www/; limit_rate 2k; }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """The server: its addresses, and where its files lie."""

    at: str
    tls: str
    www: Path
    log: Path

    def sent(self) -> list[tuple[int, int, str]]:
        """Status, bytes of the body, and range of every answer so far."""
        lines = (line.split(" ", 2) for line in self.log.read_text().splitlines())
        return [(int(status), int(nbytes), asked) for status, nbytes, asked in lines]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    top = tmp_path_factory.mktemp("nginx")
    (top / "www").mkdir()
    write_checkpoint(top / "www" / "model.pt")
    write_hostile(top / "www" / "hostile.pt")
    write_large(top / "www" / "big.pt", storages=4, nbytes=256 << 20)
    (top / "www" / "empty.pt").touch()
    key, cert = _certificate()
    (top / "key.pem").write_bytes(key)
    (top / "cert.pem").write_bytes(cert)
    (top / "users").write_text(f"me:{{PLAIN}}{PASSWORD}\n")
    port, tls = free_port(), free_port()
    (top / "nginx.conf").write_text(_CONF.format(top=top, port=port, tls=tls))
    for folder in (top, *top.parents):  # nginx's workers may be somebody else
        if os.access(folder, os.W_OK) and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    command = [tool("nginx"), "-c", str(top / "nginx.conf"), "-p", str(top), "-e", "stderr"]
    with running(command, top / "nginx.log", port=port):
        yield Nginx(f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls}", top / "www", top / "access.log")


def _certificate() -> tuple[bytes, bytes]:
    """A key and a certificate that nobody trusts."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(tz=dt.UTC)
    built = x509.CertificateBuilder(
        issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1, not_valid_before=now - dt.timedelta(days=1),
        not_valid_after=now + dt.timedelta(days=1),
    )  # fmt: skip
    built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_stream_in_a_gigabyte_costs_kilobytes(nginx: Nginx) -> None:
    before = len(nginx.sent())
    report = safeload.scan(f"{nginx.at}/big.pt")
    assert report.decision.outcome is Outcome.ALLOWED
    assert report.unhashed
    answers = nginx.sent()[before:]
    assert {status for status, _, _ in answers} == {206}
    assert sum(nbytes for _, nbytes, _ in answers) < 80 << 10
    assert report.origin is not None
    assert report.origin.fetched == sum(nbytes for _, nbytes, _ in answers)


def test_verdicts_digests_and_pins(nginx: Nginx, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", f"{nginx.at}/model.pt", f"{nginx.at}/hostile.pt"]) == 1
    assert "calls os.system" in capfd.readouterr().out
    there, here = safeload.scan(f"{nginx.at}/model.pt", digest=True), safeload.scan(str(nginx.www / "model.pt"), digest=True)
    assert (there.sha256, there.sha256_tree, there.findings) == (here.sha256, here.sha256_tree, here.findings)
    assert run(["lock", f"{nginx.at}/model.pt"]) == 0
    assert run(["load", f"{nginx.at}/model.pt"]) == 0
    assert run(["load", f"{nginx.at}/hostile.pt"]) == 1
    assert run(["inspect", f"{nginx.at}/model.pt"]) == 0
    assert run(["scan", f"{nginx.at}/absent.pt", f"{nginx.at}/model.pt"]) == 2
    assert [finding.rule for finding in safeload.scan(f"{nginx.at}/empty.pt").findings] == ["SL503"]


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("whole/model.pt", RemoteError, "does not give ranges"),
        ("forbidden/model.pt", PermissionError, "403"),
        ("absent.pt", FileNotFoundError, "404"),
        ("busy/model.pt", RemoteError, "asked 3 times: the server says 503"),
        ("private/model.pt", PermissionError, "401"),
    ],
)
def test_what_the_server_refuses(path: str, kind: type[Exception], message: str, nginx: Nginx) -> None:
    with pytest.raises(kind, match=message):
        safeload.scan(f"{nginx.at}/{path}")


def test_a_password_is_used_and_not_shown(nginx: Nginx, capfd: pytest.CaptureFixture[str]) -> None:
    front = nginx.at.replace("//", f"//me:{PASSWORD}@")
    assert run(["scan", f"{front}/private/model.pt?token={PASSWORD}"]) == 0
    assert run(["scan", f"{front}/private/absent.pt?token={PASSWORD}"]) == 2
    assert run(["scan", "--format", "json", f"{front}1/private/model.pt"]) == 2
    assert run(["lock", f"{front}/private/model.pt"]) == 0
    out = capfd.readouterr()
    assert PASSWORD not in out.out + out.err + Path("safeload.lock").read_text()


def test_compression_is_not_asked_for(nginx: Nginx) -> None:
    """nginx would leave ranges out where it compresses."""
    assert safeload.scan(f"{nginx.at}/packed/model.pt").decision.outcome is Outcome.ALLOWED


def test_redirects(nginx: Nginx) -> None:
    assert safeload.scan(f"{nginx.at}/moved/?to=model.pt").decision.outcome is Outcome.ALLOWED
    with pytest.raises(RemoteError, match="redirects more than 5 times"):
        safeload.scan(f"{nginx.at}/circle/")


def test_tls_is_checked(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RemoteError, match="certificate does not verify"):
        safeload.scan(f"{nginx.tls}/model.pt")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(nginx.www.parent / "cert.pem"))
    assert safeload.scan(f"{nginx.tls}/model.pt").decision.outcome is Outcome.ALLOWED
    with pytest.raises(RemoteError, match="redirects from https to http"):
        safeload.scan(f"{nginx.tls}/secure/model.pt")


def test_a_file_that_is_replaced_between_two_ranges(nginx: Nginx) -> None:
    """nginx keeps to If-Match by itself: the second range is refused."""
    path = nginx.www / "changing.pt"
    write_large(path, storages=2, nbytes=1 << 20)
    with Source.open(Address.of(f"{nginx.at}/changing.pt")) as source:
        source.read(0, 100)
        other = nginx.www / "other"
        write_large(other, storages=2, nbytes=1 << 20, hostile=True)
        other.replace(path)
        with pytest.raises(RemoteError, match="changed while it was read"):
            source.read(1 << 20, 100)


def test_a_server_that_is_gone_in_the_middle(tmp_path: Path, nginx: Nginx) -> None:
    write_large(tmp_path / "www.pt", storages=1, nbytes=1 << 20)
    port = free_port()
    command = subprocess.list2cmdline([tool("nginx")])
    conf = tmp_path / "n.conf"
    conf.write_text(f"daemon off; master_process off; pid {tmp_path}/p; error_log stderr; events {{}} http {{ access_log off; "
                    f"client_body_temp_path {tmp_path}/t1; proxy_temp_path {tmp_path}/t2; fastcgi_temp_path {tmp_path}/t3; "
                    f"uwsgi_temp_path {tmp_path}/t4; scgi_temp_path {tmp_path}/t5; "
                    f"server {{ listen 127.0.0.1:{port}; root {tmp_path}; }} }}")  # fmt: skip
    with running([command, "-c", str(conf), "-p", str(tmp_path), "-e", "stderr"], tmp_path / "log", port=port):
        source = Source.open(Address.of(f"http://127.0.0.1:{port}/www.pt"))
        source.read(0, 10)
    with source, pytest.raises(RemoteError, match="asked 3 times: no connection"):
        source.read(1 << 20, 10)


def test_a_slow_server_is_borne_within_bounds(nginx: Nginx) -> None:
    (nginx.www / "call.pkl").write_bytes(CALL)
    assert safeload.scan(f"{nginx.at}/slow/call.pkl").decision.outcome is Outcome.REFUSED
