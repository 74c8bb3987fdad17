"""`safeload sign`: make the signatures that `safeload.load` checks, in formats that others read, too.

A file gets a sigstore bundle (keyless, or with a key), a directory an OpenSSF model signature; with OpenPGP, gpg makes a
detached signature, so that keys may stay on a card.
"""

from safeload.signing.files import Signed, sign

__all__ = ["Signed", "sign"]
