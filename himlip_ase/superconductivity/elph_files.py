"""Electron-phonon files of Quantum ESPRESSO's ph.x: readers that check what they read.

``ph.x`` with ``electron_phonon = 'interpolated'`` writes, for every broadening and every irreducible q,
``elph_dir/a2Fq2r.{50+isigma}.{iq}``: Cartesian, mass-free matrices G(q) over the whole star of q, from which

    λ_qν = z†G(q)z / (2 N(E_F) ω²_qν),   γ_qν = (π/2) z†G(q)z,   z = e_qν/√M,

in Rydberg units, N(E_F) per spin. They contain no mass and no phonon, so that any dynamical matrix goes with
them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import check_text

_NAME = re.compile(r"^a2Fq2r\.(\d+)\.(\d+)(\.gz)?$")
_Q_LINE = re.compile(r"q\s*=\s*\(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)")


def read_text(path: Path) -> str:
    """Text of a plain or gzip-compressed file; InputError if it is missing, empty or a damaged archive."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8", errors="replace")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); copy it again or rerun ph.x") from error
    check_text(text, path, "copy it again, or write it again")
    if not text.strip():
        raise InputError(f"{path} is empty: ph.x was stopped while writing it; rerun ph.x for that q-point")
    return text


@dataclass(frozen=True)
class A2FFile:
    """One ``a2Fq2r`` file: the star of one q at one broadening.

    Attributes
    ----------
    sigma_ry, fermi_energy_ry, dos_per_spin_per_ry : float
        Broadening of the double delta (Ry), Fermi energy (Ry), N(E_F) in states/spin/Ry/cell.
    qpoints : ndarray, shape (nq, 3)
        Cartesian, in 2π/alat.
    matrices : ndarray, shape (nq, 3n, 3n), complex
        G(q) as in the file (Rydberg atomic units).
    """

    sigma_ry: float
    fermi_energy_ry: float
    dos_per_spin_per_ry: float
    qpoints: np.ndarray
    matrices: np.ndarray


def _truncated(path: Path, found: int, wanted: int) -> InputError:
    return InputError(
        f"{path} holds {found} complete matrices of the {wanted} that its header announces: it is truncated; "
        "copy it again, or rerun ph.x for that q-point (start_q, last_q)"
    )


def read_a2fq2r(path: str | Path, n_atoms: int) -> A2FFile:
    """Read one ``a2Fq2r.{50+isigma}.{iq}`` file (plain or gz).

    Parameters
    ----------
    path : path-like
    n_atoms : int
        Atoms in the primitive cell.

    Returns
    -------
    A2FFile

    Raises
    ------
    InputError
        Truncated, of another crystal (number of atoms) or not such a file.
    """
    path = Path(path)
    text = read_text(path)
    lines = text.split("\n")
    try:
        sigma, fermi, dos = (float(word) for word in lines[0].split()[:3])
        count = int(lines[1].split()[0])
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path} does not begin with 'sigma E_F N(E_F)' and a number of matrices; "
            "an a2Fq2r file of ph.x (electron_phonon='interpolated') is wanted"
        ) from error
    header_end = len(lines[0]) + len(lines[1]) + 2
    body = text[header_end:]
    starts = list(_Q_LINE.finditer(body))
    qpoints, matrices = [], []
    per_block = n_atoms * n_atoms * 20  # two integers and eighteen reals for each pair of atoms
    for number, match in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(body)
        words = body[match.end() : end].split("Dynamical")[0].split()
        if len(words) < per_block and number + 1 == len(starts):
            raise _truncated(path, number, count)
        if len(words) != per_block:
            raise InputError(
                f"{path}: block {number + 1} holds {len(words)} numbers, {per_block} are wanted for "
                f"{n_atoms} atoms; the file belongs to another crystal"
            )
        try:
            numbers = np.array(words, dtype=float).reshape(n_atoms, n_atoms, 20)
            qpoints.append([float(word) for word in match.groups()])
        except ValueError as error:
            raise InputError(f"{path}: block {number + 1} is not made of numbers ({error})") from error
        order = numbers[:, :, :2].astype(int)
        expected = np.stack(np.meshgrid(np.arange(n_atoms), np.arange(n_atoms), indexing="ij"), axis=-1) + 1
        if not np.array_equal(order, expected):
            raise InputError(f"{path}: the atom pairs of block {number + 1} are not those of {n_atoms} atoms")
        values = numbers[:, :, 2:].reshape(n_atoms, n_atoms, 3, 3, 2)
        block = values[..., 0] + 1j * values[..., 1]
        matrices.append(block.transpose(0, 2, 1, 3).reshape(3 * n_atoms, 3 * n_atoms))
    if len(matrices) < count:
        raise _truncated(path, len(matrices), count)
    if len(matrices) > count:
        raise InputError(f"{path} announces {count} matrices and holds {len(matrices)}: files were joined")
    if not (np.isfinite(matrices).all() and dos > 0 and sigma > 0):
        raise InputError(f"{path}: sigma {sigma}, N(E_F) {dos} or a matrix is not finite and positive")
    return A2FFile(sigma, fermi, dos, np.array(qpoints), np.array(matrices))


@dataclass(frozen=True)
class LambdaInput:
    """One ``elph.inp_lambda.N`` file: what ph.x itself made of G with its own phonons.

    Attributes
    ----------
    qpoint : ndarray, shape (3,)
        Cartesian, 2π/alat.
    omega2_ry2 : ndarray, shape (modes,)
        Squared frequencies (Ry²); negative for imaginary modes.
    sigma_ry, dos_per_spin_per_ry, fermi_energy_ev : ndarray, shape (nsigma,)
    lambdas, gammas_ghz : ndarray, shape (nsigma, modes)
        As printed (4 and 2 decimals); λ is forced to 0 below 20 cm⁻¹ and negative for imaginary modes.
    """

    qpoint: np.ndarray
    omega2_ry2: np.ndarray
    sigma_ry: np.ndarray
    dos_per_spin_per_ry: np.ndarray
    fermi_energy_ev: np.ndarray
    lambdas: np.ndarray
    gammas_ghz: np.ndarray


def read_elph_inp_lambda(path: str | Path) -> LambdaInput:
    """Read one ``elph.inp_lambda.N`` file; InputError when truncated or not such a file."""
    path = Path(path)
    text = read_text(path)
    number = r"[-+]?\d*\.?\d+(?:[EeDd][-+]?\d+)?"
    try:
        first = text.split("\n", 1)[0].split()
        n_sigma, n_modes = int(first[3]), int(first[4])
        qpoint = np.array(first[:3], dtype=float)
        head = text.split("Gaussian")[0].split("\n", 1)[1]
        omega2 = np.array([float(w.replace("D", "E")) for w in re.findall(number, head)])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not an elph.inp_lambda file of ph.x ({error})") from error
    sigma = np.array(re.findall(rf"Broadening:\s*({number})\s*Ry", text), dtype=float)
    dos = np.array(re.findall(rf"DOS =\s*({number})", text), dtype=float)
    fermi = np.array(re.findall(rf"at Ef=\s*({number})", text), dtype=float)
    rows = re.findall(rf"lambda\(\s*\d+\)=\s*({number}|\*+)\s+gamma=\s*({number}|\*+)\s+GHz", text)
    if len(omega2) != n_modes or len(rows) != n_sigma * n_modes or not len(sigma) == len(dos) == n_sigma:
        raise InputError(
            f"{path} announces {n_sigma} broadenings of {n_modes} modes and holds {len(rows)} lines of λ and "
            f"{len(omega2)} frequencies: it is truncated; rerun ph.x for that q-point"
        )
    values = np.array([[float("nan") if "*" in w else float(w) for w in row] for row in rows])
    values = values.reshape(n_sigma, n_modes, 2)
    return LambdaInput(qpoint, omega2, sigma, dos, fermi, values[..., 0], values[..., 1])


def read_alat(path: str | Path) -> float:
    """Lattice parameter alat (bohr) in the header of a QE dyn file: the unit of the q in a2Fq2r files."""
    path = Path(path)
    lines = read_text(path).split("\n")
    try:
        words = lines[2].split()
        int(words[0]), int(words[1]), int(words[2])
        alat = float(words[3])
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{path} has no 'ntyp nat ibrav celldm' in its third line; a dyn file is wanted"
        ) from error
    if not alat > 0:
        raise InputError(f"{path}: alat = {alat} bohr; a positive number is wanted")
    return alat


def list_a2fq2r(folder: str | Path) -> dict[tuple[int, int], Path]:
    """The a2Fq2r files of a folder (or of its ``elph_dir``) by (broadening, q), both numbered from 1."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give ph.x's elph_dir")
    for place in (folder, folder / "elph_dir"):
        found: dict[tuple[int, int], Path] = {}
        for path in sorted(place.glob("a2Fq2r.*")):
            match = _NAME.match(path.name)
            if match:
                key = (int(match.group(1)) - 50, int(match.group(2)))
                if key in found:
                    raise InputError(f"{found[key]} and {path} are the same file twice; remove one")
                found[key] = path
        if found:
            return found
    raise InputError(
        f"{folder} holds no a2Fq2r.* files{_other_mode(folder)}; run ph.x with "
        "electron_phonon='interpolated' (and la2F=.true. in the dense scf), then give its elph_dir"
    )


def _other_mode(folder: Path) -> str:
    """What another electron_phonon mode of ph.x left in a folder, and why it is of no use here."""
    places = (folder, folder.parent) if folder.name == "elph_dir" else (folder, folder / "elph_dir")
    for place in places:
        modes = [
            path for path in sorted(place.glob("*.elph.*")) if re.search(r"\.elph\.\d+(\.gz)?$", path.name)
        ]
        if modes:
            tetrahedra = "etrahedron" in read_text(modes[0])
            mode = "lambda_tetra" if tetrahedra else "simple"
            return (
                f", but {modes[0].name}, which electron_phonon='{mode}' writes: couplings of ph.x's own "
                "modes without the Cartesian matrices that other phonons and masses need (for λ and Tc of "
                "those modes "
                f"leave --dyn out: himlip tc --elph {place})"
            )
        raw = sorted(place.glob("elph.*.xml"))
        if raw:
            return f", but {raw[0].name}: raw elements g for single k, which are not summed here"
    return ""
