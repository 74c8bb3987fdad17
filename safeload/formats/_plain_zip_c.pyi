# The compiled build of `_plain_zip`: the same names.
from safeload.formats._plain_zip import *  # noqa: F403 - whatever the source has, the extension has
