"""Checks of labels before anything is trained on them; every refusal states the deviation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

LARGEST_STRESS = 20.0
"""eV/Å³; 3200 GPa. Anything larger is taken for GPa or kbar."""
LARGEST_TENSION = 0.1
"""eV/Å³; 16 GPa. A crystal that pulls harder on average is taken for a stress of the wrong sign."""


def check_frames(frames: Iterable[LabelledFrame]) -> None:
    """Refuse labels that are non-finite or in the wrong unit or sign.

    Stresses are compared with :data:`LARGEST_STRESS` and :data:`LARGEST_TENSION`, and, where frames differ by
    a strain alone, with the change of the energy: ΔE must equal V σ : ε.

    Raises
    ------
    InputError
        With the frame, the number and what it should be.
    """
    checks = FrameChecks()
    for frame in frames:
        checks.add(frame)
    checks.finish()


class FrameChecks:
    """`check_frames` on frames that come one at a time and need not be kept."""

    def __init__(self) -> None:
        self._tension: list[float] = []
        self._last: dict[bytes, LabelledFrame] = {}
        self._work: list[float] = []
        self._change: list[float] = []

    def add(self, frame: LabelledFrame) -> None:
        """Check what one frame alone can tell."""
        name = frame.source or frame.set
        for label, value in (("energy", frame.energy), ("forces", frame.forces), ("stress", frame.stress)):
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"{name}: {label} contains {np.asarray(value)!r}")
        if frame.hessian is not None:
            check_hessian(frame.hessian.atoms, frame.hessian.matrix, frame.hessian.name)
        if frame.stress is None:
            return
        largest = np.abs(frame.stress).max()
        if largest > LARGEST_STRESS:
            raise InputError(
                f"{name}: stress component of {largest:.4g} eV/Å³ = "
                f"{largest * EV_PER_ANGSTROM3_GPA:.3g} GPa; is it in GPa (× {1 / EV_PER_ANGSTROM3_GPA:.7f} "
                f"gives eV/Å³) or kbar (× {0.1 / EV_PER_ANGSTROM3_GPA:.8f})?"
            )
        self._tension.append(float(np.sum(frame.stress[:3]) / 3))
        if frame.energy is not None and frame.atoms.cell.rank == 3:
            key = frame.atoms.numbers.tobytes()
            if key in self._last:
                self._compare(self._last[key], frame)
            self._last[key] = frame

    def _compare(self, first: LabelledFrame, second: LabelledFrame) -> None:
        """ΔE and V σ : ε of two frames that differ by a small strain alone."""
        delta = first.atoms.get_scaled_positions() - second.atoms.get_scaled_positions()
        delta -= np.rint(delta)
        deformation = np.linalg.solve(first.atoms.cell.array, second.atoms.cell.array)
        strain = (deformation + deformation.T) / 2 - np.eye(3)
        if np.abs(delta).max() > 1e-5 or not 1e-4 < np.abs(strain).max() < 0.06:
            return
        total = 0.0
        for frame in (first, second):
            sigma = matrix_from_voigt(frame.stress)  # type: ignore[arg-type]
            total += 0.5 * frame.atoms.get_volume() * float(np.sum(sigma * strain))
        self._work.append(total)
        self._change.append(float(second.energy - first.energy))  # type: ignore[operator]

    def finish(self) -> None:
        """Check what all frames together tell."""
        w, c = np.array(self._work), np.array(self._change)
        if w.size and np.abs(c).max() >= 1e-3:
            slope = float(w @ c / (c @ c))
            if not 0.5 < slope < 2.0:
                raise InputError(
                    f"stress: the work V σ:ε between {len(w) + 1} strained frames is {slope:.4g} times the "
                    "change of energy (must be near 1; -1 means the wrong sign, 160.2 GPa, 1602 kbar)"
                )
        tension = float(np.median(self._tension)) if self._tension else 0.0
        if tension > LARGEST_TENSION:
            raise InputError(
                f"stress: the median frame is pulled by {tension:.3g} eV/Å³ "
                f"({tension * EV_PER_ANGSTROM3_GPA:.3g} GPa); ASE's stress is positive in tension "
                "and negative under pressure: is the sign wrong?"
            )
