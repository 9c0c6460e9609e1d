"""Any ASE calculator as an engine, named by its module and factory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

from himlip_ase.dft.ase_calculator.harmonic import (
    PARAMS,
    RECORD,
    displaced_supercells,
    harmonic,
    publish_harmonic,
)
from himlip_ase.dft.ase_calculator.job import REQUEST, AseJob, CalculatorSpec, published_request, read_run
from himlip_ase.dft.ase_calculator.relax import relax
from himlip_ase.dft.engine import Abilities
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.finished_runs import FinishedRun, RelaxResult
from himlip_ase.dft.jobs import Task
from himlip_ase.dft.setting_names import RUN_FILE, SettingNames
from himlip_ase.dft.standing import Listener
from himlip_ase.errors import CalculationError, InputError


@dataclass(frozen=True)
class AseCalculator:
    """Any ASE calculator: single points, relaxation, harmonic matrices by displacements; no G(q), so no Tc.

    A calculator with k-points has to be given them as a density (GPAW: ``kpts: {density: 4}``; VASP:
    ``kspacing: 0.2``), so that supercells are sampled as the primitive cell is.

    Attributes
    ----------
    calculator : str
        ``module:factory``: a calculator class, or a function that returns a calculator.
    arguments : mapping
        Plain values the factory is called with.
    displacement_angstrom : float
        Of phonopy's displacements.
    """

    calculator: str
    arguments: dict[str, Any] = field(default_factory=dict)
    displacement_angstrom: float = 0.01
    name: ClassVar[str] = "ase"
    summary: ClassVar[str] = "any ASE calculator, named module:factory"
    sections: ClassVar[dict[str, str]] = {}
    abilities: ClassVar[Abilities] = Abilities(electron_phonon=False, k_points=False, programs=False)

    def __post_init__(self) -> None:
        CalculatorSpec(self.calculator, self.arguments)
        if not 0 < self.displacement_angstrom <= 0.1:
            raise InputError(f"displacement_angstrom is {self.displacement_angstrom}; give 0.001 to 0.1 Å")

    @property
    def spec(self) -> CalculatorSpec:
        """How the calculator is made."""
        return CalculatorSpec(self.calculator, self.arguments)

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
    ) -> list[AseJob]:
        """See `himlip_ase.dft.engine.Engine.single_points`; k-points are the calculator's own."""
        if not frames:
            raise InputError("no structures to calculate")
        if k_spacing is not None or k_shift:
            flag = "--k-spacing" if k_spacing is not None else "--k-shift"
            raise InputError(f"the k-points of {self.calculator} are its own arguments; leave {flag} out")
        self.spec.build()
        notes = {"generator": dict(generator)} if generator else {}
        place = Path(folder).absolute()
        return [AseJob(place / f"{k:03d}", bare(frame), self.spec, notes) for k, frame in enumerate(frames)]

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
        """See `himlip_ase.dft.engine.Engine.relax`."""
        self.spec.build()
        return relax(
            bare(atoms),
            pressure_gpa,
            self.spec,
            folder,
            executor,
            pressure_tolerance_gpa=pressure_tolerance_gpa,
            max_runs=200 if max_runs is None else max_runs,
            resume=resume,
            overwrite=overwrite,
        )

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
        """See `himlip_ase.dft.engine.Engine.harmonic`; there are no electron-phonon matrices."""
        self.spec.build()
        found = harmonic(
            bare(atoms),
            q_grid,
            self.spec,
            folder,
            executor,
            displacement=self.displacement_angstrom,
            resume=resume,
        )
        return f"force constants of {'×'.join(map(str, found.dims))}, as dyn files and {PARAMS},"

    def faults(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        *,
        names: SettingNames = RUN_FILE,
        programs_here: bool = True,
        symmetry: bool = True,
    ) -> list[str]:
        """See `himlip_ase.dft.engine.Engine.faults`: whether the calculator can be made."""
        try:
            self.spec.build()
        except (InputError, CalculationError) as error:
            return [str(error)]
        return []

    def forecast(
        self,
        atoms: Atoms,
        q_grid: Sequence[int] | None,
        sets: Mapping[str, tuple[int, Atoms]],
        relax: bool = True,
    ) -> list[Task]:
        """See `himlip_ase.dft.engine.Engine.forecast`; a foreign calculator's time is not known."""
        tasks = [Task("relax", 1, len(atoms))] if relax else []
        if q_grid is not None:
            _, displaced = displaced_supercells(bare(atoms), q_grid, self.displacement_angstrom)
            tasks.append(Task("harmonic", len(displaced), len(displaced[0])))
        return tasks + [Task(name, number, len(cell)) for name, (number, cell) in sets.items()]

    @classmethod
    def holds(cls, folder: Path) -> bool:
        """Whether there is a request."""
        return (Path(folder) / REQUEST).is_file()

    @classmethod
    def read(cls, folder: Path) -> list[FinishedRun]:
        """See `himlip_ase.dft.engine.Engine.read`."""
        return [read_run(folder)]

    @classmethod
    def provenance(
        cls, runs: Sequence[FinishedRun], out: Path, pseudo_dir: Path | None = None
    ) -> dict[str, Any]:
        """See `himlip_ase.dft.engine.Engine.provenance`; nothing beyond what every engine has."""
        return {}

    @classmethod
    def published_input(cls, run: FinishedRun) -> tuple[str, str]:
        """The request."""
        return ".json", published_request(run.folder)

    @classmethod
    def holds_harmonic(cls, folder: Path) -> bool:
        """Whether there is the record of a harmonic run."""
        return (Path(folder) / RECORD).is_file()

    @classmethod
    def publish_harmonic(
        cls, folder: Path, out: Path, name: str, *, pseudo_dir: Path | None = None, overwrite: bool = False
    ) -> Path:
        """See `himlip_ase.dft.engine.Engine.publish_harmonic`."""
        return publish_harmonic(folder, out, name, overwrite)


def bare(atoms: Atoms) -> Atoms:
    """A copy without constraints and calculator; masses, moments, charges and tags stay."""
    copy = atoms.copy()
    copy.set_constraint()
    copy.calc = None
    return copy
