"""Input texts of pw.x and ph.x, written through ase.io.espresso."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.espresso import write_espresso_in

from himlip_ase.dft.espresso.pseudopotentials import find_pseudopotentials, pseudo_folder
from himlip_ase.errors import InputError
from himlip_ase.pw_structure import SAME_MASS, is_natural, set_masses

PREFIX = "pwscf"
SCRATCH = "./out"


@dataclass(frozen=True)
class QESettings:
    """What decides the accuracy of a Quantum ESPRESSO calculation.

    Attributes
    ----------
    ecutwfc_ry, ecutrho_ry : float
        Kinetic-energy cutoffs, Ry; `ecutrho_ry` None is 4 `ecutwfc_ry`, right for norm-conserving files.
    k_grid : tuple of int
        Γ-centred grid of the primitive cell; `scale_k_grid` and `k_grid_like` carry it to other cells.
    smearing, degauss_ry : str, float
        "mp", "mv", "gauss", "fd" and its width in Ry; `smearing=None` means fixed occupations.
    conv_thr : float
        Threshold of the estimated scf accuracy, Ry.
    pseudo_dir : path-like, optional
        Folder of UPF files; None reads the environment variable ESPRESSO_PSEUDO.
    pseudopotentials : mapping
        {element: file name} for elements with more than one candidate in the folder.
    extra : mapping
        {namelist: {keyword: value}} added to every pw.x input, e.g. {"system": {"nspin": 2}}.
    """

    ecutwfc_ry: float = 60.0
    ecutrho_ry: float | None = None
    k_grid: tuple[int, int, int] = (12, 12, 12)
    smearing: str | None = "mp"
    degauss_ry: float = 0.02
    conv_thr: float = 1e-10
    pseudo_dir: str | os.PathLike | None = None
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grid = tuple(self.k_grid)
        if len(grid) != 3 or any(int(k) != k or k < 1 for k in grid):
            raise InputError(f"k_grid is {self.k_grid}; give three positive integers, e.g. (12, 12, 12)")
        for name in ("ecutwfc_ry", "degauss_ry", "conv_thr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; give a positive number")

    def files_for(self, atoms: Atoms) -> dict[str, str]:
        """{element: file name} of the pseudopotentials of `atoms`; see `find_pseudopotentials`."""
        return find_pseudopotentials(atoms.get_chemical_symbols(), self.pseudo_dir, self.pseudopotentials)

    def with_k_grid(self, k_grid: Sequence[int]) -> QESettings:
        """The same settings on another k-grid."""
        return replace(self, k_grid=(int(k_grid[0]), int(k_grid[1]), int(k_grid[2])))


def check_crystal(atoms: Atoms) -> Atoms:
    """A bare copy (species, positions, cell, masses) of a crystal that pw.x can take.

    Constraints, momenta and calculators are left behind, so that forces come out raw.

    Raises
    ------
    InputError
        No atoms, a non-finite number, a missing period, a singular cell, or coincident atoms.
    """
    if len(atoms) == 0:
        raise InputError("the structure has no atoms")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise InputError(
            f"the position of atom {bad[0]} ({atoms.symbols[bad[0]]}) is {atoms.positions[bad[0]]}"
        )
    if not np.isfinite(atoms.cell.array).all() or abs(atoms.cell.volume) < 1e-3:
        raise InputError(
            f"the cell has a volume of {atoms.cell.volume:.3g} Å³; Quantum ESPRESSO needs a periodic cell: "
            "set atoms.cell, or atoms.center(vacuum=6) for a molecule, and atoms.pbc = True"
        )
    if not atoms.pbc.all():
        raise InputError(
            f"pbc is {atoms.pbc.tolist()}; pw.x is periodic in all three directions: set atoms.pbc = True"
        )
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    set_masses(bare, atoms.get_masses())
    if len(bare) > 1:
        distances = bare.get_all_distances(mic=True) + 10 * np.eye(len(bare))
        if distances.min() < 0.05:
            i, j = np.unravel_index(distances.argmin(), distances.shape)
            raise InputError(f"atoms {i} and {j} are {distances.min():.3f} Å apart")
    return bare


def pw_input(
    atoms: Atoms,
    settings: QESettings,
    *,
    calculation: str = "scf",
    nosym: bool = False,
    k_shift: bool = False,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Text of a pw.x input.

    Parameters
    ----------
    atoms : Atoms
        Periodic structure; constraints are ignored.
    settings : QESettings
        `settings.k_grid` is used as it is: scale it for supercells first.
    calculation : str
        "scf", "relax" or "vc-relax".
    nosym : bool
        For disordered cells, whose accidental symmetries must not be looked for.
    k_shift : bool
        Shift the grid by half a step in each direction. Dynamical matrices may come from such a grid too
        (ph.x makes the states at k + q itself), electron-phonon matrices that are interpolated may not.
    overrides : mapping, optional
        {namelist: {keyword: value}}, over `settings.extra`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        As `check_crystal` and `find_pseudopotentials`.
    """
    bare = check_crystal(atoms)
    data: dict[str, dict[str, Any]] = {
        "control": {
            "calculation": calculation,
            "prefix": PREFIX,
            "outdir": SCRATCH,
            "pseudo_dir": str(pseudo_folder(settings.pseudo_dir)),
            "tprnfor": True,
            "tstress": True,
            "disk_io": "low",
        },
        "system": {"ecutwfc": float(settings.ecutwfc_ry)},
        "electrons": {"conv_thr": settings.conv_thr},
    }
    if settings.ecutrho_ry is not None:
        data["system"]["ecutrho"] = float(settings.ecutrho_ry)
    if settings.smearing is None:
        data["system"]["occupations"] = "fixed"
    else:
        data["system"].update(occupations="smearing", smearing=settings.smearing, degauss=settings.degauss_ry)
    if nosym:
        data["system"]["nosym"] = True
    for layer in (settings.extra, overrides or {}):
        for namelist, values in layer.items():
            data.setdefault(namelist.lower(), {}).update(values)
    stream = io.StringIO()
    write_espresso_in(
        stream,
        bare,
        input_data=data,
        pseudopotentials=settings.files_for(bare),
        kpts=settings.k_grid,
        koffset=(1, 1, 1) if k_shift else (0, 0, 0),
    )
    return with_masses(stream.getvalue(), bare)


def with_masses(text: str, atoms: Atoms) -> str:
    """A pw.x input with the masses of its atoms; elements of several masses become several species.

    Parameters
    ----------
    text : str
        As ASE writes it, with natural masses and one species for each element.
    atoms : Atoms

    Returns
    -------
    str
        The same text where all masses are natural.

    Raises
    ------
    InputError
        An element has more than ten masses.
    """
    symbols, masses = atoms.get_chemical_symbols(), atoms.get_masses()
    kinds: dict[str, list[float]] = {}
    for symbol, mass in zip(symbols, masses, strict=True):
        known = kinds.setdefault(symbol, [])
        if not any(abs(mass - other) < SAME_MASS * other for other in known):
            known.append(float(mass))
    if all(len(found) == 1 and is_natural(found[0], symbol) for symbol, found in kinds.items()):
        return text
    lines = text.splitlines()
    species = next(k for k, line in enumerate(lines) if line.startswith("ATOMIC_SPECIES"))
    places = next(k for k, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS"))
    rows = {line.split()[0]: line.split()[2] for line in lines[species + 1 : species + 1 + len(kinds)]}
    written, label_of = [], {}
    for symbol, found in kinds.items():
        for k, mass in enumerate(found):
            label = symbol if len(found) == 1 else f"{symbol}{k}"
            if k > 9 or symbol not in rows:
                raise InputError(f"the masses of {symbol} cannot be written as species of pw.x: {found}")
            label_of[symbol, k] = label
            written.append(f"{label} {mass:.6f} {rows[symbol]}")
    for row, (symbol, mass) in enumerate(zip(symbols, masses, strict=True)):
        k = next(i for i, other in enumerate(kinds[symbol]) if abs(mass - other) < SAME_MASS * other)
        words = lines[places + 1 + row].split()
        lines[places + 1 + row] = " ".join([label_of[symbol, k], *words[1:]])
    lines[species + 1 : species + 1 + len(kinds)] = written
    return re.sub(r"(?m)^(\s*ntyp\s*=\s*)\d+", rf"\g<1>{len(written)}", "\n".join(lines) + "\n")


def essential_ph_input(text: str) -> str:
    """A ph.x input without what continuing or repeating a run changes."""
    return re.sub(r"(?m)^\s*(start_q|last_q|recover|alpha_mix\(1\))\s*=.*\n", "", text)


def ph_input(
    q_grid: Sequence[int],
    *,
    sigma_ry: float = 0.005,
    n_sigma: int = 10,
    start_q: int = 1,
    tr2_ph: float = 1e-14,
    alpha_mix: float | None = None,
    electron_phonon: bool = True,
) -> str:
    """Text of a ph.x input: dynamical matrices, and electron-phonon matrices, on a q-grid.

    Parameters
    ----------
    q_grid : three ints
        Γ-centred grid of q-points.
    sigma_ry, n_sigma : float, int
        The double-delta Gaussians have widths sigma_ry, 2 sigma_ry, … n_sigma·sigma_ry, Ry.
    start_q : int
        Irreducible q-point to start from, to continue an interrupted run. This, and not ph.x's own
        ``recover=.true.``, because version 6.7 then stops on its elph.*.xml files or, without them, writes
        wrong dynamical and electron-phonon matrices (findings/ph_recovered_after_a_kill_is_wrong.sh).
    tr2_ph : float
        Threshold of the self-consistency of the response.
    alpha_mix : float, optional
        Mixing of the first iterations; None leaves ph.x's 0.7.
    electron_phonon : bool
        Whether electron-phonon matrices are computed (`electron_phonon='interpolated'`).

    Returns
    -------
    str
    """
    lines = [
        "&INPUTPH",
        f"   prefix           = '{PREFIX}'",
        f"   outdir           = '{SCRATCH}'",
        "   fildyn           = 'dyn'",
        "   fildvscf         = 'dvscf'",
        f"   tr2_ph           = {_double(tr2_ph)}",
        "   ldisp            = .true.",
        "   nq1 = {}, nq2 = {}, nq3 = {}".format(*q_grid),
    ]
    if electron_phonon:
        lines += [
            "   electron_phonon  = 'interpolated'",
            f"   el_ph_sigma      = {sigma_ry:g}",
            f"   el_ph_nsigma     = {n_sigma}",
        ]
    if alpha_mix is not None:
        lines.append(f"   alpha_mix(1)     = {alpha_mix:g}")
    if start_q > 1:
        lines.append(f"   start_q          = {start_q}")
    return "\n".join([*lines, "/", ""])


def single_q_input(
    q: Sequence[float] | np.ndarray, atoms: Atoms, *, tr2_ph: float = 1e-14, alpha_mix: float | None = None
) -> str:
    """Text of a ph.x input for the dynamical matrix at one q-point.

    Parameters
    ----------
    q : three floats
        In units of the reciprocal vectors; written in 2π/alat, Cartesian, alat = |a₁| (ibrav = 0).
    atoms : Atoms
        The crystal as pw.x got it.
    tr2_ph : float
        Threshold of the self-consistency of the response.
    alpha_mix : float, optional
        Mixing of the first iterations; None leaves ph.x's 0.7.

    Returns
    -------
    str
    """
    alat = float(np.linalg.norm(atoms.cell[0]))
    cartesian = np.asarray(q) @ atoms.cell.reciprocal() * alat
    lines = [
        "&INPUTPH",
        f"   prefix           = '{PREFIX}'",
        f"   outdir           = '{SCRATCH}'",
        "   fildyn           = 'dyn'",
        f"   tr2_ph           = {_double(tr2_ph)}",
        *([f"   alpha_mix(1)     = {alpha_mix:g}"] if alpha_mix is not None else []),
        "/",
        " ".join(f"{x + 0.0:.12f}" for x in cartesian),
    ]
    return "\n".join([*lines, ""])


def _double(value: float) -> str:
    """A number of double precision as Fortran reads it."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}d{int(exponent)}"


def comparable(text: str) -> str:
    """An input text without what cannot change a result: where the pseudopotentials are, trailing blanks."""
    text = re.sub(r"(?m)^\s*pseudo_dir\s*=.*\n", "", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def relocated(text: str, pseudo_dir: str = "./pseudo") -> str:
    """An input text that looks for its pseudopotentials in `pseudo_dir`, for publication.

    Parameters
    ----------
    text : str
    pseudo_dir : str

    Returns
    -------
    str
    """
    return re.sub(r"(?m)^(\s*pseudo_dir\s*=\s*).*$", rf"\g<1>'{pseudo_dir}'", text)
