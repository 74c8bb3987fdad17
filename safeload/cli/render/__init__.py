"""How results are written: one module per kind of output."""
