# Cython looks for the .pxd that is named like the extension; the types stand in the one that is named like the source,
# where change detection finds them.
include "_machine.pxd"
