"""Errors in words, in the units that people quote (meV/atom, meV/Å, GPa, cm⁻¹)."""

from __future__ import annotations

from himlip_ase.hint.evaluation.evaluate import LabelErrors, SetErrors
from himlip_ase.hint.evaluation.hessian_errors import HessianErrors
from himlip_ase.hint.evaluation.horm_metrics import HormErrors
from himlip_ase.hint.evaluation.phonopy_metrics import PhonopyErrors
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

LISTED = 8
"""Hessians that get a line each; of more, the means are shown alone."""


def describe(errors: LabelErrors, peers: bool = False) -> list[str]:
    """One line per set and Hessian, and the means over several Hessians.

    Parameters
    ----------
    errors : LabelErrors
    peers : bool
        Add the same figures by HORM's and phonopy's definitions.

    Returns
    -------
    list of str
    """
    lines = [_set_line(name, item) for name, item in errors.sets.items()]
    found = errors.hessians
    if len(found) <= LISTED:
        lines += [_hessian_line(name, item) for name, item in found.items()]
    if len(found) > 1:
        lines.append(f"mean ± standard error over {len(found)} Hessians:")
        lines += [
            f"  {name}: {mean}{'' if mean.count == len(found) else f' (of {mean.count})'}"
            for name, mean in errors.means().items()
        ]
    if peers:
        lines += [] if errors.horm is None else [_horm_line(errors.horm)]
        if len(found) <= LISTED:
            lines += [_phonopy_line(name, h.phonopy) for name, h in found.items() if h.phonopy is not None]
    return lines


def _set_line(name: str, item: SetErrors) -> str:
    parts = [f"{name}: {item.frames} frames"]
    if item.energy:
        parts.append(f"energy RMSE {1e3 * item.energy.rmse:.1f}, MAE {1e3 * item.energy.mae:.1f} meV/atom")
    if item.relative_energy:
        e = item.relative_energy
        parts.append(f"less their mean {1e3 * e.rmse:.1f}, {1e3 * e.mae:.1f}")
    if item.forces:
        f = item.forces
        parts.append(
            f"forces RMSE {1e3 * f.rmse:.0f}, MAE {1e3 * f.mae:.0f} of {1e3 * f.label_rms:.0f} meV/Å"
        )
    if item.stress:
        s = item.stress
        parts.append(
            f"stress RMSE {EV_PER_ANGSTROM3_GPA * s.rmse:.2f}, MAE {EV_PER_ANGSTROM3_GPA * s.mae:.2f} GPa"
        )
    if item.products:
        p = item.products
        parts.append(f"Hessian products RMSE {p.rmse:.3f}, MAE {p.mae:.3f} of {p.label_rms:.3f} eV/Å²")
    return ", ".join(parts)


def _hessian_line(name: str, item: HessianErrors) -> str:
    line = (
        f"{name}: {item.atoms} atoms, Hessian RMSE {item.hessian.rmse:.4f}, MAE {item.hessian.mae:.4f}, "
        f"eigenvalue MAE {item.eigenvalues.mae:.4f}"
    )
    if item.internal is not None:
        line += f" (without rigid motions {item.internal.mae:.4f})"
    line += " eV/Å²"
    if item.frequencies and item.lowest:
        line += (
            f", frequencies RMSE {item.frequencies.rmse:.1f}, MAE {item.frequencies.mae:.1f}, largest "
            f"{item.frequencies.largest:.1f} cm-1, lowest {item.lowest[1]:.0f} (label {item.lowest[0]:.0f})"
        )
    elif item.modes:
        line += f", frequencies MAE {item.modes.frequency_mae:.1f} cm-1"
    if item.modes:
        m = item.modes
        line += (
            f"; softest mode overlap {m.lowest_cosine:.3f}, signs right {100 * m.sign_agreement:.0f} %, "
            f"unstable modes {m.unstable[1]} (label {m.unstable[0]})"
        )
    return f"{line}, asymmetry {item.asymmetry:.1e}, sum rule {item.sum_rule:.1e} eV/Å²"


def _horm_line(item: HormErrors) -> str:
    parts = []
    if item.energy is not None:
        parts.append(f"energy {item.energy:.4g} eV")
    if item.forces is not None:
        parts.append(f"forces {item.forces:.4g} eV/Å")
    if item.hessian is not None:
        parts.append(
            f"Hessian {item.hessian:.4g} eV/Å², eigenvalues {item.eigenvalues:.4g} eV/Å² = "
            f"{item.eigenvalues_hartree_per_bohr2:.4g} hartree/bohr², asymmetry {item.asymmetry:.1e} eV/Å²"
        )
    return (
        f"as HORM defines them (MAE of each of {item.structures} structures and {item.hessians} Hessians, "
        f"then the mean): {', '.join(parts)}"
    )


def _phonopy_line(name: str, item: PhonopyErrors) -> str:
    return (
        f"as phonopy defines them ({name}): frequencies RMSE {item.frequency_rmse:.4f}, MAE "
        f"{item.frequency_mae:.4f} THz, drift of the force constants {item.drift:.1e} (label "
        f"{item.label_drift:.1e}) eV/Å²"
    )
