"""The gate before every Tc: checks with their limits, and what they allow to be quoted.

Each check compares one number of a run with two limits of the configuration (``gate:``). Beyond the first a
Tc is quoted and marked, beyond the second it is withheld: no number on the terminal, in ``results.json`` or
in a figure. What a run did not measure marks, or withholds where its limit says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from himlip_ase.errors import InputError

Verdict = Literal["ok", "marked", "withheld"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From the best to the worst."""


@dataclass(frozen=True)
class Limit:
    """Where a check marks a Tc and where it withholds it.

    Attributes
    ----------
    mark : float or None
        A larger value marks every Tc; null: never.
    withhold : float or None
        A larger value withholds every Tc; null: never.
    unknown : {"marked", "withheld"}
        What a number does that the run did not measure; nothing where both limits are null.
    """

    mark: float | None = None
    withhold: float | None = None
    unknown: Literal["marked", "withheld"] = "marked"

    def __post_init__(self) -> None:
        for name in ("mark", "withhold"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"gate: {name} is {value!r}; give 0, a positive number, or null for never")
        if self.mark is not None and self.withhold is not None and self.mark > self.withhold:
            raise InputError(
                f"gate: mark ({self.mark:g}) lies beyond withhold ({self.withhold:g}); give a smaller mark"
            )

    def verdict(self, value: float | None) -> Verdict:
        """What a value allows; for None, which is not known, see `unknown`."""
        if value is None or not value == value:
            return self.unknown if self.mark is not None or self.withhold is not None else "ok"
        if self.withhold is not None and value > self.withhold:
            return "withheld"
        return "marked" if self.mark is not None and value > self.mark else "ok"

    def decisive(self, verdict: Verdict) -> float | None:
        """The limit that a verdict speaks of: the one exceeded, else the next one."""
        if verdict == "withheld":
            return self.withhold
        return self.withhold if self.mark is None else self.mark


@dataclass(frozen=True)
class GateLimits:
    """Limits of the checks before every Tc; each has ``mark`` and ``withhold``, null for never.

    Attributes
    ----------
    k_error_cm : Limit
        cm⁻¹; largest change of a frequency of the tested q-point on a denser k-mesh.
    harmonic_rmse_cm : Limit
        cm⁻¹; harmonic frequencies of the potential against those of the engine, rms.
    outside_percent : Limit
        Configurations of the last SSCHA ensemble outside the trusted region of the labels.
    force_error_percent : Limit
        Error of the forces on configurations that were not learnt from, of the rms force of DFT.
    plateau_percent : Limit
        Half the spread of λ over the plateau of σ, of λ.
    q_grid_percent : Limit
        Part of the q-grid in the error of λ, of λ.
    roads_percent : Limit
        Between λ through D_harm + difference and λ of the SSCHA on a finer grid, of their mean.
    """

    k_error_cm: Limit = Limit(10.0, 50.0)
    harmonic_rmse_cm: Limit = Limit(10.0, 50.0)
    outside_percent: Limit = Limit(10.0, 50.0)
    force_error_percent: Limit = Limit(10.0, 30.0)
    plateau_percent: Limit = Limit(5.0, 25.0)
    q_grid_percent: Limit = Limit(15.0, 50.0)
    roads_percent: Limit = Limit(15.0, 50.0)

    def off(self) -> list[str]:
        """Checks that can neither mark nor withhold, as they are typed."""
        names = [name for name in self.__dataclass_fields__ if getattr(self, name).verdict(None) == "ok"]
        return [f"gate.{name}: {{mark: null, withhold: null}}" for name in names]


@dataclass(frozen=True)
class Check:
    """One check: a number against its limit.

    Attributes
    ----------
    name : str
        Key of its limit in ``gate:``.
    value : float or None
        In `unit`; None where the run did not measure it.
    limit : float or None
        That decided: the one exceeded, else the next one; None: no limit.
    unit : str
    verdict : {"ok", "marked", "withheld"}
    why : str
        What the number is, in a sentence without a full stop.
    what_to_do : str
        What would bring it below the limit; "" where it is.
    """

    name: str
    value: float | None
    limit: float | None
    unit: str
    verdict: Verdict
    why: str
    what_to_do: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError(f"verdict {self.verdict!r} of the check {self.name}; allowed: {VERDICTS}")

    @property
    def title(self) -> str:
        """How it is shown."""
        return TITLES.get(self.name, self.name)

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.3g} {self.unit}".strip()
        limit = "no limit" if self.limit is None else f"limit {self.limit:g}"
        text = f"{self.title}: {value} ({limit}), {self.verdict}: {self.why}"
        return f"{text}. {self.what_to_do}" if self.what_to_do else text

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Check:
        """What `to_record` wrote."""
        return cls(**record)


TITLES = {
    "k_error_cm": "k-error of the labels",
    "harmonic_rmse_cm": "harmonic frequencies against DFT",
    "outside_percent": "configurations outside the trusted region",
    "force_error_percent": "force error on what was not learnt",
    "plateau_percent": "plateau of σ",
    "q_grid_percent": "q-grid",
    "roads_percent": "two roads to the grid of G(q)",
}


def judge(limits: GateLimits, name: str, value: float | None, unit: str, why: str, what_to_do: str) -> Check:
    """A check of a value against its limits.

    Parameters
    ----------
    limits : GateLimits
    name : str
        Of the limit.
    value : float or None
    unit, why, what_to_do : str
        As in `Check`; `what_to_do` is kept only where the verdict is not "ok".

    Returns
    -------
    Check
    """
    limit: Limit = getattr(limits, name)
    verdict = limit.verdict(value)
    value = None if value is None or not value == value else float(value)
    return Check(
        name, value, limit.decisive(verdict), unit, verdict, why, "" if verdict == "ok" else what_to_do
    )


@dataclass(frozen=True)
class Gate:
    """All checks of a run.

    Attributes
    ----------
    checks : tuple of Check
    """

    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst one; "ok" without any."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index, default="ok")

    def of(self, verdict: Verdict) -> list[Check]:
        """The checks with this verdict."""
        return [check for check in self.checks if check.verdict == verdict]

    @property
    def refusal(self) -> str:
        """Why every Tc is withheld; "" where it is not."""
        return "; ".join(map(_reason, self.of("withheld")))

    @property
    def mark(self) -> str:
        """Why every Tc is marked; "" where it is not."""
        return "; ".join(map(_reason, self.of("marked")))

    def headline(self) -> str:
        """The verdict in one line."""
        if self.verdict == "withheld":
            return f"Tc is withheld: {self.refusal}"
        if self.verdict == "marked":
            return f"Tc is marked: {self.mark}"
        return f"Tc passes all {len(self.checks)} checks"

    def lines(self) -> list[str]:
        """What the terminal shows: the verdict, then every check, the worst first."""
        ordered = [check for verdict in reversed(VERDICTS) for check in self.of(verdict)]
        return [self.headline(), *(f"  {check}" for check in ordered)]

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"verdict": self.verdict, "checks": [check.to_record() for check in self.checks]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Gate:
        """What `to_record` wrote."""
        return cls(tuple(Check.from_record(item) for item in record["checks"]))


def _reason(check: Check) -> str:
    if check.value is None:
        return f"{check.title} not measured"
    amount = f"{check.value:.3g} {check.unit}".strip()
    return f"{check.title} {amount}, more than {check.limit:g}"
