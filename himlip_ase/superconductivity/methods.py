"""The Tc formulas: one entry each, from which checks, ``--help``, tables, figures and docs follow.

A further formula is one `TcFormula` added to `FORMULAS`:

>>> from himlip_ase.superconductivity.methods import FORMULAS, TcFormula
>>> half = TcFormula(
...     name="half", label="Half of ω_log", summary="for this example", source="none",
...     needs=("omega_log_k",), function=lambda omega_log_k: omega_log_k / 2,
... )
>>> with FORMULAS.added(half):
...     FORMULAS["half"].kelvin(omega_log_k=300.0)
150.0
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry
from himlip_ase.superconductivity import formulas

if TYPE_CHECKING:
    from himlip_ase.superconductivity.spectrum import Spectrum

INPUTS = {
    "lambda_total": "λ",
    "omega_log_k": "ω_log (K)",
    "omega_2_k": "ω₂ (K)",
    "spectrum": "α²F(ω)",
    "mu_star": "μ* at the highest phonon",
    "cutoff": "Matsubara cutoff in highest phonons",
    "near_kelvin": "Tc of a similar spectrum (K), or None",
}
"""What a formula may ask for, by the name of its argument."""


@dataclass(frozen=True)
class TcFormula:
    """A way from α²F and μ* to Tc.

    Attributes
    ----------
    name : str
        What a user types.
    label : str
        How tables and figures call it.
    summary : str
        One line for ``--help`` and the documentation.
    source : str
        Where the equation stands.
    needs : tuple of str
        Names of its inputs, of `INPUTS`.
    function : callable
        Takes them as keywords and gives Tc in K; nan where there is none.
    refusal : callable, optional
        Takes the same and says why the formula cannot be used there; "" where it can.

    Raises
    ------
    InputError
        Without a function, with one that does not take its inputs, or with an input that is unknown.
    """

    name: str
    label: str
    summary: str
    source: str
    needs: tuple[str, ...]
    function: Callable[..., float]
    refusal: Callable[..., str] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.needs if name not in INPUTS]
        if unknown or not self.needs:
            raise InputError(
                f"formula {self.name!r} asks for {', '.join(unknown) or 'nothing'}; there are "
                f"{', '.join(INPUTS)}"
            )
        for part in (self.function, *([] if self.refusal is None else [self.refusal])):
            if not callable(part):
                raise InputError(f"formula {self.name!r} has no implementation; give function=")
            try:
                inspect.signature(part).bind(**dict.fromkeys(self.needs))
            except TypeError as error:
                raise InputError(
                    f"the function of formula {self.name!r} does not take {self.needs}: {error}"
                ) from error

    def kelvin(self, **inputs: Any) -> float:
        """Tc (K) from `INPUTS` by name; those that the formula does not need are left out."""
        return float(self.function(**{name: inputs[name] for name in self.needs}))

    def why_not(self, **inputs: Any) -> str:
        """Why the formula cannot be used with these inputs; "" where it can."""
        return "" if self.refusal is None else self.refusal(**{name: inputs[name] for name in self.needs})


def _migdal_eliashberg(spectrum: Spectrum, mu_star: float, cutoff: float, near_kelvin: float | None) -> float:
    from himlip_ase.superconductivity.eliashberg import eliashberg_tc

    return eliashberg_tc(spectrum, mu_star, cutoff, near_kelvin=near_kelvin)


FORMULAS = Registry[TcFormula](
    "Tc formula",
    TcFormula(
        name="mcmillan",
        label="McMillan",
        summary="McMillan's exponent with Dynes' prefactor ω_log/1.2",
        source="McMillan, PR 167, 331 (1968); Dynes, SSC 10, 615 (1972)",
        needs=("lambda_total", "omega_log_k", "mu_star"),
        function=formulas.mcmillan,
    ),
    TcFormula(
        name="allen-dynes",
        label="Allen–Dynes",
        summary="McMillan's times f₁f₂ for strong coupling and shape",
        source="Allen, Dynes, PRB 12, 905 (1975)",
        needs=("lambda_total", "omega_log_k", "omega_2_k", "mu_star"),
        function=formulas.allen_dynes,
    ),
    TcFormula(
        name="sisso",
        label="SISSO",
        summary="McMillan's times the machine-learnt f_ω f_μ, refused outside its range",
        source="Xie et al., npj Comput. Mater. 8, 14 (2022)",
        needs=("lambda_total", "omega_log_k", "omega_2_k", "mu_star"),
        function=formulas.sisso,
        refusal=formulas.sisso_refusal,
    ),
    TcFormula(
        name="eliashberg",
        label="Migdal–Eliashberg",
        summary="the linearised isotropic Migdal–Eliashberg equations, constant density of states",
        source="Allen, Dynes, PRB 12, 905 (1975), eqs. 5–9",
        needs=("spectrum", "mu_star", "cutoff", "near_kelvin"),
        function=_migdal_eliashberg,
    ),
)
"""Every formula by name, in the order of tables and figures."""


def check_methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    """Names of formulas, all of them for None.

    Raises
    ------
    InputError
        A name that is not in `FORMULAS`, one that comes twice, or none at all.
    """
    names = tuple(FORMULAS.names() if methods is None else methods)
    for name in names:
        _ = FORMULAS[name]
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods = {list(names)}; name at least one formula, each once")
    return names


def label_of(method: str) -> str:
    """How tables and figures call a formula; its own name where it is not registered."""
    return FORMULAS[method].label if method in FORMULAS else method
