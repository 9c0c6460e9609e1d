"""Spectra, electronic density of states, electron-phonon files, results of Tc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .kind import Kind, Named, copied_labels


def _elph(named: Named, folder: Path) -> Any:
    read = named("superconductivity.elph_matrices.read_elph")
    dm = named("phonons.qe.read_dyn")(folder / "dyn")
    return read(folder / "elph_dir", dm.primitive)


def _curve(folder: Path) -> None:
    omega = np.linspace(0, 60, 121)
    alpha2f = np.exp(-(((omega - 30) / 8) ** 2)) * (omega / 30) ** 2 * (1 - omega / 60)
    lines = ["# E(THz)  alpha2F"] + [f"{w:12.6f} {a:14.8f}" for w, a in zip(omega, alpha2f, strict=True)]
    (folder / "alpha2F.dat").write_text("\n".join(lines) + "\n")


def _tc_results(folder: Path) -> None:
    from himlip_ase.superconductivity import Spectrum, TcOptions, analyse_curve, write_results

    spectrum = Spectrum(np.array([0.02, 0.05]), np.array([0.4, 0.6]))
    write_results(folder / "tc.json", [analyse_curve("curve", spectrum, TcOptions((0.1,), gap=True))])


def _printed_modes(folder: Path) -> None:
    from tests.superconductivity.test_printed_modes import write_run

    write_run(folder, "tetra")


def _dos(folder: Path) -> None:
    energy = np.linspace(-10, 10, 201)
    dos = 1 + 0.1 * np.cos(energy)
    rows = [
        f"{e:8.3f} {d:11.4E} {i:11.4E}" for e, d, i in zip(energy, dos, np.cumsum(dos) * 0.1, strict=True)
    ]
    (folder / "dos.dat").write_text(
        "#  E (eV)   dos(E)     Int dos(E) EFermi =    1.000 eV\n" + "\n".join(rows) + "\n"
    )


KINDS = (
    Kind(
        "α²F curve",
        _curve,
        ("alpha2F.dat",),
        lambda n, d: n("superconductivity.curve_files.read_alpha2f")(d / "alpha2F.dat", "THz"),
    ),
    Kind(
        "λ of ph.x's own modes",
        _printed_modes,
        ("al.dyn*",),
        lambda n, d: [
            (s.energies_ev, s.lambdas)
            for s in n("superconductivity.printed_modes.read_printed_modes")(d).spectra
        ],
    ),
    Kind(
        "Tc results",
        _tc_results,
        ("tc.json",),
        lambda n, d: [
            item.to_record() for item in n("superconductivity.output_files.read_results")(d / "tc.json")[0]
        ],
    ),
    Kind(
        "electronic DOS",
        _dos,
        ("dos.dat",),
        lambda n, d: n("superconductivity.electronic_dos.read_electronic_dos")(d / "dos.dat"),
    ),
    Kind(
        "electron-phonon files", copied_labels("harmonic/dyn*", "harmonic/elph_dir/*"), ("elph_dir/*",), _elph
    ),
)
