"""What a DFT engine is: single points, relaxation, harmonic matrices, and reading its own folders.

An engine is a frozen dataclass of its settings with the methods of `Engine`. It enters the run file, the
command line and the documentation by one line in `himlip_ase.dft.engines`. What is the same for every engine
lies above it: the set of single points (`himlip_ase.dft.single_points`), the executors
(`himlip_ase.dft.executors`) and the folder of labels (`himlip_ase.dft.label_folder`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ase import Atoms

from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.finished_runs import FinishedRun, RelaxResult
from himlip_ase.dft.jobs import Job, Task
from himlip_ase.dft.setting_names import RUN_FILE, SettingNames
from himlip_ase.dft.standing import Listener


@dataclass(frozen=True)
class Abilities:
    """What an engine can do beyond energies and forces.

    Attributes
    ----------
    electron_phonon : bool
        Electron-phonon matrices G(q), without which there is no Tc.
    k_points : bool
        Whether the density of k-points is the engine's setting (and not the calculator's own).
    programs : bool
        Whether a single point starts a program of its own and only waits for it, so that threads suffice.
    """

    electron_phonon: bool
    k_points: bool
    programs: bool


class Engine(Protocol):
    """A way to calculate energies and their derivatives from first principles.

    Attributes
    ----------
    name, summary : str
        What a user types, and a line about it.
    sections : dict
        {section of the run file: argument} that it takes beside its own keys under ``engine``.
    abilities : Abilities
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    sections: ClassVar[dict[str, str]]
    abilities: ClassVar[Abilities]

    def single_points(
        self,
        frames: Sequence[Atoms],
        folder: Path,
        *,
        primitive: Atoms | None = None,
        k_spacing: float | None = None,
        k_shift: bool = False,
        nosym: bool = True,
        generator: Mapping[str, Any] | None = None,
    ) -> Sequence[Job]:
        """Jobs in the subfolders 000, 001, …; nothing is written yet.

        Parameters
        ----------
        frames : sequence of Atoms
        folder : path-like
        primitive : Atoms, optional
            Cell to which the engine's density of k-points belongs.
        k_spacing : float, optional
            That density instead, Å⁻¹, 2π included.
        k_shift : bool
            Shift every mesh by half a step, away from Γ.
        nosym : bool
            Do not look for symmetries.
        generator : mapping, optional
            How the frames were made, for provenance.

        Returns
        -------
        sequence of Job

        Raises
        ------
        InputError
            A frame cannot be calculated, or there are none.
        """

    def relax(
        self,
        atoms: Atoms,
        pressure_gpa: float,
        folder: Path,
        executor: JobExecutor,
        *,
        pressure_tolerance_gpa: float = 0.2,
        max_runs: int | None = None,
        resume: bool = False,
        overwrite: bool = False,
        listener: Listener | None = None,
    ) -> RelaxResult:
        """Relax cell and positions to a static pressure, keeping the space group.

        Parameters
        ----------
        atoms : Atoms
        pressure_gpa : float
            Positive in compression.
        folder : path-like
            The runs go into subfolders; the result is ``folder/crystal.extxyz``.
        executor : JobExecutor
        pressure_tolerance_gpa : float
            For the pressure and for each component of the stress.
        max_runs : int, optional
            Bound on the number of runs; None: the engine's.
        resume : bool
            Whether `folder` may hold earlier runs; finished ones are reused.
        overwrite : bool
            Whether another crystal.extxyz may be replaced.
        listener : Listener, optional
            Told how far the runs are and what they took.

        Returns
        -------
        RelaxResult

        Raises
        ------
        InputError, NotConvergedError, CalculationError
            As their names say; the message tells why.
        """

    def harmonic(
        self,
        atoms: Atoms,
        q_grid: Sequence[int],
        folder: Path,
        executor: JobExecutor,
        *,
        resume: bool = False,
        listener: Listener | None = None,
    ) -> str:
        """Dynamical matrices on a q-grid, and electron-phonon matrices where it can; returns what was made.

        Parameters
        ----------
        atoms : Atoms
            Relaxed primitive cell.
        q_grid : three ints
            Γ-centred.
        folder : path-like
        executor : JobExecutor
        resume : bool
            Whether `folder` may hold an earlier run.
        listener : Listener, optional
            Told how far the programs are and what they took.

        Returns
        -------
        str
            A few words: what was made.

        Raises
        ------
        InputError, CalculationError
            As their names say.
        """

    def faults(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        *,
        names: SettingNames = RUN_FILE,
        programs_here: bool = True,
        symmetry: bool = True,
    ) -> list[str]:
        """What would make a run of this crystal fail, found without running anything.

        Parameters
        ----------
        atoms : Atoms
            Cell that is calculated.
        q_grid : three ints or None
            None where no harmonic matrices are made.
        names : SettingNames
            What the settings are called, for messages.
        programs_here : bool
            Whether programs run on this machine.
        symmetry : bool
            Whether the engine has to find all symmetry operations of the crystal.

        Returns
        -------
        list of str
            One sentence each, with what to change; empty where nothing is wrong.
        """

    def forecast(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        sets: Mapping[str, tuple[int, Atoms]],
        relax: bool = True,
    ) -> list[Task]:
        """What labelling a crystal will take; nothing is calculated.

        Parameters
        ----------
        atoms : Atoms
            Primitive cell.
        q_grid : three ints or None
            Of the harmonic matrices; None where they are not made.
        sets : mapping
            {name: (number of cells, one of them)} of the sets of single points.
        relax : bool
            Whether the crystal is relaxed first.

        Returns
        -------
        list of Task
        """

    @classmethod
    def holds(cls, folder: Path) -> bool:
        """Whether a folder is that of a single point of this engine, finished or not."""

    @classmethod
    def read(cls, folder: Path) -> Sequence[FinishedRun]:
        """What is finished in a folder: a single point, or every ionic step of a run of several.

        Raises
        ------
        InputError
            What was asked for is not readable.
        CalculationError
            It is unfinished, or its results cannot be trusted.
        """

    @classmethod
    def provenance(
        cls, runs: Sequence[FinishedRun], out: Path, pseudo_dir: Path | None = None
    ) -> dict[str, Any]:
        """What the record of a set says beyond what every engine has; raises where runs do not mix.

        Parameters
        ----------
        runs : sequence of FinishedRun
        out : path-like
            Label folder.
        pseudo_dir : path-like, optional
            Where the pseudopotentials are now.

        Returns
        -------
        dict
            Entries of the record.
        """

    @classmethod
    def published_input(cls, run: FinishedRun) -> tuple[str, str]:
        """Suffix and text of the file that says what was asked for, without places of this machine."""

    @classmethod
    def holds_harmonic(cls, folder: Path) -> bool:
        """Whether a folder is that of `harmonic`."""

    @classmethod
    def publish_harmonic(
        cls, folder: Path, out: Path, name: str, *, pseudo_dir: Path | None = None, overwrite: bool = False
    ) -> Path:
        """Publish a finished harmonic run as ``out/name`` and its crystal as ``out/crystal.extxyz``.

        Parameters
        ----------
        folder, out : path-like
            Of the run; label folder.
        name : str
        pseudo_dir : path-like, optional
            Where the pseudopotentials are now.
        overwrite : bool
            Replace what is there.

        Returns
        -------
        Path
            ``out/name``.

        Raises
        ------
        InputError, CalculationError
            It exists, is unfinished, or belongs to another crystal.
        """
