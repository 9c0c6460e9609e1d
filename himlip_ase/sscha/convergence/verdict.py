"""Did it converge?  A fresh ensemble decides, and the answer always carries its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.settings import SschaSettings

NEGLIGIBLE_CM = 0.1
"""A change of a frequency below this (cm⁻¹) is never held against convergence."""

NEGLIGIBLE_FORCE = 1e-4
"""The same for a mean force on a centroid, eV/Å."""

ROUNDING = 1e-8
"""A force (eV/Å) that symmetry makes vanish stays below this."""


@dataclass(frozen=True)
class FreshTest:
    """Residual of an auxiliary on an ensemble that had no part in making it, over its standard error.

    Attributes
    ----------
    rms_z, max_z : float
        Root mean square and largest of change / error over frequencies and centroid forces; the error joins
        that of this ensemble and that of the ensemble which made the auxiliary.
    largest_shift_cm : float
        Largest first-order change of a frequency asked for, cm⁻¹.
    largest_force : float
        Largest mean force on a centroid, eV/Å.
    """

    rms_z: float
    max_z: float
    largest_shift_cm: float
    largest_force: float

    def passed(self, significance: float) -> bool:
        """Whether the change is noise: rms below `significance`, largest below three times that."""
        return self.rms_z <= significance and self.max_z <= 3 * significance


def fresh_test(fresh: Residual, in_sample: Residual | None) -> FreshTest:
    """Compare what a fresh ensemble asks for with the noise of both ensembles.

    Parameters
    ----------
    fresh : Residual
        On the fresh ensemble.
    in_sample : Residual or None
        On the ensemble that the auxiliary was minimised on, with its final weights; None for a start that no
        ensemble made.

    Returns
    -------
    FreshTest
    """
    variance = fresh.sigma_cm**2 + (0 if in_sample is None else in_sample.sigma_cm**2)
    modes = np.abs(fresh.shifts_cm) / np.sqrt(variance + NEGLIGIBLE_CM**2)
    force_variance = fresh.force_sigma**2 + (0 if in_sample is None else in_sample.force_sigma**2)
    pushes = np.abs(fresh.force) / np.sqrt(force_variance + NEGLIGIBLE_FORCE**2)
    free = (np.abs(fresh.force) > ROUNDING) | (fresh.force_sigma > ROUNDING)  # not fixed by symmetry
    z = np.concatenate([np.delete(modes.ravel(), [0, 1, 2]), pushes[free]])
    return FreshTest(
        float(np.sqrt((z**2).mean())),
        float(z.max()),
        float(np.abs(fresh.shifts_cm).max()),
        float(np.abs(fresh.force).max()),
    )


def reason(test: FreshTest, ended: str, significance: float) -> str:
    """One sentence on whether a population settled the auxiliary.

    Parameters
    ----------
    test : FreshTest
    ended : str
        Why the minimisation ended, see :data:`ENDINGS`.
    significance : float
        Standard errors allowed.

    Returns
    -------
    str
    """
    seen = (
        f"a fresh ensemble asks for changes of {test.rms_z:.2f} standard errors (rms; largest "
        f"{test.max_z:.1f}, {test.largest_shift_cm:.1f} cm⁻¹)"
    )
    if ended != "gradient":
        return f"the minimisation ended by {ENDINGS[ended]}; {seen}"
    if not test.passed(significance):
        return f"{seen}, more than the {significance:g} allowed"
    return f"{seen}, within the {significance:g} allowed, and the gradient vanished on the last population"


def judge(
    test: FreshTest,
    ended: str,
    settings: SschaSettings,
    error_cm: float,
    excess_z: float | None = None,
    reused: bool = False,
    drift_cm: float | None = None,
    kong_liu: float | None = None,
) -> tuple[bool, bool, str]:
    """Whether a population settles the run.

    Parameters
    ----------
    test : FreshTest
        Of the auxiliary that the population began with.
    ended : str
        Why its minimisation ended.
    settings : SschaSettings
    error_cm : float
        Largest standard error of an auxiliary frequency after it, cm⁻¹.
    excess_z : float, optional
        Largest difference from the target stress over its error, where the cell is relaxed.
    drift_cm, kong_liu : float, optional
        Largest change of an auxiliary frequency over the population, cm⁻¹, and effective sample size over
        its number at the end: for the record, as the test already weighs the change by its noise.
    reused : bool
        Whether the ensemble was drawn for another run, so that its agreement proves nothing.

    Returns
    -------
    settled : bool
    grow : bool
        Whether only the error bar is still too large.
    sentence : str
    """
    sentence = reason(test, ended, settings.significance)
    if drift_cm is not None and kong_liu is not None:
        sentence += f"; it moved frequencies by up to {drift_cm:.1f} cm⁻¹, Kong-Liu ratio {kong_liu:.2f}"
    quiet = ended == "gradient" and test.passed(settings.significance)
    if reused:
        return (
            False,
            False,
            f"made on the ensemble of a neighbouring run, not tested yet; {sentence}",
        )
    if excess_z is not None:
        quiet &= excess_z <= settings.significance
        sentence += f"; the stress is {excess_z:.1f} standard errors from the target"
    wanted = settings.frequency_error_cm
    if wanted is None or not quiet:
        return quiet, False, sentence
    sentence += f"; standard errors up to {error_cm:.1f} cm⁻¹ of {wanted:g} asked for"
    return error_cm <= wanted, error_cm > wanted, sentence


ENDINGS = {
    "gradient": "a vanishing gradient",
    "kong-liu": "the Kong-Liu ratio running out",
    "steps": "its limit of steps",
    "stuck": "imaginary frequencies",
}
