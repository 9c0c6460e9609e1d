"""What an energy-dependent N(ε) does to the Tc of H3S, whose van Hove peak lies below the Fermi level.

    python -m benchmarks.superconductivity.fermi_peak --run runs/h3s      # after `make h3s`

The bands of the dense scf (24×24×24 k) are interpolated linearly onto a mesh four times as dense along each
vector, so that N(ε) keeps its peak, which the broadening of G(q), 0.41 eV, would wash out. Migdal–Eliashberg
is solved with constant N and with N(ε) for E_F where it is and for E_F moved onto the peak; α²F is rescaled
to N(E_F) of each. Phonons: free-energy Hessian of the SSCHA on 4×4×4.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.labels.bare_susceptibility import on_whole_mesh
from benchmarks.labels.k_calculations import CRYSTALS
from benchmarks.labels.k_convergence import ELECTRONS, labels_bands
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.tc_entries import Tc

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fermi_peak"
LABELS = ROOT / "examples" / "h3s" / "labels" / "harmonic444"
STEP_EV = 0.01
DENSER = 4


@dataclass(frozen=True)
class Row:
    """One Fermi level: where it is against that of the crystal (eV), N there (states/eV), λ, both Tc (K)."""

    broadening_ev: float
    shift_ev: float
    density: float
    coupling: float
    constant: float
    with_dos: float


def denser(energies: np.ndarray, times: int = DENSER) -> np.ndarray:
    """Energies of one band (n, n, n) on a mesh `times` as dense, linear between neighbours."""
    for axis in range(3):
        count = energies.shape[axis]
        steps = np.arange(count * times) / times
        below = steps.astype(int)
        weight = (steps - below).reshape([-1 if a == axis else 1 for a in range(3)])
        low, high = (np.take(energies, (below + i) % count, axis) for i in (0, 1))
        energies = low * (1 - weight) + high * weight
    return energies


def density_of_states(broadening_ev: float) -> ElectronicDos:
    """N(ε) of H3S, states/eV of both spins, Gaussians exp(−(Δ/b)²) on the denser mesh."""
    mesh, kpoints, energies = labels_bands()
    whole = on_whole_mesh(kpoints, energies, mesh, CRYSTALS["h3s"]())
    edges = np.arange(whole.min() - 3, whole[..., -1].min(), STEP_EV)
    counts = np.zeros(len(edges) - 1)
    for band in range(whole.shape[-1]):
        values = denser(whole[..., band]).ravel()
        counts += 2 * np.histogram(values, bins=edges)[0] / len(values)
    centres = edges[:-1] + STEP_EV / 2
    fermi = centres[np.searchsorted(np.cumsum(counts), ELECTRONS["h3s"])]
    reach = np.arange(-4 * broadening_ev, 4 * broadening_ev + STEP_EV / 2, STEP_EV)
    kernel = np.exp(-((reach / broadening_ev) ** 2))
    density = np.convolve(counts / STEP_EV, kernel / kernel.sum(), "same")
    inside = slice(len(reach), -len(reach))
    return ElectronicDos((centres - fermi)[inside], density[inside])


def rows(run: Path) -> list[Row]:
    """Tc for a few places of the Fermi level, and for three broadenings where it is."""
    harmonic = read_dyn(LABELS / "dyn")
    elph = read_elph(LABELS, harmonic.primitive)
    phonons = read_dyn(run / "state" / "sscha" / "grid_4x4x4" / "hessian.dyn")
    found = []
    for broadening, shift in (
        *((width, 0.0) for width in (0.03, 0.1, 0.41)),
        *((0.1, shift) for shift in (0.1, -0.1, -0.2, -0.27)),
    ):
        dos = density_of_states(broadening)
        dos = ElectronicDos(dos.energies_ev - shift, dos.values)
        density = float(np.interp(0.0, dos.energies_ev, dos.values))
        options = TcOptions((0.13,), methods=("eliashberg",), sigma_ry=0.03, fermi_dos=density)
        result = analyse("H3S", elph, phonons, harmonic, options, dos=dos)
        (entry,), full = result.table.results, result.full_bandwidth[0.13]
        assert isinstance(entry, Tc) and isinstance(full, float)
        found.append(Row(broadening, shift, density, result.table.lambda_total, entry.kelvin, full))
    return found


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "h3s", help="folder of `make h3s`")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    table = rows(arguments.run)
    write_json(arguments.out.with_suffix(".json"), [asdict(row) for row in table], overwrite=True)
    head = "| broadening of N(ε) (eV) | E_F moved by (eV) | N(E_F) (states/eV) | λ | Tc, constant N (K) "
    head += "| Tc with N(ε) (K) |\n|---|---|---|---|---|---|\n"
    lines = "".join(
        f"| {r.broadening_ev:g} | {r.shift_ev:g} | {r.density:.3f} | {r.coupling:.2f} | {r.constant:.1f} "
        f"| {r.with_dos:.1f} |\n"
        for r in table
    )
    words = "# N(ε) and the Tc of H3S\n\nMigdal–Eliashberg, μ* = 0.13, σ of G(q) 0.03 Ry; α²F rescaled to "
    words += "N(E_F) of the row.\n\n"
    with atomic_write(arguments.out.with_suffix(".md"), overwrite=True) as stream:
        stream.write(words + head + lines)
    print(head + lines, end="")


if __name__ == "__main__":
    main()
