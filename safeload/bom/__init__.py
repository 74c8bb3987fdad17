"""`safeload bom`: the lockfile as a bill of materials that other tools read."""

from safeload.bom.writing import bill_of_materials

__all__ = ["bill_of_materials"]
