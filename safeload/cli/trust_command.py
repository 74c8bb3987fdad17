"""`safeload trust`: whom the lockfile trusts."""

from __future__ import annotations

import os
from pathlib import Path

import click

from safeload.cli.lock_command import STATUS
from safeload.cli.options import PATH, format_option, lock_option, quiet_option
from safeload.cli.output import Line, as_json, check_output, emit, place, summary
from safeload.findings import escape
from safeload.trusting import TrustResult, add_signer, collect_commit, remove_signer, show, update_root

__all__ = ["command"]


@click.group(name="trust")
def command() -> None:
    """Show, add, renew and remove whom the lockfile trusts."""


@command.command(name="show")
@format_option("text", "json")
@lock_option
def show_command(kind: str, lock: str | None) -> int:
    """Show trust roots and signers, and whether their files are what was pinned. Nothing is fetched.

    Exit status: 0 all material is as pinned, 1 some is not, 2 there is no valid lockfile.
    """
    result = show(lock)
    emit(_as_json(result) if kind == "json" else _lines(result))
    return STATUS[result.outcome]


def _lines(result: TrustResult) -> list[Line]:
    lines: list[Line] = []
    for root in result.roots:
        lines.append([(f"trust root {escape(root.name)}", "bold"), (f"  {root.kind}  {escape(root.path)}  sha256:{root.sha256[:12]}", "")])
        lines += [[(f"  {line}", "dim")] for line in root.holds]
        lines += [[(f"  {root.problem}", "bold red")]] if root.problem else []
    for signer in result.signers:
        lines.append([(f"signer {escape(signer.name)}", "bold"), (f"  {signer.kind}", "")])
        lines += [[(f"  {key} {escape(value, 500)}", "")] for key, value in signer.about]
        lines += [[(f"  signed {escape(model)}", "dim")] for model in signer.models]
        lines += [[(f"  {signer.problem}", "bold red")]] if signer.problem else []
    return lines or [[("the lockfile trusts nobody", "")]]


def _as_json(result: TrustResult) -> str:
    roots = [
        {
            "name": root.name,
            "kind": root.kind,
            "path": root.path,
            "sha256": root.sha256,
            "holds": list(root.holds),
            "problem": root.problem or None,
        }
        for root in result.roots
    ]
    signers = [
        {"name": signer.name, "kind": signer.kind, **dict(signer.about), "models": list(signer.models), "problem": signer.problem or None}
        for signer in result.signers
    ]
    head = {"version": 1, "lockfile": str(result.lockfile), "outcome": result.outcome.value}
    return as_json({**head, "trust-roots": roots, "signers": signers})


@command.command(name="add")
@click.argument("name")
@click.option("--public-key", type=PATH, metavar="FILE", help="A public key: EC or Ed25519, PEM.")
@click.option("--openpgp", type=PATH, metavar="FILE", help="An OpenPGP certificate.")
@click.option("--x509", type=PATH, metavar="FILE", help="A root certificate; with --subject.")
@click.option("--subject", metavar="DN", help="The signing certificate's subject, as 'CN=signer,O=acme'.")
@click.option("--eku", metavar="OID", help="The extended key usage that it must have. By default code signing.")
@click.option("--identity", metavar="WHO", help="A keyless identity, exactly; with --issuer.")
@click.option("--issuer", metavar="URL", help="Who vouches for the identity.")
@click.option("--trust-root", type=PATH, metavar="FILE", help="The trusted root of a private Sigstore.")
@click.option("--force", is_flag=True, help="Replace a signer of that name.")
@lock_option
@quiet_option
def add_command(
    name: str, public_key: str | None, openpgp: str | None, x509: str | None, subject: str | None, eku: str | None, identity: str | None,
    issuer: str | None, trust_root: str | None, force: bool, lock: str | None, quiet: bool,
) -> int:  # fmt: skip
    """Add a signer to the lockfile, its key or certificate pinned by digest."""
    signer = add_signer(
        name, lock=lock, public_key=public_key, openpgp=openpgp, x509=x509, subject=subject, eku=eku, issuer=issuer, identity=identity,
        trust_root=trust_root, replace_existing=force,
    )  # fmt: skip
    summary([("added", "green"), (f": signer {escape(signer.name)} ({signer.kind})", "")], quiet=quiet)
    return 0


@command.command(name="remove")
@click.argument("name")
@lock_option
@quiet_option
def remove_command(name: str, lock: str | None, quiet: bool) -> int:
    """Take a signer out of the lockfile, with its signatures. What a model needs is not dropped in passing."""
    models = remove_signer(name, lock=lock)
    emit([[(f"signature of {escape(name)}", "bold"), (f'  removed  "{escape(model)}"', "")] for model in models])
    summary([("removed", "green"), (f": signer {escape(name)}", "")], quiet=quiet)
    return 0


@command.command(name="update")
@click.argument("name", default="default")
@click.option("--url", metavar="URL", help="The TUF repository of a private Sigstore.")
@click.option("--bootstrap", type=PATH, metavar="FILE", help="Its root.json, from a place that you trust.")
@click.option("--output", "-o", type=PATH, metavar="FILE", help="Where to keep the root. By default in keys/ beside the lockfile.")
@lock_option
@quiet_option
def update_command(name: str, url: str | None, bootstrap: str | None, output: str | None, lock: str | None, quiet: bool) -> int:
    """Fetch the current trusted root through TUF, and pin it. Uses the network; no load ever does."""
    before, now = update_root(name, lock=lock, output=output, url=url, bootstrap=bootstrap)
    was = f"sha256:{before.sha256}" if before is not None else "nothing"
    emit([[(f"trust root {escape(now.name)}", "bold"), (f"  {escape(now.path)}", "")], [(f"  {was} became sha256:{now.sha256}", "")]])
    summary([("pinned", "green"), (": review the change like code", "")], quiet=quiet)
    return 0


@command.command(name="commit")
@click.argument("repository", type=PATH)
@click.argument("paths", nargs=-1, metavar="[FILE]...")
@click.option("--revision", default="HEAD", show_default=True, help="Which commit.")
@click.option("--output", "-o", type=PATH, metavar="FILE", help="Where to keep it. By default git-commit.json in the repository.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@quiet_option
def commit_command(repository: str, paths: tuple[str, ...], revision: str, output: str | None, force: bool, quiet: bool) -> int:
    """Keep a signed commit, and what leads from it to its files, for 'safeload lock' to find."""
    target = Path(output) if output is not None else Path(repository) / "git-commit.json"
    check_output(target, force=force)
    commit, data = collect_commit(os.fspath(repository), paths, revision=revision)
    target.write_bytes(data)
    emit([[(place(target), "bold"), (f"  commit {commit}", "")]])
    summary([("kept", "green"), (": 'safeload lock' verifies and records it", "")], quiet=quiet)
    return 0
