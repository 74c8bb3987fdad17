"""What is in force for one call: the policy, the lockfile, and the pin that covers the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safeload.errors import ArgumentError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass
from safeload.lock_place import find
from safeload.policy import Policy, load_policy, parse_policy, read_policy
from safeload.remote import Address, is_address

if TYPE_CHECKING:
    from pathlib import Path

    from safeload.lockfile import Lockfile, Pin

__all__ = ["Context", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a caller's `f` stands for.

    Attributes:
        file: What to open: a path, an `Address`, or the caller's object.
        pin: The pin found by name or path; by digest only once the bytes are known.
        path: The path, when there is one; of an address, what may be shown of it.
    """

    file: Any
    pin: Pin | None
    path: str | None


@dataclass(frozen=True, slots=True)
class Context:
    """The policy and the lockfile in force.

    Attributes:
        policy: As given, or found from the working directory upwards.
        lock: The lockfile, or None.
        lock_path: Where it lies.
    """

    policy: Policy
    lock: Lockfile | None
    lock_path: Path | None

    @classmethod
    def of(cls, policy: Any = None, lock: Any = None) -> Context:
        """Resolve what a caller passed.

        Args:
            policy: A `Policy`, a mapping with its keys as in TOML, a path of a policy file, or None to look for one.
            lock: A path, or None to look for one (SAFELOAD_LOCK, then the working directory upwards); False for none.

        Raises:
            PolicyError, LockfileError: what is there is not valid.
            SignatureError: policy wants the lockfile signed, and it is not.
            ArgumentError: it is something else.
        """
        path, held = _lock_path(lock), _policy(policy)
        if path is None:
            return cls(held, None, None)
        if held.lock_signer is not None:
            from safeload.signatures import read_lock

            return cls(held, read_lock(path, held), path)
        from safeload.lockfile import read

        return cls(held, read(path), path)

    def target(self, f: Any, *, remote: bool = False) -> Target:
        """Say which file `f` is, and which pin covers it by name or path.

        A file that exists is that file; else a string may be a model's name in the lock, which often is that of a directory.

        Args:
            f: As the caller passed it.
            remote: Whether a text with a scheme is an address. Only where a caller of ours says so: `torch.load` knows none, and
                a program that passes on texts from strangers must not fetch what they name because safeload stands in for it.

        Raises:
            UsageError: the address is not one of a single file.
        """
        if remote and isinstance(f, str) and is_address(f):
            found = Address.of(f)
            if isinstance(found, Address):
                return Target(found, None, found.shown)
            f = found
        if not isinstance(f, (str, os.PathLike)):
            return Target(f, None, None)
        path = os.fspath(f)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        if self.lock is None or self.lock_path is None:
            return Target(path, None, path)
        from safeload.lockfile import lookup

        if isinstance(f, str) and self._names_model(f):
            pin = lookup(self.lock, self.lock_path, name=f)
            if pin is not None:
                return Target(os.fspath(pin.path), pin, os.fspath(pin.path))
        return Target(path, lookup(self.lock, self.lock_path, path=path), path)

    def _names_model(self, name: str) -> bool:
        """Whether a text is a model's name: nothing else is called so here but that model's own directory."""
        model = self.lock.model(name) if self.lock is not None and self.lock_path is not None else None
        if model is None or not os.path.exists(name):
            return model is not None
        own = os.path.join(os.path.dirname(os.path.abspath(os.fspath(self.lock_path or ""))), model.directory)
        return os.path.isdir(name) and os.path.realpath(name) == os.path.realpath(own)

    def by_digest(self, sha256: str) -> Pin | None:
        """The pin of these bytes, wherever they lie."""
        if self.lock is None or self.lock_path is None:
            return None
        from safeload.lockfile import lookup

        return lookup(self.lock, self.lock_path, sha256=sha256)

    def policy_for(self, pin: Pin | None) -> Policy:
        """What holds for the model of a pin."""
        return self.policy.for_model(pin.model.name if pin is not None else None)


def _policy(policy: Any) -> Policy:
    if policy is None:
        return load_policy()
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, Mapping):
        return parse_policy(policy)
    if isinstance(policy, (str, os.PathLike)):
        return read_policy(policy)
    raise ArgumentError(f"policy is a {escape(type(policy).__name__)}; it takes a Policy, a mapping or the path of a policy file")


def _lock_path(lock: Any) -> Path | None:
    if lock is False:
        return None
    if lock is None:
        return find()
    if isinstance(lock, (str, os.PathLike)):
        from pathlib import Path

        return Path(os.fsdecode(os.fspath(lock)))
    raise ArgumentError(f"lock is a {escape(type(lock).__name__)}; it takes the path of a lockfile, None, or False for none")
