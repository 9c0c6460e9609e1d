"""One single point of an ASE calculator: asked for in ``ase.json``, answered in ``result.json``."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError, SCFError

from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.programs import RunLock
from himlip_ase.dft.single_points import tags_of
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import read_mapping, sha256_file, write_json

REQUEST, RESULT, WORK = "ase.json", "result.json", "calculator"
REMEDY = "delete it and continue with --resume"
SAME = 1e-8
"""Å, amu, …: two requests that differ by less are one."""

STATE = ("initial_magmoms", "initial_charges", "tags")
"""Arrays of a structure that can decide what a calculator computes."""

_one_at_a_time = threading.Lock()
"""The working folder belongs to the whole process."""


@dataclass(frozen=True)
class CalculatorSpec:
    """How a calculator is made, by name, so that any process can make it.

    Attributes
    ----------
    calculator : str
        ``module:name`` of a calculator class or of a function that returns a calculator.
    arguments : mapping
        Plain values it is called with.
    """

    calculator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, _, name = self.calculator.partition(":")
        if not module or not name:
            raise InputError(
                f"the calculator is {self.calculator!r}; give module:factory, e.g. ase.calculators.emt:EMT "
                "or my_calculators:vasp"
            )
        try:
            json.dumps(dict(self.arguments), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the arguments of {self.calculator} must be plain values ({error}); write a function that "
                "makes the calculator and name that"
            ) from error

    def build(self) -> Any:
        """A new calculator.

        Raises
        ------
        InputError
            There is no such module or name, or it does not take the arguments.
        """
        module, _, name = self.calculator.partition(":")
        with _current_folder_importable():
            try:
                factory = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise InputError(
                    f"calculator {self.calculator}: {error}; the module is looked for in the current folder "
                    "and on PYTHONPATH"
                ) from error
            try:
                calculator = factory(**self.arguments)
            except TypeError as error:
                raise InputError(
                    f"calculator {self.calculator}, arguments {self.arguments}: {error}"
                ) from error
        if not hasattr(calculator, "get_property"):
            raise InputError(
                f"{self.calculator} gave a {type(calculator).__name__}, not an ASE calculator; name a "
                "calculator class, or a function that returns a calculator"
            )
        return calculator

    def settings(self) -> dict[str, Any]:
        """Plain values, for records."""
        return {"calculator": self.calculator, "arguments": dict(self.arguments)}

    def code(self, calculator: Any) -> str:
        """The name, the calculator's package with its version, and files that it was given.

        Parameters
        ----------
        calculator : Calculator
            As `build` gives it.

        Returns
        -------
        str
            ``my_teachers:tuned (sevenn 0.13.0; tuned.safetensors 1a2b3c4d)``: of arguments that are files,
            the beginning of their SHA-256.
        """
        package = type(calculator).__module__.partition(".")[0]
        told = []
        with contextlib.suppress(PackageNotFoundError):
            told.append(f"{package} {version(package)}")
        files = [Path(value) for value in self.arguments.values() if isinstance(value, str) and value]
        told += [f"{path.name} {sha256_file(path)[:8]}" for path in files if _is_file(path)]
        return f"{self.calculator} ({'; '.join(told)})" if told else self.calculator


def _is_file(path: Path) -> bool:
    """Whether there is such a file; an argument may be a whole input, too long for a name."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class AseResult:
    """Results of one single point; see `himlip_ase.dft.jobs.Result`."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    core_seconds: float
    code: str


@dataclass(frozen=True, eq=False)
class AseJob:
    """One single point of an ASE calculator.

    Attributes
    ----------
    folder : Path
    atoms : Atoms
        Its constraints are ignored.
    spec : CalculatorSpec
    notes : mapping
        For its provenance.
    """

    folder: Path
    atoms: Atoms
    spec: CalculatorSpec
    notes: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """What is asked for, as plain values."""
        atoms = self.atoms
        state = {name: atoms.arrays[name].tolist() for name in STATE if name in atoms.arrays}
        return {
            **self.spec.settings(),
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "masses": atoms.get_masses().tolist(),
            **state,
            "notes": {**tags_of(atoms.info), **self.notes},
        }

    def started(self) -> bool:
        """See `himlip_ase.dft.jobs.Job.started`."""
        path = self.folder / REQUEST
        if not path.is_file():
            return False
        old, new = read_mapping(path, REMEDY), self.request()
        for key in new.keys() - {"notes"}:
            if not _same(old.get(key), new[key]):
                raise OtherRequest(
                    f"{path} asks for another {key}; choose another folder, or delete this one", self.folder
                )
        return True

    def finished(self) -> AseResult | None:
        """See `himlip_ase.dft.jobs.Job.finished`."""
        if not self.started() or not (self.folder / RESULT).is_file():
            return None
        return read_result(self.folder, len(self.atoms))

    def run(self) -> AseResult:
        """See `himlip_ase.dft.jobs.Job.run`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with RunLock(self.folder):
            done = self.finished()
            if done is not None:
                return done
            write_json(self.folder / REQUEST, self.request(), overwrite=True)
            result = self._calculated()
            record = {
                "energy": result.energy,
                "forces": result.forces.tolist(),
                "stress": None if result.stress is None else result.stress.tolist(),
                "core_seconds": result.core_seconds,
                "code": result.code,
            }
            write_json(self.folder / RESULT, record, overwrite=True)
            return result

    def _calculated(self) -> AseResult:
        atoms = self.atoms.copy()
        atoms.set_constraint()
        with _working_folder(self.folder / WORK):
            start = _cpu_seconds()
            atoms.calc = calculator = self.spec.build()
            code = self.spec.code(calculator)
            try:
                forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
                energy = _free_energy(atoms)
                stress = _stress(atoms)
            except SCFError as error:
                raise NotConvergedError(f"{self.folder}: {error}") from error
            except CalculatorError as error:
                raise CalculationError(f"{self.folder}: {error or type(error).__name__}") from error
            except (InputError, CalculationError):
                raise
            except Exception as error:
                raise CalculationError(f"{self.folder}: {type(error).__name__}: {error}") from error
            cpu = _cpu_seconds() - start
        if getattr(calculator, "converged", None) is False:  # as ASE's Vasp says it
            raise NotConvergedError(f"{self.folder}: the scf cycle did not converge")
        numbers = [np.array([energy]), forces, np.zeros(0) if stress is None else stress]
        if forces.shape != (len(atoms), 3) or not all(np.isfinite(part).all() for part in numbers):
            raise CalculationError(f"{self.folder}: an energy, force or stress is missing or not finite")
        return AseResult(energy, forces, stress, cpu, code)


def read_result(folder: Path, n_atoms: int) -> AseResult:
    """The results in a folder.

    Parameters
    ----------
    folder : path-like
    n_atoms : int
        Of the structure it was asked for.

    Returns
    -------
    AseResult

    Raises
    ------
    CalculationError
        There are none, or they are damaged.
    """
    path = Path(folder) / RESULT
    if not path.is_file():
        raise CalculationError(f"{path} does not exist: the calculation did not finish")
    data = read_mapping(path, REMEDY)
    try:
        forces = np.array(data["forces"], dtype=float)
        stress = None if data["stress"] is None else np.array(data["stress"], dtype=float)
        if forces.shape != (n_atoms, 3) or (stress is not None and stress.shape != (6,)):
            raise ValueError("arrays of another shape")
        return AseResult(
            float(data["energy"]), forces, stress, float(data["core_seconds"]), str(data["code"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CalculationError(f"{path} is damaged ({error}); delete it and --resume") from error


def read_request(folder: Path) -> tuple[Atoms, CalculatorSpec, dict[str, Any]]:
    """Structure, calculator and notes of what a folder was asked for.

    Raises
    ------
    CalculationError
        The request is damaged.
    """
    path = Path(folder) / REQUEST
    data = read_mapping(path, REMEDY)
    try:
        atoms = Atoms(
            numbers=data["numbers"],
            positions=data["positions"],
            cell=data["cell"],
            pbc=data["pbc"],
            masses=data["masses"],
        )
        for name in STATE:
            if name in data:
                atoms.set_array(name, np.array(data[name]))
        return atoms, CalculatorSpec(data["calculator"], data["arguments"]), dict(data["notes"])
    except (KeyError, TypeError, ValueError) as error:
        raise CalculationError(f"{path} is damaged ({error}); delete its folder and --resume") from error


def read_run(folder: Path) -> FinishedRun:
    """The finished single point in a folder.

    Raises
    ------
    CalculationError
        It is unfinished or damaged.
    """
    folder = Path(folder)
    atoms, spec, notes = read_request(folder)
    result = read_result(folder, len(atoms))
    return FinishedRun(
        name=folder.name,
        folder=folder,
        atoms=atoms,
        energy=result.energy,
        forces=result.forces,
        stress=result.stress,
        core_seconds=result.core_seconds,
        code=result.code,
        settings=spec.settings(),
        record={"core_seconds": round(result.core_seconds, 2)},
        notes=notes,
    )


def published_request(folder: Path) -> str:
    """The text of a request."""
    path = folder / REQUEST
    return path.read_text(encoding="utf-8")


def _same(old: Any, new: Any) -> bool:
    try:
        first, second = np.array(old, dtype=float), np.array(new, dtype=float)
    except (TypeError, ValueError):
        return bool(old == new)
    return first.shape == second.shape and bool(np.all(np.abs(first - second) <= SAME))


def _free_energy(atoms: Atoms) -> float:
    """E − TS, to which the forces belong; the energy, where the calculator knows no other."""
    try:
        return float(atoms.get_potential_energy(force_consistent=True))
    except (PropertyNotImplementedError, NotImplementedError):
        return float(atoms.get_potential_energy())


def _stress(atoms: Atoms) -> np.ndarray | None:
    if not atoms.pbc.all():
        return None
    try:
        return np.array(atoms.get_stress(apply_constraint=False), dtype=float)
    except (PropertyNotImplementedError, NotImplementedError):
        return None


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    """Calculators write where they are: each in a folder of its own, and one at a time in a process."""
    folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time:
        before = os.getcwd()
        with _current_folder_importable():
            os.chdir(folder)
            try:
                yield
            finally:
                os.chdir(before)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    here = os.getcwd()
    if here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
