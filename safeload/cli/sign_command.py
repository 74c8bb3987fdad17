"""`safeload sign`: sign a file or a model's directory."""

from __future__ import annotations

import os
from pathlib import Path

import click

from safeload.cli.options import PATH, format_option, quiet_option
from safeload.cli.output import as_json, emit, place, summary
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.lockfile import LOCK_NAME
from safeload.signing import sign

__all__ = ["command"]


@click.command(name="sign")
@click.argument("path", type=PATH)
@click.option("--key", type=PATH, metavar="FILE", help="Sign with this private key (EC or Ed25519, PEM).")
@click.option("--certificate", type=PATH, metavar="FILE", help="The key's certificate and its issuers, PEM: sign under a company's root.")
@click.option("--passphrase-env", metavar="VARIABLE", help="The environment variable that holds the key's passphrase.")
@click.option("--openpgp", is_flag=True, help="Sign with gpg: a detached signature.")
@click.option("--user", metavar="KEY", default="", help="Which of gpg's keys signs; its default key without it.")
@click.option("--token", metavar="TOKEN", envvar="SAFELOAD_IDENTITY_TOKEN", help="The OIDC token to sign with; by default the CI system's.")
@click.option("--trust-config", type=PATH, metavar="FILE", help="The client trust configuration of a private Sigstore.")
@click.option("--output", "-o", type=PATH, metavar="FILE", help="The signature. By default beside the file, or model.sig in the directory.")
@click.option("--force", is_flag=True, help="Overwrite the signature.")
@format_option("text", "json")
@quiet_option
def command(
    path: str, key: str | None, certificate: str | None, passphrase_env: str | None, openpgp: bool, user: str, token: str | None,
    trust_config: str | None, output: str | None, force: bool, kind: str, quiet: bool,
) -> int:  # fmt: skip
    """Sign a file, or a directory as a model.

    Keyless by default: the identity that a token proves signs, and the public log records it, so this reaches the network.
    With --key or --openpgp nothing does. A file gets a sigstore bundle (FILE.sigstore.json) or, with --openpgp, FILE.asc; a
    directory an OpenSSF model signature (model.sig) or, with --openpgp, a signed list of digests (SHA256SUMS, SHA256SUMS.asc).
    The lockfile can be signed like any file.

    Exit status: 0 signed, 2 not signed.
    """
    if (key is not None or openpgp) and token is not None and os.environ.get("SAFELOAD_IDENTITY_TOKEN") == token:
        token = None
    passphrase = os.environ.get(passphrase_env) if passphrase_env else None
    if passphrase_env and passphrase is None:
        raise UsageError(f"the environment variable {escape(passphrase_env, 100)} is not set")
    made = sign(
        path, key=key, passphrase=passphrase, certificate=certificate, openpgp=user if openpgp else None, token=token,
        trust_config=trust_config, output=output, force=force,
    )  # fmt: skip
    if kind == "json":
        document = {"version": 1, "path": made.path, "output": str(made.output), "kind": made.kind, "signer": made.signer}
        emit(as_json(document))
    else:
        emit([[(place(made.output), "bold"), (f"  {made.kind}  signed by {escape(made.signer, 500)}", "")]])
    is_lock = Path(path).name == LOCK_NAME
    then = "a policy's lock-signer asks for the signature" if is_lock else "'safeload lock' records the signature"
    summary([("signed", "green"), (f": {place(made.path)}; {then}", "")], quiet=quiet)
    return 0
