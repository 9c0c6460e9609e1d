"""α²F, λ and Tc of one set of phonons, with all that is known of their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from himlip_ase.superconductivity.bootstrap import BootstrapTc
from himlip_ase.superconductivity.cell_strain import CellStrain
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.coupling import ImaginaryMode
from himlip_ase.superconductivity.gap import GapCurve
from himlip_ase.superconductivity.plateau import SigmaPlateau
from himlip_ase.superconductivity.q_mesh import QMeshRow
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_entries import TcTable


@dataclass(frozen=True)
class TcAnalysis:
    """α²F and Tc of one set of phonons.

    Attributes
    ----------
    label : str
        For example "harmonic".
    spectrum : Spectrum or None
        None only where it was read from a file of version 1, which did not keep it.
    table : TcTable
        Each Tc with the sources of its uncertainty.
    imaginary : tuple of ImaginaryMode
        Left out of every sum.
    sigma_ry : float or None
        None for a tabulated α²F.
    plateau : SigmaPlateau or None
        Of these phonons; None with fewer than three broadenings. Whether σ was chosen on it, `sigma_source`
        says.
    sigma_source : str
        Where σ and the window of its spread come from.
    masses_amu : dict
        Element to mass in use.
    elements : dict of str to Spectrum
        Shares |e_qν,a|² of each element in the q-sum.
    q_mesh : tuple of QMeshRow
        λ and Tc against the q-grid of G and the mesh, where asked for.
    noise : BootstrapTc or None
        Spread over resampled SSCHA ensembles, where their blocks were given.
    full_bandwidth : dict of float to float or str
        For each μ*, the Migdal–Eliashberg Tc (K) with the energy-dependent DOS, or why there is none.
    gap : GapCurve or None
        Δ(T) at the first μ*, when asked for and when there is a Tc.
    strain : CellStrain or None
        From the cell of G(q) to that of the phonons, where they differ.
    potential : BootstrapTc or None
        Spread over the twins of the potential, in their order, where they were given.
    """

    label: str
    spectrum: Spectrum | None
    table: TcTable
    imaginary: tuple[ImaginaryMode, ...] = ()
    sigma_ry: float | None = None
    plateau: SigmaPlateau | None = None
    sigma_source: str = ""
    masses_amu: dict[str, float] = field(default_factory=dict)
    elements: dict[str, Spectrum] = field(default_factory=dict)
    q_mesh: tuple[QMeshRow, ...] = ()
    noise: BootstrapTc | None = None
    full_bandwidth: dict[float, float | str] = field(default_factory=dict)
    gap: GapCurve | None = None
    strain: CellStrain | None = None
    potential: BootstrapTc | None = None

    def to_record(self) -> Record:
        """Plain data for JSON: every figure with value, unit, uncertainty and how it was obtained."""
        record: Record = {
            "label": self.label,
            **self.table.to_record(),
            "imaginary_modes": [mode.to_record() for mode in self.imaginary],
            "sigma_ry": self.sigma_ry,
            "sigma_source": self.sigma_source,
            "masses_amu": self.masses_amu,
            "lambda_by_element": {name: part.lambda_total for name, part in self.elements.items()},
        }
        if self.full_bandwidth:
            record["tc_energy_dependent_dos"] = [
                {"mu_star": mu, "value": value, "unit": "K"}
                if isinstance(value, float)
                else {"mu_star": mu, "value": None, "unit": "K", "reason": value}
                for mu, value in self.full_bandwidth.items()
            ]
        if self.q_mesh:
            record["q_mesh"] = [row.to_record() for row in self.q_mesh]
        for name, part in self._parts().items():
            if part is not None:
                record[name] = part.to_record()
        if self.elements:
            record["elements"] = {name: part.to_record() for name, part in self.elements.items()}
        return record

    def _parts(self) -> dict[str, Any]:
        return {
            "cell_strain": self.strain,
            "gap": self.gap,
            "sigma_plateau": self.plateau,
            "bootstrap": self.noise,
            "potential": self.potential,
            "spectrum": self.spectrum,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TcAnalysis:
        """What `to_record` wrote."""

        def part(name: str, kind: Any) -> Any:
            return kind.from_record(record[name]) if name in record else None

        return cls(
            record["label"],
            part("spectrum", Spectrum),
            TcTable.from_record(record),
            tuple(ImaginaryMode.from_record(mode) for mode in record["imaginary_modes"]),
            record["sigma_ry"],
            part("sigma_plateau", SigmaPlateau),
            record["sigma_source"],
            dict(record["masses_amu"]),
            {name: Spectrum.from_record(item) for name, item in record.get("elements", {}).items()},
            tuple(QMeshRow.from_record(row) for row in record.get("q_mesh", [])),
            part("bootstrap", BootstrapTc),
            {
                float(item["mu_star"]): item["reason"] if item["value"] is None else float(item["value"])
                for item in record.get("tc_energy_dependent_dos", [])
            },
            part("gap", GapCurve),
            part("cell_strain", CellStrain),
            part("potential", BootstrapTc),
        )
