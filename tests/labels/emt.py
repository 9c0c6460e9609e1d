"""Labels of ASE's EMT, for metals."""

from __future__ import annotations

from ase.build import bulk
from ase.calculators.emt import EMT

from himlip_ase.labels.frames import LabelledFrame
from tests.hint.toy import rattled


def emt_frames(number: int, symbol: str = "Cu", amplitude: float = 0.1) -> list[LabelledFrame]:
    """Rattled cells of one shape at ambient pressure: no strain, nothing pulls or presses."""
    frames = []
    for atoms in rattled(bulk(symbol, cubic=True).repeat((2, 1, 1)), number, amplitude, seed=3):
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        frames.append(LabelledFrame(atoms.copy(), energy, forces, stress, set="emt"))
    return frames
