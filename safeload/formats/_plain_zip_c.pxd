# Cython looks for the .pxd that is named like the extension; see _machine_c.pxd.
include "_plain_zip.pxd"
