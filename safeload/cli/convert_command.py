"""`safeload convert`: away from pickle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safeload.cli.options import BYTES, PATH, force_option, format_option, policy_option, quiet_option
from safeload.cli.output import Line, as_json, count, emit, outcome_style, place, size_text, summary
from safeload.cli.progress import Progress
from safeload.cli.render.json_output import path_text
from safeload.errors import RefusedError
from safeload.findings import Outcome, escape

if TYPE_CHECKING:
    from safeload.conversion import CheckResult, ConvertResult, TreeItem

__all__ = ["command"]

_SHOWN = 50


_IN_FORCE = ""  # what --lock stands for alone


class _Command(click.Command):
    """Takes `--lock` with a value and without: where SRC would be missing, what looks like its value is SRC."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with the flag told from the option."""
        given = list(args)
        try:
            return super().parse_args(ctx, list(args))
        except click.MissingParameter:
            at = given.index("--lock") if "--lock" in given else -1
            if at < 0 or at + 1 >= len(given):
                raise
            ctx.params.clear()
            return super().parse_args(ctx, [*given[:at], f"--lock={_IN_FORCE}", *given[at + 1 :]])


@click.command(name="convert", cls=_Command)
@click.argument("src", type=PATH)
@click.argument("dst", type=PATH, required=False)
@click.option("--check", is_flag=True, help="Write nothing: prove that DST holds all that SRC holds.")
@click.option("--state-dict", is_flag=True, help="Only the weights, under the names that state_dict() gives them.")
@click.option("--transformers", is_flag=True, help="As --state-dict, laid out for a directory that from_pretrained reads.")
@click.option("--strict", is_flag=True, help="Refuse unknown classes, rather than keep their objects as inert data.")
@click.option("--max-shard-size", type=BYTES, metavar="SIZE", help="Split the output into files of at most SIZE, with an index.")
@click.option("--tree", is_flag=True, help="SRC is a directory: convert every checkpoint in it, each beside itself.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and say what would be written.")
@force_option("Overwrite DST.")
@format_option("text", "json")
@quiet_option
@policy_option
@click.option(
    "--lock", type=str, metavar="[FILE]", is_flag=False, flag_value=_IN_FORCE,
    help="Pin the output as the twin of SRC, which is pinned, in FILE or in the lockfile in force: loads take it from then on.",
)  # fmt: skip
def command(
    src: str, dst: str | None, check: bool, state_dict: bool, transformers: bool, strict: bool, max_shard_size: int | None,
    tree: bool, dry_run: bool, force: bool, kind: str, quiet: bool, policy: str | None, lock: str | None,
) -> int:  # fmt: skip
    """Write SRC as safetensors, and print what was kept. Nothing in SRC is run.

    SRC is a checkpoint, the index of one in several files, a directory (as with --tree: every checkpoint in it is converted
    beside itself, and what was converted already is passed by), or a model's name. DST is by default SRC with the ending
    .safetensors.

    What safetensors has no place for (the tree around the tensors, plain data, unknown classes as inert data) goes into its
    metadata, so that nothing is lost.

    Exit status: 0 written (with --check: all is there), 1 SRC is refused (with --check: something differs), 2 it could
    not be converted.
    """
    from safeload.conversion import check as check_files
    from safeload.conversion import convert as convert_files

    if check:
        if dst is None or state_dict or transformers or strict or max_shard_size or tree or dry_run or force or lock is not None:
            raise click.UsageError("--check takes SRC and DST, and no option about writing")
        with Progress("comparing", None, unit="bytes", quiet=quiet) as bar:
            found = check_files(src, dst, policy=policy, progress=bar.reach)
        emit(_check_json(found) if kind == "json" else _check_lines(found, dst))
        summary(_check_summary(found), quiet=quiet)
        return 0 if found.same else 1
    record, lock = lock is not None, None if lock == _IN_FORCE else lock
    if tree or Path(src).is_dir():
        if dst is not None:
            raise click.UsageError("a directory is converted in place: each file beside itself, so DST has no meaning")
        if record:
            raise click.UsageError("--lock is about one file; 'safeload lock --convert DIR' pins and converts all of a directory")
        if not Path(src).is_dir():
            raise click.UsageError(f"--tree takes a directory, and '{src}' is none")
        items = _convert_tree(
            src, quiet=quiet, force=force, state_dict=state_dict, transformers=transformers, strict=strict, dry_run=dry_run,
            max_shard_size=max_shard_size, policy=policy,
        )  # fmt: skip
        emit(_tree_json(items) if kind == "json" else _tree_lines(items))
        summary(_tree_summary(items), quiet=quiet)
        return _tree_status(items)
    with Progress("converting", None, unit="bytes", quiet=quiet) as bar:
        result = convert_files(
            src, dst, force=force, state_dict=state_dict, transformers=transformers, strict=strict, dry_run=dry_run,
            max_shard_size=max_shard_size, policy=policy, lock=lock, record=record, progress=bar.reach,
        )  # fmt: skip
    emit(_json(result) if kind == "json" else _lines(result))
    summary(_summary(result), quiet=quiet)
    return 0


def _convert_tree(src: str, *, quiet: bool, **options: Any) -> list[TreeItem]:
    from safeload.conversion import convert_tree

    with Progress("converting", None, unit="bytes", quiet=quiet) as bar:
        return list(convert_tree(src, progress=bar.hashed, **options))


def _tree_lines(items: list[TreeItem]) -> list[Line]:
    styles = {"converted": outcome_style(Outcome.ALLOWED), "refused": outcome_style(Outcome.REFUSED)}
    lines: list[Line] = []
    for item in items:
        why = f"  {escape(item.why, 1000)}" if item.why else ""
        lines.append([(f"{place(item.path)}  ", "bold"), (item.outcome, styles.get(item.outcome, "dim")), (why, "")])
        lines += [[("  ", ""), *line] for line in (_lines(item.result) if item.result is not None else [])]
    return lines


def _tree_summary(items: list[TreeItem]) -> Line:
    numbers = Counter(item.outcome for item in items)
    text = ", ".join(f"{outcome}: {numbers[outcome]:,}" for outcome in ("converted", "present", "skipped", "refused") if numbers[outcome])
    return [(text or "nothing to convert", outcome_style(Outcome.REFUSED if numbers["refused"] else Outcome.ALLOWED))]


def _tree_status(items: list[TreeItem]) -> int:
    """0 when everything that is a checkpoint is converted, 1 when one is refused, 2 when one could not be."""
    errors = [item.error for item in items if item.outcome == "refused"]
    if not errors:
        return 0
    return 1 if all(isinstance(error, RefusedError) for error in errors) else 2


def _tree_json(items: list[TreeItem]) -> str:
    return as_json(
        {
            "version": 1,
            "files": [
                {
                    "path": path_text(item.path),
                    "outcome": item.outcome,
                    "why": escape(item.why, 5_000) or None,
                    "result": None if item.result is None else _document(item.result),
                }
                for item in items
            ],
        }
    )


def _lines(result: ConvertResult) -> list[Line]:
    """What was written, and what became of everything that is no plain tensor."""
    lines: list[Line] = []
    for file in result.files:
        digest = f"  sha256-tree:{file.sha256_tree[:12]}" if file.sha256_tree else ""
        lines.append([(place(file.path), "bold"), (f"  {size_text(file.size)}{digest}", "")])
    lines.append([(f"  kept      {count(len(result.kept), 'tensor')} that every reader of safetensors sees", "")])
    lines += _some("in metadata", [f"{escape(name)}: {escape(why)}" for name, why in result.carried])
    lines += _some("dangerous ", [escape(text, 500) for text in result.dangers], "red")
    lines += _some("inert     ", [escape(name) for name in result.inert])
    lines += _some("left out  ", [f"{escape(name)}: {escape(why)}" for name, why in result.left_out])
    return lines


def _some(title: str, items: list[str], style: str = "") -> list[Line]:
    lines: list[Line] = [[(f"  {title}  ", "bold"), (item, style)] for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append([(f"  and {len(items) - _SHOWN:,} more", "dim")])
    return lines


def _summary(result: ConvertResult) -> Line:
    verb = "would write" if result.dry_run else "written"
    names = ", ".join(place(file.path) for file in result.files[:3]) + (", …" if len(result.files) > 3 else "")
    lost = f"; {count(len(result.left_out), 'thing')} left out" if result.left_out else ""
    hostile = "; the source asks for code to run, which nothing here does: find out who made it" if result.dangers else ""
    return [(f"{verb}: {names}", outcome_style(Outcome.ALLOWED)), (lost, ""), (hostile, outcome_style(Outcome.REFUSED))]


def _json(result: ConvertResult) -> str:
    return as_json({"version": 1, **_document(result)})


def _document(result: ConvertResult) -> dict[str, Any]:
    return {
        "source": {
            "path": path_text(result.source),
            "format": result.format,
            "sha256": result.source_sha256 or None,
        },
        "files": [
            {"path": path_text(file.path), "size": file.size, "sha256": file.sha256 or None, "sha256-tree": file.sha256_tree or None}
            for file in result.files
        ],
        "kept": [escape(name, 5_000) for name in result.kept],
        "carried": [{"name": escape(name, 5_000), "why": escape(why, 5_000)} for name, why in result.carried],
        "inert": [escape(name, 5_000) for name in result.inert],
        "dangers": [escape(text, 5_000) for text in result.dangers],
        "left_out": [{"name": escape(name, 5_000), "why": escape(why, 5_000)} for name, why in result.left_out],
        "dry_run": result.dry_run,
    }


def _check_lines(found: CheckResult, dst: str) -> list[Line]:
    compared = f"{count(found.storages, 'storage')}, {size_text(found.nbytes)}, {count(found.nodes, 'node')} of the tree compared"
    lines: list[Line] = [[(place(dst), "bold"), (f"  {compared}", "")]]
    if not found.same:
        lines.append([("  differs  ", outcome_style(Outcome.REFUSED)), (escape(found.difference, 1000), "")])
    return lines + _some("left out  ", [f"{escape(name)}: {escape(why)}" for name, why in found.left_out])


def _check_summary(found: CheckResult) -> Line:
    if found.left_out:
        text = f"matches: everything in the source is there, but for {count(len(found.left_out), 'thing')} left out"
        return [(text, outcome_style(Outcome.ALLOWED))]
    if found.same:
        return [("matches: everything in the source is there", outcome_style(Outcome.ALLOWED))]
    return [("differs: not everything in the source is there", outcome_style(Outcome.REFUSED))]


def _check_json(found: CheckResult) -> str:
    return as_json(
        {
            "version": 1,
            "same": found.same,
            "storages": found.storages,
            "nbytes": found.nbytes,
            "nodes": found.nodes,
            "difference": escape(found.difference, 5_000) or None,
            "left_out": [{"name": escape(name, 5_000), "why": escape(why, 5_000)} for name, why in found.left_out],
        }
    )
