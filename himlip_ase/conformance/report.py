"""What a conformance run found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from himlip_ase.errors import CalculationError


class ConformanceError(CalculationError):
    """A calculator failed checks of the conformance suite."""


@dataclass(frozen=True)
class Tolerances:
    """Largest deviations that pass; all are relative but `jump`.

    Attributes
    ----------
    derivative : float
        Analytic derivative against finite difference.
    invariance : float
        Invariance, extensivity, equivalent descriptions of one structure, Hessian symmetry.
    jump : float
        Jump across the cutoff of energy (eV), force (eV/Å) and second derivative (eV/Å²).
    third : float
        Jump across the cutoff of the third derivative of the energy (eV/Å³).
    """

    derivative: float = 1e-6
    invariance: float = 1e-10
    jump: float = 1e-9
    third: float = 1e-6

    @classmethod
    def float32(cls) -> Tolerances:
        """What single precision can reach."""
        return cls(derivative=3e-2, invariance=1e-4, jump=1e-3, third=10.0)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name : str
    status : {"passed", "failed", "skipped"}
        Skipped: the calculator does not offer what is checked.
    value, tolerance : float or None
        Measured deviation and the largest that passes; None where there is nothing to measure.
    note : str
        Why it was skipped, how it failed, or what else was seen.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    value: float | None = None
    tolerance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ConformanceReport:
    """All checks of one calculator.

    Attributes
    ----------
    calculator : str
    structure : str
        Chemical formula of the structure that it was tried on.
    checks : tuple of Check
    """

    calculator: str
    structure: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def skipped(self) -> tuple[Check, ...]:
        """Checks of what the calculator does not offer."""
        return tuple(check for check in self.checks if check.status == "skipped")

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __getitem__(self, name: str) -> Check:
        """The check of this name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {[check.name for check in self.checks]}")

    def raise_for_failures(self) -> None:
        """Raise `ConformanceError`, naming every failed check, unless all passed."""
        if self.failures:
            lines = "\n".join(f"  {_line(check)}" for check in self.failures)
            raise ConformanceError(
                f"{self.calculator} on {self.structure} fails {len(self.failures)} of {len(self.checks)} "
                f"checks:\n{lines}"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"schema": 1, **asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        """Table of all checks."""
        count = f"{len(self.failures)} failed, {len(self.skipped)} skipped of {len(self.checks)}"
        return "\n".join([f"{self.calculator} on {self.structure}: {count}", *map(_line, self.checks)])


def _line(check: Check) -> str:
    value = "" if check.value is None else f"{check.value:.1e}"
    tolerance = "" if check.tolerance is None else f"≤ {check.tolerance:.0e}"
    return f"{check.status:<8}{check.name:<44}{value:>9} {tolerance:<8} {check.note}".rstrip()
