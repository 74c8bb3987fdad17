# The compiled build of `_machine`: the same names.
from safeload.walk._machine import *
