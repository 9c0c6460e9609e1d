"""Checks of labels before anything is trained on them; every refusal states the deviation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.pair_potential import MOST_FRAMES, PairPotential
from himlip_ase.labels.stiffness import HESSIAN_UNITS, Stiffness
from himlip_ase.labels.stress_size import stress_size
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

logger = logging.getLogger(__name__)

LARGEST_STRESS = 20.0
"""eV/Å³; 3200 GPa. Anything larger is taken for GPa or kbar."""
LARGEST_TENSION = 0.1
"""eV/Å³; 16 GPa. A crystal that pulls harder on average is taken for a stress of the wrong sign."""
SURE = 0.85
"""Correlation of labels with the prediction of a pair potential from which its scale means something."""
LARGEST_CHANGE = 15.0
"""Of `stress_size`: ten times what was found in anything."""
SAME_SCALE = 4.0
"""Factor within which a pair potential gives stresses and Hessians."""
STRESS_UNITS = {
    "its sign is the other": -1.0,
    "it is in GPa": EV_PER_ANGSTROM3_GPA,
    "it is in GPa and its sign the other": -EV_PER_ANGSTROM3_GPA,
    "it is in kbar": 10 * EV_PER_ANGSTROM3_GPA,
    "it is in kbar and its sign the other": -10 * EV_PER_ANGSTROM3_GPA,
}
"""What a stress may be instead of ASE's, and the scale that it then has."""
WRONG_HESSIANS = {"its sign is the other": -1.0} | {f"it is in {k}": v for k, v in HESSIAN_UNITS.items()}
"""The same of a Hessian."""
MOST_HESSIANS = 8
"""Hessians on frames that are set against the forces."""
MOST_ATOMS = 300
"""Atoms of the largest structure that enters these comparisons."""
HALF = 0.5
HOT_SHARE = 0.02
"""If so small a share of the frames has half of all squared forces, these rule the loss."""


def check_frames(frames: Iterable[LabelledFrame], hessians: Sequence[HessianLabel] = ()) -> None:
    """Refuse labels that are non-finite or in the wrong unit or sign.

    Stresses are compared with :data:`LARGEST_STRESS` and :data:`LARGEST_TENSION`; where frames differ by a
    strain alone, with the change of the energy (ΔE must equal V σ : ε); and, like Hessians, with what a pair
    potential says that was fitted to energies and forces.

    Parameters
    ----------
    frames : iterable of LabelledFrame
    hessians : sequence of HessianLabel
        Further Hessians, which are set against the forces of the frames.

    Raises
    ------
    InputError
        With the frame, the number and what it should be.
    """
    checks = FrameChecks()
    for frame in frames:
        checks.add(frame)
    checks.finish(hessians)


class FrameChecks:
    """`check_frames` on frames that come one at a time and need not be kept."""

    def __init__(self) -> None:
        self._tension: list[float] = []
        self._sample: list[LabelledFrame] = []
        self._hessians: list[HessianLabel] = []
        self._last: dict[bytes, LabelledFrame] = {}
        self._work: list[float] = []
        self._change: list[float] = []

    def add(self, frame: LabelledFrame) -> None:
        """Check what one frame alone can tell.

        Parameters
        ----------
        frame : LabelledFrame

        Raises
        ------
        InputError
        """
        name = frame.source or frame.set
        for label, value in (("positions", frame.atoms.positions), ("cell", frame.atoms.cell.array)):
            if not np.isfinite(value).all():
                place = np.argwhere(~np.isfinite(value))[0]
                raise InputError(f"{name}: {label} of row {place[0]} contains {value[tuple(place)]}")
        if not (np.isfinite(frame.weight) and frame.weight >= 0):
            raise InputError(f"{name}: its weight is {frame.weight}; give a number that is not negative")
        for label, value in (("energy", frame.energy), ("forces", frame.forces), ("stress", frame.stress)):
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"{name}: {label} contains {np.asarray(value)!r}")
        if frame.hessian is not None:
            check_hessian(frame.hessian.atoms, frame.hessian.matrix, frame.hessian.name)
            if len(self._hessians) < MOST_HESSIANS:
                self._hessians.append(frame.hessian)
        if frame.forces is not None and len(self._sample) < MOST_FRAMES and len(frame.atoms) <= MOST_ATOMS:
            self._sample.append(frame)
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

    def finish(self, hessians: Sequence[HessianLabel] = ()) -> list[str]:
        """Check what all frames together tell.

        Parameters
        ----------
        hessians : sequence of HessianLabel
            Beside those on the frames.

        Returns
        -------
        list of str
            What could not be judged, and why.

        Raises
        ------
        InputError
        """
        w, c = np.array(self._work), np.array(self._change)
        strained = bool(w.size and np.abs(c).max() >= 1e-3)
        if strained:
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
        every = [*hessians, *self._hessians][:MOST_HESSIANS]
        if not (self._tension or every):
            return []
        potential = PairPotential(self._sample)
        remarks = self._judge_stresses(potential, strained) if self._tension else []
        return remarks + [text for label in every if (text := _judge_hessian(potential, label))]

    def _judge_stresses(self, potential: PairPotential, strained: bool) -> list[str]:
        """Against a pair potential of energies and forces, and by their size."""
        found = potential.stress_scale()
        if found is not None and _is_wrong(found.scale, found.correlation):
            raise InputError(
                f"stress: it is {found.scale:.4g} times what the energies and forces say (correlation "
                f"{found.correlation:.2f}; ASE's has 1): {_nearest(found.scale, STRESS_UNITS)}. Give eV/Å³, "
                "positive in tension, or leave it out (--stress-key of another name)"
            )
        size = stress_size(self._sample)
        if size is not None and size > LARGEST_CHANGE:
            raise InputError(
                f"stress: in frames of one cell it changes by {size:.3g} times what their forces can make of "
                "it (0.02 to 1 in eV/Å³): is it in GPa or kbar? Give eV/Å³, positive in tension, or leave it "
                "out (--stress-key of another name)"
            )
        if strained or (found is not None and abs(found.correlation) > SURE):
            return []
        pairs = "too few frames" if found is None else f"a correlation of {found.correlation:.2f} with pairs"
        what = "sign" if size is not None else "sign and unit"
        return [
            f"the {what} of {len(self._tension)} stresses could not be judged: no two frames with energies "
            f"differ by a strain alone, and {pairs} ({SURE:g} wanted); two frames at 0.99 and 1.01 of the "
            "lattice constant would do"
        ]


def _judge_hessian(potential: PairPotential, label: HessianLabel) -> str:
    """Refuse a Hessian of another unit than the forces; what could not be judged, or nothing."""
    found = None
    if len(label.atoms) <= MOST_ATOMS:
        found = potential.hessian_scale(label.atoms, label.matrix)
    if found is not None and _is_wrong(found.scale, found.correlation):
        raise InputError(
            f"{label.name}: the Hessian is {found.scale:.4g} times what the forces of the frames say "
            f"(correlation {found.correlation:.2f}): {_nearest(found.scale, WRONG_HESSIANS)}. Give "
            "eV/Å² and d²E/dx²"
        )
    if found is not None and abs(found.correlation) > SURE:
        return ""
    if label.unit_known:
        return ""
    own = Stiffness.of(label.atoms, label.matrix) if len(label.atoms) <= MOST_ATOMS else None
    if own is not None and not own.units:
        return ""
    return (
        f"{label.name}: its unit was judged by itself alone, which does not tell "
        f"{' or '.join(own.units if own else HESSIAN_UNITS)} from eV/Å² here; forces of five displaced "
        "structures of as many atoms would do, if pairs of atoms explain them"
    )


def _is_wrong(scale: float, correlation: float) -> bool:
    return abs(correlation) > SURE and not 1 / SAME_SCALE < scale < SAME_SCALE


def _nearest(scale: float, units: dict[str, float]) -> str:
    """What explains a scale best, within the accuracy of a pair potential."""
    fits = {name: abs(np.log(abs(scale / unit))) for name, unit in units.items() if scale * unit > 0}
    name = min(fits, key=lambda key: fits[key], default="")
    if not name or fits[name] > np.log(SAME_SCALE):
        return "its unit or sign is another"
    return f"probably {name}"


def hot_frames(squares: Sequence[float]) -> list[int]:
    """The few frames that hold half of all squared forces, if they are few.

    Parameters
    ----------
    squares : sequence of float
        Σ|F|² of every frame, (eV/Å)².

    Returns
    -------
    list of int
        The hottest first; empty if no small share of the frames (`HOT_SHARE`, at least one) rules the rest.
    """
    values = np.asarray(squares, dtype=float)
    if len(values) < 10 or not values.sum() > 0:
        return []
    order = np.argsort(-values)
    needed = int(np.searchsorted(np.cumsum(values[order]), HALF * values.sum())) + 1
    return order[:needed].tolist() if needed <= max(1, round(HOT_SHARE * len(values))) else []
