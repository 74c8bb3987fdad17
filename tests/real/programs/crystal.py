"""chgnet: energy, forces, stress and magnetic moments of rock salt, by each of its models."""

from __future__ import annotations

from chgnet.model import CHGNet
from pymatgen.core import Lattice, Structure

from tests.real.programs.digest import show

salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
for name in ("0.2.0", "0.3.0", "r2scan"):
    model = CHGNet.load(model_name=name, use_device="cpu", verbose=False)
    for what, result in sorted(model.predict_structure(salt).items()):
        show(f"{name} {what}", result)
