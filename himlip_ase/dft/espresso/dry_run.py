"""What pw.x will do with an input, asked of pw.x itself: symmetry, k-points, bands and memory in a second.

pw.x stops after its initialisation where it finds a file ``<prefix>.EXIT`` at the start (`run_pwscf.f90`),
with exit status 255 and everything that it decided already printed.  ``nstep=0`` does not serve: version 6.7
ignores it in an scf calculation and runs that to its end.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from himlip_ase.dft.espresso.inputs import PREFIX, QESettings, pw_input
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.errors import CalculationError
from himlip_ase.labels.espresso_ends import program_error

LIMIT_SECONDS = 300.0
"""A dry run that takes longer hangs, for instance in an MPI that cannot start."""


@dataclass(frozen=True)
class DryRun:
    """What pw.x decided before its first scf step.

    Attributes
    ----------
    operations : int
        Symmetry operations that it uses.
    ignored_operations : int
        Found, but left out because their fractional translations do not fit the FFT grid.
    k_points : int
        Irreducible k-points.
    bands : int
    plane_waves : int
        Largest number of plane waves at one k-point.
    g_vectors, fft_points : int
        Of the dense grid.
    ram_mb : float
        Its own estimate of a process's memory, MB.
    """

    operations: int
    ignored_operations: int
    k_points: int
    bands: int
    plane_waves: int
    g_vectors: int
    fft_points: int
    ram_mb: float


def dry_run(
    atoms: Atoms, settings: QESettings, launcher: Launcher | None = None, nosym: bool = False
) -> DryRun:
    """Ask pw.x what it would do; nothing is computed, and nothing is left behind.

    Parameters
    ----------
    atoms : Atoms
        Periodic.
    settings : QESettings
        `settings.k_grid` is used as it is.
    launcher : Launcher, optional
        Only its executable and threads are used: one process, without `prefix`, so that a dry run works on
        the login node of a cluster too.
    nosym : bool
        As `himlip_ase.dft.espresso.inputs.pw_input`.

    Returns
    -------
    DryRun

    Raises
    ------
    InputError
        A structure, pseudopotential or executable that is not there.
    CalculationError
        pw.x refuses the input, in its own words.
    """
    launcher = launcher or Launcher()
    text = pw_input(atoms, settings, nosym=nosym)
    command = Launcher(threads=launcher.threads, pw=launcher.pw).command(launcher.pw, "pw.in")
    with tempfile.TemporaryDirectory(prefix="himlip-dry-run-") as name:
        folder = Path(name)
        (folder / "pw.in").write_text(text, encoding="utf-8")
        (folder / "out").mkdir()
        # In the working folder for versions up to 6, in outdir for later ones.
        for place in (folder, folder / "out"):
            (place / f"{PREFIX}.EXIT").touch()
        output = folder / "pw.out"
        with open(output, "wb") as stream:
            try:
                subprocess.run(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise CalculationError(
                    f"a dry run of {launcher.pw} did not end within {LIMIT_SECONDS:.0f} s; try it by hand"
                ) from error
        return read_dry_run(output.read_text(encoding="utf-8", errors="replace"))


def read_dry_run(text: str) -> DryRun:
    """What the head of a pw.x output says.

    Parameters
    ----------
    text : str
        Output of pw.x, up to its first scf step at least.

    Returns
    -------
    DryRun

    Raises
    ------
    CalculationError
        A line is missing: pw.x stopped earlier; its own message is given where there is one.
    """

    def number(pattern: str, what: str) -> float:
        found = re.search(pattern, text)
        if found is None:
            reason = program_error(text) or "its output ends early"
            raise CalculationError(f"a dry run of pw.x gave no {what}: {reason}")
        return float(found.group(1))

    if re.search(r"No symmetry found|No symmetry! ", text):
        operations = 1.0
    else:
        operations = number(r"\n\s*(\d+) Sym\. ?Ops\.", "symmetry operations")
    ignored = re.search(r"(\d+) additional sym\.ops\. were found but ignored", text)
    # "Max" stands in the table of parallel runs, "Sum" in that of one process; both end with smooth PW.
    waves = re.search(r"\n\s*(?:Max|Sum)(?:\s+\d+){5}\s+(\d+)", text)
    fft = re.search(r"Dense\s+grid:.*FFT dimensions:\s*\(\s*(\d+),\s*(\d+),\s*(\d+)\)", text)
    k_points = int(number(r"number of k points=\s*(\d+)", "number of k-points"))
    unit = {"MB": 1.0, "GB": 1024.0}
    ram = re.search(r"Estimated max dynamical RAM per process >\s*([\d.]+) (MB|GB)", text)
    if ram is None:
        raise CalculationError(
            f"a dry run of pw.x gave no memory: {program_error(text) or 'its output ends early'}"
        )
    return DryRun(
        operations=int(operations),
        ignored_operations=int(ignored.group(1)) if ignored else 0,
        k_points=k_points,
        bands=int(number(r"number of Kohn-Sham states=\s*(\d+)", "number of bands")),
        plane_waves=int(waves.group(1)) if waves else 0,
        g_vectors=int(number(r"Dense\s+grid:\s*(\d+) G-vectors", "number of G-vectors")),
        fft_points=math.prod(int(size) for size in fft.groups()) if fft else 0,
        ram_mb=float(ram.group(1)) * unit[ram.group(2)],
    )
