"""The single calculations of the k-convergence study, by name; see `benchmarks.labels.k_convergence`.

A calculation is named CRYSTAL-QUANTITY-SMEARING-kN, e.g. ``h3s-frozen_third-mp0.02-k18``; with an s behind N
the mesh is shifted by half a step, away from Γ. Quantities:

- frequencies of ph.x at a q-point, all (``gamma``, ``third``, …) or of some irreducible representations,
  which have to be all of one type (``third_irr1to3``);
- one of them by frozen phonons of pw.x (``frozen_third``);
- the energy of a frame of the double well (``well0``, …), the forces of a disordered cell (``force4_0``:
  frame 0 of labels/quantum4);
- the bands on the mesh (``bands``).
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read

from himlip_ase.dft.espresso.inputs import PREFIX, SCRATCH, QESettings, pw_input
from himlip_ase.dft.espresso.k_grids import k_grid_like
from himlip_ase.dft.espresso.ph_files import check_dyn, check_ph_output, ph_core_seconds
from himlip_ase.dft.espresso.runner import Launcher, run_program, run_pw
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.espresso_ends import seconds
from himlip_ase.phonons.force_constants import mass_reduced
from himlip_ase.phonons.qe_text import read_dyn_file
from himlip_ase.units import RY_PER_BOHR2_EV_PER_ANGSTROM2, signed_frequencies_cm

FROZEN = Path(__file__).parent / "frozen"
EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = EXAMPLES / "h3s" / "labels_k12"
NAME = re.compile(
    r"(?P<crystal>\w+)-(?P<quantity>\w+)-(?P<smearing>mp|mv|gauss|fd)(?P<width>[\d.]+)-k(?P<k>\d+)(?P<shifted>s?)(-e(?P<cutoff>\d+))?"
)
log = logging.getLogger(__name__)


def labelled(name: str) -> Atoms:
    """The relaxed cell of the labels of a crystal: H3S Im-3m at 150 GPa, CaH6 Im-3m at 172 GPa."""
    atoms = read(EXAMPLES / name / "labels" / "crystal.extxyz")
    assert isinstance(atoms, Atoms)
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def pdh() -> Atoms:
    """Fm-3m, 0 GPa."""
    return bulk("PdH", "rocksalt", a=4.09)


CRYSTALS: dict[str, Callable[[], Atoms]] = {
    "h3s": partial(labelled, "h3s"),
    "pdh": pdh,
    "cah6": partial(labelled, "cah6"),
}
CUTOFF_RY = 60.0
QPOINTS = {
    "gamma": (0.0, 0.0, 0.0),
    "third": (0.0, 1 / 3, 1 / 3),
    "third_of_b1": (1 / 3, 0.0, 0.0),
    "half": (0.0, 0.0, 0.5),
    "corner": (0.5, 0.5, 0.5),
    "sixth_of_b1": (1 / 6, 0.0, 0.0),
    "general": (1 / 6, 1 / 3, 0.0),
}
"""In units of the reciprocal vectors. Of H3S ``third`` is on a threefold axis."""


@dataclass(frozen=True)
class Calculation:
    """One number (or vector of numbers) of the study."""

    crystal: str
    quantity: str
    smearing: str
    width_ry: float
    k: int
    cutoff_ry: float = CUTOFF_RY
    shifted: bool = False

    @classmethod
    def named(cls, name: str) -> Calculation:
        """The calculation of a name such as ``h3s-third-mp0.02-k18``."""
        match = NAME.fullmatch(name)
        if match is None or match["crystal"] not in CRYSTALS:
            raise InputError(f"'{name}' names no calculation; write CRYSTAL-QUANTITY-SMEARING-kN")
        return cls(
            match["crystal"],
            match["quantity"],
            match["smearing"],
            float(match["width"]),
            int(match["k"]),
            float(match["cutoff"] or CUTOFF_RY),
            bool(match["shifted"]),
        )

    @property
    def name(self) -> str:
        """CRYSTAL-QUANTITY-SMEARING-kN."""
        return f"{self.crystal}-{self.quantity}-{self.electrons}"

    @property
    def electrons(self) -> str:
        """Smearing, mesh and, where it is not the usual one, cutoff."""
        cutoff = "" if self.cutoff_ry == CUTOFF_RY else f"-e{self.cutoff_ry:g}"
        return f"{self.smearing}{self.width_ry:g}-k{self.k}{'s' * self.shifted}{cutoff}"

    @property
    def settings(self) -> QESettings:
        """Cutoff, smearing and k-grid of the primitive cell."""
        return QESettings(
            ecutwfc_ry=self.cutoff_ry,
            k_grid=(self.k,) * 3,
            smearing=self.smearing,
            degauss_ry=self.width_ry,
            pseudopotentials={
                e: f"{e}_ONCV_PBE_sr.upf" for e in CRYSTALS[self.crystal]().get_chemical_symbols()
            },
        )

    def run(self, scratch: Path, launcher: Launcher) -> dict[str, Any]:
        """Calculate; {quantity of the result: numbers, "core_seconds": …}."""
        if self.quantity.partition("_irr")[0] in QPOINTS:
            return self._frequencies(scratch, launcher)
        if self.quantity == "bands":
            return self._bands(scratch, launcher)
        return self._single_point(scratch, launcher)

    def _bands(self, scratch: Path, launcher: Launcher) -> dict[str, Any]:
        """Band energies on a dense mesh at the density of 12×12×12 k, as ``results/NAME.npz``."""
        atoms, folder = CRYSTALS[self.crystal](), scratch / self.name
        scf_settings = self.settings.with_k_grid((12, 12, 12))
        shutil.rmtree(folder, ignore_errors=True)
        scf = run_pw(folder, pw_input(atoms, scf_settings), launcher, stem="scf", delete_scratch=False)
        quiet = {"control": {"disk_io": "none", "verbosity": "high", "tstress": False, "tprnfor": False}}
        text = pw_input(atoms, self.settings, calculation="nscf", overrides=quiet)
        (folder / "nscf.in").write_text(text)
        run_program(launcher.command(launcher.pw, "nscf.in"), folder, "nscf.out", launcher.threads)
        shutil.rmtree(folder / SCRATCH)
        output = (folder / "nscf.out").read_text()
        if "JOB DONE" not in output:
            raise CalculationError(f"{folder / 'nscf.out'}: the run was cut short")
        kpoints, energies = read_bands(output, atoms)
        np.savez_compressed(scratch / "results" / f"{self.name}.npz", kpoints=kpoints, energies_ev=energies)
        times = re.findall(r"PWSCF\s+:\s+(.+?)\s*CPU", output)
        return {"core_seconds": scf.core_seconds + seconds(times[-1]), "k_points": len(kpoints)}

    def _frequencies(self, scratch: Path, launcher: Launcher) -> dict[str, Any]:
        """ph.x at one q-point; only some irreducible representations if the quantity says so."""
        point, _, block = self.quantity.partition("_irr")
        atoms = CRYSTALS[self.crystal]()
        folder = scratch / f"{self.crystal}-{self.electrons}"
        have_density = (folder / SCRATCH / f"{PREFIX}.save" / "charge-density.dat").is_file()
        scf = run_pw(
            folder,
            pw_input(atoms, self.settings, k_shift=self.shifted),
            launcher,
            delete_scratch=False,
            fresh_scratch=not have_density,
            reuse=have_density,
        )
        stem = f"ph-{self.quantity}"
        shutil.rmtree(folder / SCRATCH / "_ph0", ignore_errors=True)
        alat = float(np.linalg.norm(atoms.cell[0]))
        q = np.array(QPOINTS[point]) @ atoms.cell.reciprocal() * alat
        text = "\n".join(
            [
                "&INPUTPH",
                f"   prefix = '{PREFIX}', outdir = '{SCRATCH}', fildyn = 'dyn-{self.quantity}'",
                "   tr2_ph = 1.0d-14",
                *(["   start_irr = {}, last_irr = {}".format(*block.split("to"))] if block else []),
                "/",
                " ".join(f"{x:.12f}" for x in q),
                "",
            ]
        )
        (folder / f"{stem}.in").write_text(text)
        run_program(launcher.command(launcher.ph, f"{stem}.in"), folder, f"{stem}.out", launcher.threads)
        saved = folder / f"phsave-{self.quantity}"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(folder / SCRATCH / "_ph0" / f"{PREFIX}.phsave", saved)
        shutil.rmtree(folder / SCRATCH / "_ph0", ignore_errors=True)
        output = (folder / f"{stem}.out").read_text(errors="replace")
        check_ph_output(output, str(folder / f"{stem}.out"))
        if block:
            first, last = (int(number) for number in block.split("to"))
            values = squared_frequencies(saved, range(first, last + 1), atoms.get_masses())
        else:
            check_dyn(folder / f"dyn-{self.quantity}", atoms)
            dyn = read_dyn_file(folder / f"dyn-{self.quantity}")
            values = np.linalg.eigvalsh(mass_reduced(dyn.matrices[0], dyn.header.atoms.get_masses()))
        points = re.search(r"number of k points=\s*(\d+)", output)
        return {
            "frequencies_cm": np.round(signed_frequencies_cm(values), 3).tolist(),
            "energy_ev": scf.energy,
            "pressure_gpa": scf.pressure_gpa,
            "scf_core_seconds": scf.core_seconds,
            "core_seconds": _seconds_of(folder, stem),
            "k_points": int(points[1]) if points else 0,
        }

    def _single_point(self, scratch: Path, launcher: Launcher) -> dict[str, Any]:
        """pw.x; a structure's first run leaves its density for the others to start from."""
        primitive = CRYSTALS[self.crystal]()
        atoms, conv_thr = self._frame()
        if "k_divisors" in atoms.info:
            grid = self.settings.k_grid // np.asarray(atoms.info["k_divisors"])
        else:
            grid = k_grid_like(primitive, self.settings.k_grid, atoms)
        settings = self.settings.with_k_grid(grid)
        disordered = self.quantity.startswith("force")
        electrons: dict[str, Any] = {"conv_thr": conv_thr}
        folder = scratch / self.name
        shutil.rmtree(folder, ignore_errors=True)
        density = scratch / "density" / f"{self.crystal}-{self.quantity}-e{self.cutoff_ry:g}"
        if density.is_dir():
            electrons["startingpot"] = "file"
            shutil.copytree(density, folder / SCRATCH / f"{PREFIX}.save")
        text = pw_input(atoms, settings, nosym=disordered, overrides={"electrons": electrons})
        output = run_pw(folder, text, launcher, fresh_scratch=False, delete_scratch=False)
        if not density.is_dir():
            saved = folder / SCRATCH / f"{PREFIX}.save"
            shutil.copytree(saved, density, ignore=shutil.ignore_patterns("wfc*", "*.upf", "*.UPF"))
        shutil.rmtree(folder / SCRATCH)
        assert output.forces is not None
        return {
            "energy_ev": output.energy,
            "forces_ev_per_angstrom": np.round(output.forces, 6).tolist(),
            "symbols": list(output.symbols),
            "k_points": output.n_kpoints,
            "core_seconds": output.core_seconds,
        }

    def _frame(self) -> tuple[Atoms, float]:
        """Structure and scf threshold (Ry) of ``well3``, ``force8_0`` or ``frozen_third``."""
        if self.quantity.startswith("frozen"):
            return read(FROZEN / f"{self.crystal}_{self.quantity}.extxyz"), 1e-11  # type: ignore[return-value]
        if match := re.fullmatch(r"well(\d)", self.quantity):
            return read(LABELS / "doublewell.extxyz", index=int(match[1])), 1e-10  # type: ignore[return-value]
        if match := re.fullmatch(r"force(\d+)_(\d)", self.quantity):
            return read(LABELS / f"quantum{match[1]}.extxyz", index=int(match[2])), 1e-8  # type: ignore[return-value]
        raise InputError(
            f"'{self.quantity}' is no quantity; there are {', '.join(QPOINTS)}, frozen_…, wellN, forceN_M"
        )


def read_bands(output: str, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """k-points (fractional) and band energies (eV) that pw.x printed with verbosity = 'high'."""
    alat = float(np.linalg.norm(atoms.cell[0]))
    kpoints, energies = [], []
    text = output[output.index("End of band structure calculation") :]
    for match in re.finditer(
        r"k =((?: *-?\d+\.\d+){3}) \(.*?bands \(ev\):\s*\n\s*\n((?:(?: *-?\d+\.\d+)+\n)+)", text
    ):
        numbers = re.findall(r"-?\d+\.\d{4}", match[1])
        kpoints.append([float(x) for x in numbers])
        energies.append([float(x) for x in re.findall(r"-?\d+\.\d{4}", match[2])])
    return np.array(kpoints) / alat @ atoms.cell.array.T, np.array(energies)


def frozen_phonon(
    atoms: Atoms, q: np.ndarray, supercell: np.ndarray, mode: np.ndarray, amplitude: float
) -> Atoms:
    """A supercell with one standing wave u_a(R) = Re(w_a exp 2πi q·R), for frozen phonons.

    Parameters
    ----------
    q : (3,) ndarray
        In units of the reciprocal vectors; commensurate with `supercell`.
    supercell : (3, 3) integer ndarray
        Its vectors in units of those of `atoms`.
    mode : (n, 3) complex ndarray
        Displacements w_a = e_a/√m_a; they get the phase that makes the wave even about the origin: where
        every atom is a centre of inversion the odd orders of the energy then vanish.
    amplitude : float
        Å; largest displacement of an atom.
    """
    from ase.build import make_supercell

    phases = np.exp(-2j * np.pi * atoms.get_scaled_positions(wrap=False) @ q)
    even = mode * phases[:, None]
    even = even * np.exp(-1j * np.angle(even.flat[np.abs(even).argmax()]))
    if np.abs(even.imag).max() > 1e-3 * np.abs(even).max():
        raise InputError("the wave is even about no phase: not every atom is a centre of inversion")
    wave = even.real / phases[:, None]
    result = make_supercell(atoms, supercell)
    owners = np.tile(np.arange(len(atoms)), len(result) // len(atoms))
    cells = np.rint((result.positions - atoms.positions[owners]) @ np.linalg.inv(atoms.cell.array))
    moved = (wave[owners] * np.exp(2j * np.pi * cells @ q)[:, None]).real
    result.positions += amplitude / np.linalg.norm(moved, axis=1).max() * moved
    result.arrays["displacements"] = amplitude / np.linalg.norm(moved, axis=1).max() * moved
    return result


def squared_frequencies(phsave: Path, irreps: Sequence[int], masses: np.ndarray) -> np.ndarray:
    """Eigenvalues (eV/Å²/amu) of the part of D(q) that some irreducible representations span.

    `irreps` have to be all those of one symmetry type: the displacement patterns of one type mix among
    themselves only. Row i of the matrix in the basis of patterns comes with the representation of pattern i
    (dynmat.1.IRR.xml), the part without electronic response with number 0.
    """
    patterns = ElementTree.parse(phsave / "patterns.1.xml").getroot()
    columns: list[np.ndarray] = []
    places: list[int] = []
    for irrep in range(1, int(patterns.findtext(".//NUMBER_IRR_REP", "0")) + 1):
        for pattern in patterns.findall(f".//REPRESENTION.{irrep}//DISPLACEMENT_PATTERN"):
            if irrep in irreps:
                places.append(len(columns))
            columns.append(_complex(pattern))
    size = len(columns)
    matrix = np.zeros((size, size), dtype=complex)
    for irrep in (0, *irreps):
        tree = ElementTree.parse(phsave / f"dynmat.1.{irrep}.xml")
        if tree.findtext(".//DONE_IRR", "").strip() != "true":
            raise CalculationError(f"{phsave}: representation {irrep} is not finished")
        part = tree.find(".//PARTIAL_DYN")
        assert part is not None
        matrix += _complex(part).reshape(size, size).T
    block = matrix[np.ix_(places, places)]
    basis = np.array(columns).T[:, places]
    full = basis @ block @ basis.conj().T * RY_PER_BOHR2_EV_PER_ANGSTROM2
    values, vectors = np.linalg.eigh(mass_reduced(full, masses))
    inside = (np.abs(basis.conj().T @ vectors) ** 2).sum(axis=0) > 0.5
    return values[inside]


def _complex(element: ElementTree.Element) -> np.ndarray:
    numbers = np.array([float(word) for word in (element.text or "").replace(",", " ").split()])
    return numbers[::2] + 1j * numbers[1::2]


def _seconds_of(folder: Path, stem: str) -> float:
    """CPU seconds of one ph.x output."""
    own = folder / "time"
    own.mkdir(exist_ok=True)
    shutil.copyfile(folder / f"{stem}.out", own / "ph.out")
    return ph_core_seconds(own)
