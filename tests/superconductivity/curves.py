"""α²F as other programs write it, of one curve whose λ and Tc are known."""

from __future__ import annotations

import numpy as np
import typer
from typer.testing import CliRunner

from himlip_ase import units
from himlip_ase.cli import tc as command
from himlip_ase.superconductivity import critical_temperature
from himlip_ase.superconductivity.spectrum import spectrum_from_curve
from himlip_ase.superconductivity.tc_entries import Tc

MEV = np.linspace(0.1, 60.0, 600)
CURVE = 0.45 * np.exp(-(((MEV - 22) / 4) ** 2)) + 0.3 * np.exp(-(((MEV - 40) / 5) ** 2))
TO_MEV = {
    "meV": 1.0,
    "THz": 1e3 / units.EV_THZ,
    "cm-1": 1e3 / units.EV_CM,
    "Ry": 1e3 * units.RY_EV,
    "Ha": 1e3 * units.HARTREE_EV,
    "eV": 1e3,
}


def tc_of(alpha2f: np.ndarray) -> tuple[float, float]:
    spectrum = spectrum_from_curve(MEV, alpha2f, "meV")
    entry = critical_temperature(spectrum, 0.1)
    assert isinstance(entry, Tc)
    return spectrum.lambda_total, entry.kelvin


LAMBDA, KELVIN = tc_of(CURVE)


def rows(unit: str, *columns: np.ndarray, form: str = "%16.8E") -> list[str]:
    table = np.column_stack([MEV / TO_MEV[unit], *columns])
    return [" ".join(form % value for value in row) for row in table]


def cumulative(alpha2f: np.ndarray) -> np.ndarray:
    return np.cumsum(2 * alpha2f / MEV) * (MEV[1] - MEV[0])


def matdyn() -> str:
    head = ["", " # Eliashberg function a2F (per both spin)", " #  frequencies in Rydberg  "]
    tail = [f"  lambda =  {LAMBDA:.8f}         Delta =   1.0E-05"]
    return "\n".join([*head, "", *rows("Ry", CURVE, 0.3 * CURVE, 0.1 * CURVE, 0.6 * CURVE), *tail, ""])


def wrapped_matdyn() -> str:
    lines = matdyn().split("\n")
    return "\n".join(
        f"{line[:33]}\n{line[33:]}" if len(line) > 60 and "#" not in line else line for line in lines
    )


def lambda_x(sigmas: tuple[float, ...] = (0.005,), factors: tuple[float, ...] = (1.0,)) -> str:
    head = " # E(THz)" + "".join(f"{sigma:12.4f}" for sigma in sigmas)
    body = rows("THz", *(factor * CURVE for factor in factors), form="%10.6f")
    return "\n".join([head, *body, ""])


def alpha2f_x() -> str:
    return "\n".join([f"{len(MEV):12d}", *rows("Ry", CURVE, 5 * CURVE, 5 * CURVE), ""])


def epw(widths: tuple[float, ...] = (0.5,), announced: int = 10) -> str:
    # recent versions announce 10 smearings and write one
    curves = [CURVE * (1 + 0.001 * i) for i in range(len(widths))]
    sums = [cumulative(curve) for curve in curves]
    tail = [
        " Integrated el-ph coupling",
        "  #         " + "".join(f"{c[-1]:12.7f}" for c in sums),
        " Phonon smearing (meV)",
        "  #         " + "".join(f"{w:12.7f}" for w in widths),
        "Electron smearing (eV)   0.1000000",
        "Fermi window (eV)   0.4000000",
    ]
    head = f" w[meV] a2f and integrated 2*a2f/w for {announced:4d} smearing values"
    return "\n".join([head, *rows("meV", *curves, *sums, form="%11.7f"), *tail, ""])


def abinit(spins: int = 1) -> str:
    head = [
        "#",
        "# ABINIT package : a2f file",
        "#",
        "# a2f function integrated over the FS. omega in a.u.",
        f"#  number of energy points : {len(MEV):8d}",
    ]
    block = ["# The DOS at Fermi level for spin  1 is  0.7", "#", *rows("Ha", CURVE), ""]
    return "\n".join([*head, *(block * spins)])


def elk() -> str:
    return "\n".join([*rows("Ha", CURVE, form="%18.10G"), ""])


def csv(unit: str = "THz") -> str:
    return "\n".join(
        [
            f"omega_{unit},alpha2F",
            *(line.replace(" ", ",").strip(",") for line in rows(unit, CURVE, form="%.8e")),
            "",
        ]
    )


def plain(*changes: tuple[int, str], head: str = "# meV", last: int | None = None) -> str:
    lines = [head, *rows("meV", CURVE, form="%10.5f")][:last]
    for number, text in changes:
        lines[number - 1] = text
    return "\n".join([*lines, ""])


def columns_of(head: str, *factors: float, unit: str = "meV", separator: str = " ") -> str:
    """Columns of α²F times a factor each, below a header."""
    table = [line.split() for line in rows(unit, CURVE)]
    made = [separator.join([w, *(f"{f * float(a):.8f}" for f in factors)]) for w, a in table]
    return "\n".join([head, *made]) + "\n"


def call(*arguments: object):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
