# The compiled build of `_machine`: the same names.
from safeload.walk._machine import *  # noqa: F403 - whatever the source has, the extension has
