"""Readers of QE's post-processing: a2Fmatdyn, a2F.dos, and the λ of matdyn.x and lambda.x."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.elph_files import read_text


@dataclass(frozen=True)
class A2FMatdyn:
    """``a2Fmatdyn.{60+isigma}`` of q2r.x: G in real space.

    Attributes
    ----------
    sigma_ry, fermi_energy_ry, dos_per_spin_per_ry : float
    dims : tuple of 3 int
    matrices : ndarray, shape (n1, n2, n3, 3n, 3n)
        G between (row) an atom in cell (m1, m2, m3) and (column) an atom in cell 0, Rydberg atomic units.
    """

    sigma_ry: float
    fermi_energy_ry: float
    dos_per_spin_per_ry: float
    dims: tuple[int, int, int]
    matrices: np.ndarray


def read_a2fmatdyn(path: str | Path, n_atoms: int) -> A2FMatdyn:
    """Read an ``a2Fmatdyn`` file (plain or gz); InputError when truncated or of another number of atoms.

    Parameters
    ----------
    path : path-like
    n_atoms : int
        Atoms of the primitive cell.

    Returns
    -------
    A2FMatdyn
    """
    path = Path(path)
    words = read_text(path).replace("D", "E").split()
    try:
        sigma, fermi, dos = (float(w) for w in words[:3])
        n1, n2, n3 = (int(w) for w in words[3:6])
        body = words[6:]
        per_block = 4 + 4 * n1 * n2 * n3
        wanted = 9 * n_atoms**2 * per_block
        if len(body) != wanted:
            raise InputError(
                f"{path} holds {len(body)} numbers after its header, {wanted} are wanted for {n_atoms} "
                "atoms on "
                f"{n1}×{n2}×{n3} cells: it is truncated or of another crystal"
            )
        table = np.array(body, dtype=float).reshape(-1, per_block)
    except (ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not an a2Fmatdyn file of q2r.x ({error})") from error
    matrices = np.zeros((n1, n2, n3, 3 * n_atoms, 3 * n_atoms))
    for row in table:
        i, j, a, b = row[:4].astype(int) - 1
        entries = row[4:].reshape(-1, 4)
        m1, m2, m3 = (entries[:, :3].astype(int) - 1).T
        matrices[m1, m2, m3, 3 * a + i, 3 * b + j] = entries[:, 3]
    return A2FMatdyn(sigma, fermi, dos, (n1, n2, n3), matrices)


@dataclass(frozen=True)
class A2FDos:
    """``a2F.dosN`` of matdyn.x.

    Attributes
    ----------
    omega_ry, total : ndarray, shape (n,)
    modes : ndarray, shape (n, 3n)
        α²F of each branch.
    lambda_total : float or None
        The λ in the file's last line (tetrahedron integral).
    """

    omega_ry: np.ndarray
    total: np.ndarray
    modes: np.ndarray
    lambda_total: float | None


def read_a2f_dos(path: str | Path) -> A2FDos:
    """Read ``a2F.dosN`` of matdyn.x (lines wrapped in QE ≤ 6.0, long in later versions)."""
    path = Path(path)
    text = read_text(path)
    found = re.search(r"lambda\s*=\s*(\S+)", text)
    rows: list[list[float]] = []
    try:
        lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
        numbers = [[float(w) for w in line.split()] for line in lines if "lambda" not in line]
    except ValueError as error:
        raise InputError(f"{path} is not an a2F.dos file of matdyn.x ({error})") from error
    wrapped = any(
        len(line) == 2 for line in numbers
    )  # ω and the total alone: the modes follow on other lines
    for line in numbers:
        if not wrapped or len(line) == 2 or not rows:
            rows.append(list(line))
        else:
            rows[-1].extend(line)
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 3:
        raise InputError(
            f"{path}: rows of unequal length; the file is truncated or no a2F.dos file of matdyn.x"
        )
    table = np.array(rows)
    value = float(found.group(1)) if found else None
    return A2FDos(table[:, 0], table[:, 1], table[:, 2:], value)


@dataclass(frozen=True)
class LambdaTable:
    """λ, ω_log (K) and N(E_F) (states/spin/Ry) for each broadening (Ry); nan where not printed."""

    sigma_ry: np.ndarray
    lambdas: np.ndarray
    omega_log_k: np.ndarray
    dos_per_spin_per_ry: np.ndarray


def read_lambda_table(path: str | Path) -> LambdaTable:
    """Read the ``lambda`` file of matdyn.x, or the output or ``lambda.dat`` of lambda.x.

    Raises
    ------
    InputError
        None of the three.
    """
    path = Path(path)
    text = read_text(path)
    number = r"([-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?|NaN|\*+)"

    def value(word: str) -> float:
        return float("nan") if "*" in word else float(word)

    matdyn = re.findall(rf"Broadening\s+{number}\s+lambda\s+{number}\s+dos\(Ef\)\s+{number}", text)
    if matdyn:
        table = np.array([[value(w) for w in row] for row in matdyn])
        logs = [value(w) for w in re.findall(rf"omega_ln\s*\[K\]\s+{number}", text)]
        omega = np.array(logs) if len(logs) == len(table) else np.full(len(table), np.nan)
        return LambdaTable(table[:, 0], table[:, 1], omega, table[:, 2])
    printed = re.findall(
        rf"lambda =\s*{number} \(\s*{number} \)\s*<log w>=\s*{number}\s*K\s*"
        rf"N\(Ef\)=\s*{number} at degauss=\s*{number}",
        text,
    )
    if printed:
        table = np.array([[value(w) for w in row] for row in printed])
        return LambdaTable(table[:, 4], table[:, 0], table[:, 2], table[:, 3])
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and "degauss" in lines[0] and len(lines) > 1:
        table = np.array([[value(w) for w in line.split()[:5]] for line in lines[1:]])
        return LambdaTable(table[:, 0], table[:, 1], table[:, 3], table[:, 4])
    raise InputError(
        f"{path} is neither a 'lambda' file of matdyn.x nor the output or lambda.dat of lambda.x"
    )
