"""What the superconductivity room reaches: QE's reference, limits of Migdal–Eliashberg, times, refusals.

    python -m benchmarks.superconductivity.figures

Al comes from the files that Debian's quantum-espresso-data installs; lambda.x and matdyn.x run on the same
files where they are on the PATH. Timings count on an idle core (OMP_NUM_THREADS=1). The table is written to
benchmarks/results/superconductivity.md.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.superconductivity.bootstrap import bootstrap_tc, resampled_phonons
from himlip_ase.superconductivity.coupling import interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.eliashberg import eliashberg_tc
from himlip_ase.superconductivity.elph_matrices import ElphMatrices, read_elph
from himlip_ase.superconductivity.full_bandwidth import eliashberg_tc_full_bandwidth
from himlip_ase.superconductivity.gap import gap_curve, tc_sensitivity
from himlip_ase.superconductivity.methods import FORMULAS
from himlip_ase.superconductivity.qe_outputs import read_lambda_table
from himlip_ase.superconductivity.spectrum import Spectrum, spectrum_from_curve
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc

ROOT = Path(__file__).parents[2]
AL = Path("/usr/share/doc/quantum-espresso/examples/PHonon/Recover_example/reference_1")
LABELS = ROOT / "examples" / "h3s" / "labels_k12"
STARS = (1, 8, 4, 6, 24, 12, 3, 6)
# σ (Ry): λ, ω_log (K), Tc (K) at μ* = 0.10; QE test-suite, ph_metal, lambda.x
PUBLISHED = {
    0.010: (0.43490, 352.86, 2.311),
    0.020: (0.39772, 336.03, 1.365),
    0.030: (0.36695, 328.92, 0.812),
    0.050: (0.38379, 321.63, 1.057),
}


@dataclass(frozen=True)
class Row:
    """One figure: `wanted` is the largest value allowed, None where there is nothing to compare with."""

    what: str
    measured: float
    wanted: float | None
    unit: str = ""

    @property
    def limit(self) -> str:
        """`wanted` in words."""
        return "" if self.wanted is None else f"{self.wanted:g}"

    @property
    def met(self) -> str:
        """In words."""
        return "" if self.wanted is None else ("yes" if self.measured <= self.wanted else "**no**")


def al() -> tuple[DynamicalMatrices, ElphMatrices]:
    """Phonons and G(q) of QE's Al reference."""
    phonons = read_dyn(AL / "al.dyn")
    return phonons, read_elph(AL, phonons.primitive)


def published_al(phonons: DynamicalMatrices, elph: ElphMatrices) -> Iterator[Row]:
    """QE's own table."""
    worst = np.zeros(3)
    for sigma, wanted in PUBLISHED.items():
        spectrum = mode_coupling(elph, phonons, sigma).spectrum()
        entry = critical_temperature(spectrum, 0.10, "mcmillan")
        assert isinstance(entry, Tc)
        ours = np.array([spectrum.lambda_total, spectrum.omega_log_k, entry.kelvin])
        worst = np.maximum(worst, np.abs(ours - wanted))
    yield Row("Al, QE's published table, every σ: largest deviation of λ", worst[0], 1e-3)
    yield Row("the same, ω_log", worst[1], 0.5, "K")
    yield Row("the same, Tc", worst[2], 0.015, "K")


def programs(phonons: DynamicalMatrices, elph: ElphMatrices) -> Iterator[Row]:
    """lambda.x and matdyn.x on the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in AL.rglob("*"):
            if path.is_file():
                target = folder / path.relative_to(AL)
                target.parent.mkdir(parents=True, exist_ok=True)
                data = path.read_bytes()
                if path.suffix == ".gz":
                    target, data = target.with_suffix(""), gzip.decompress(data)
                target.write_bytes(data)
        if shutil.which("lambda.x"):
            lines = ["10 0.06 0", str(len(STARS)), *(f"0 0 0 {w}" for w in STARS)]
            lines += [f"elph_dir/elph.inp_lambda.{n + 1}" for n in range(len(STARS))] + ["0.10", ""]
            text = "\n".join(lines)
            subprocess.run(["lambda.x"], input=text, cwd=folder, capture_output=True, text=True, check=True)
            yield from compare(folder / "lambda.dat", "lambda.x", lambda s: mode_coupling(elph, phonons, s))
        if shutil.which("matdyn.x"):
            (folder / "lambda").unlink()
            with open(folder / "matdyn.in.dos") as stream:
                subprocess.run(["matdyn.x"], stdin=stream, cwd=folder, capture_output=True, check=True)
            yield from compare(
                folder / "lambda",
                "matdyn.x, 10³ mesh",
                lambda s: interpolated_coupling(elph, phonons, (10, 10, 10), s),
            )


def compare(path: Path, name: str, couple) -> Iterator[Row]:
    """Largest differences from one table of QE."""
    theirs = read_lambda_table(path)
    pairs = []
    for sigma, lam, log in zip(theirs.sigma_ry, theirs.lambdas, theirs.omega_log_k, strict=True):
        spectrum = couple(float(sigma)).spectrum()
        pairs.append((abs(spectrum.lambda_total - lam), abs(spectrum.omega_log_k - log)))
    worst = np.max(pairs, axis=0)
    yield Row(f"Al, {name}, {len(pairs)} σ: largest difference of λ ", worst[0], 5e-5)
    yield Row("the same, ω_log", worst[1], 0.15, "K")


def eliashberg() -> Iterator[Row]:
    """Convergence and limits of the imaginary-axis equations."""

    def broad(lam: float) -> Spectrum:
        return Spectrum(np.array([0.02, 0.05, 0.15]), lam * np.array([0.4, 0.2, 0.4]))

    def einstein(lam: float) -> Spectrum:
        return Spectrum(np.array([0.03]), np.array([lam]))

    changes = []
    for lam, mu in ((0.6, 0.10), (1.0, 0.13), (2.5, 0.16)):
        better = eliashberg_tc(broad(lam), mu, cutoff=45.0, min_frequencies=256)
        changes.append(abs(eliashberg_tc(broad(lam), mu) / better - 1))
    yield Row(
        "Tc: default against 3 × ω_c and 4 × the frequencies, λ 0.6 to 2.5", max(changes), 1e-3, "relative"
    )
    strong = eliashberg_tc(einstein(1e5), 0.0) / units.EV_KELVIN / (0.03 * np.sqrt(1e5))
    yield Row("λ → ∞: Tc/(ω√λ) from 0.1827", abs(strong / 0.1827 - 1), 1e-3, "relative")
    lams = np.array([0.2, 0.25, 0.3])
    bcs = 2 * np.exp(np.euler_gamma) / np.pi * np.exp(-0.5) * 0.03 * np.exp(-(1 + lams) / lams)
    ratio = np.array([eliashberg_tc(einstein(x), 0.0) for x in lams]) / units.EV_KELVIN / bcs
    limit = float(np.polyval(np.polyfit(lams, ratio, 2), 0.0))
    yield Row("λ → 0: Tc over the BCS form of an Einstein phonon, from 1", abs(limit - 1), 5e-3, "relative")
    weak = [gap_curve(einstein(x), 0.0, (0.2, 0.5, 0.9)).ratio for x in (0.25, 0.3, 0.35)]
    squared = np.array([eliashberg_tc(einstein(x), 0.0) for x in (0.25, 0.3, 0.35)]) ** 2
    limit = float(np.polyval(np.polyfit(squared, weak, 1), 0.0))
    yield Row("λ → 0: 2Δ₀/kTc from 3.528", abs(limit - 3.528), 0.01)
    worst = 0.0
    for lam, mu in ((0.5, 0.0), (1.0, 0.1), (2.0, 0.13)):
        curve = gap_curve(einstein(lam), mu, (0.5, 0.95, 0.98, 0.99))
        worst = max(worst, abs(curve.vanishing_kelvin / curve.tc_kelvin - 1))
    yield Row("linearised Tc against the vanishing of Δ(T)", worst, 2e-3, "relative")
    constant = ElectronicDos.constant()
    same = max(abs(eliashberg_tc_full_bandwidth(broad(x), constant, 0.1) / eliashberg_tc(broad(x), 0.1) - 1)
               for x in (0.8, 1.5))  # fmt: skip
    yield Row("N(ε) = constant: Tc against the equations of a constant DOS", same, 1e-8, "relative")
    yield Row("δTc/δα²F against finite differences", sensitivity_error(), 5e-3, "relative")


def sensitivity_error() -> float:
    """Largest relative error of the functional derivative at three energies."""
    spectrum, small = Spectrum(np.array([0.02, 0.05]), np.array([0.6, 0.5])), 1e-3
    worst = 0.0
    for omega in (0.01, 0.03, 0.045):
        slope = float(tc_sensitivity(spectrum, np.array([omega]), 0.1)[0])
        energies = np.append(spectrum.energies_ev, omega)
        low, high = (
            eliashberg_tc(Spectrum(energies, np.append(spectrum.lambdas, x)), 0.1) for x in (-small, small)
        )
        worst = max(worst, abs((high - low) / (small * omega) / slope - 1))
    return worst


def h3s() -> tuple[str, DynamicalMatrices, ElphMatrices]:
    """The finest H3S run of the examples."""
    names = [path.parent.name for path in LABELS.glob("harmonic*/elph_dir")]
    runs = {}
    for name in names:
        phonons = read_dyn(LABELS / name / "dyn0")
        runs[name] = (phonons, read_elph(LABELS / name / "elph_dir", phonons.primitive))
    best = max(runs, key=lambda name: int(np.prod(runs[name][1].dims)))
    return best, *runs[best]


def bootstrap() -> Iterator[Row]:
    """1000 samples of phonons, every formula, one μ*."""
    from himlip_ase.sscha.run.initial import positive_definite_start

    name, harmonic, elph = h3s()
    phonons, _ = positive_definite_start(harmonic)
    rng = np.random.default_rng(0)
    blocks = np.array([rng.normal() * 0.02 * phonons.matrices for _ in range(20)])
    start = time.perf_counter()
    samples = resampled_phonons(phonons, blocks, 1000)
    found = bootstrap_tc(elph, samples, (0.13,), FORMULAS.names(), 0.03)
    seconds = time.perf_counter() - start
    assert found.samples == 1000
    grid = "×".join(map(str, elph.dims))
    yield Row(f"H3S, {grid} q ({name}): Tc by all formulas with 1000 bootstrap samples", seconds, 10.0, "s")


def refusals() -> list[tuple[str, str]]:
    """What gives no number, and the reason that is printed."""
    found = []

    def reason(what: str, spectrum: Spectrum, mu_star: float = 0.1) -> None:
        entry = critical_temperature(spectrum, mu_star)
        found.append((what, entry.reason if isinstance(entry, NoTc) else f"GAVE A NUMBER: {entry}"))

    phonons = read_dyn(LABELS / "harmonic" / "dyn0")
    elph = read_elph(LABELS / "harmonic" / "elph_dir", phonons.primitive)
    reason("2×2×2 harmonic H3S, imaginary modes", mode_coupling(elph, phonons, 0.03).spectrum())
    reason("λ = 0.12 at μ* = 0.13", Spectrum(np.array([0.03]), np.array([0.12])), 0.13)
    omega = np.linspace(1, 100, 200)
    reason("negative α²F", spectrum_from_curve(omega, np.where(omega < 30, -0.3, 0.6), "meV"))
    try:
        al_phonons, _ = al()
        mode_coupling(elph, al_phonons)
        found.append(("dyn files of Al with G(q) of H3S", "GAVE A NUMBER"))
    except InputError as error:
        found.append(("dyn files of Al with G(q) of H3S", str(error)))
    return found


def main() -> None:
    """Measure everything, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "superconductivity")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if (AL / "al.dyn1").exists():
        phonons, elph = al()
        rows += [*published_al(phonons, elph), *programs(phonons, elph)]
    rows += [*eliashberg(), *bootstrap()]
    refused = refusals()
    lines = [
        "# Superconductivity: figures measured",
        "",
        "`python -m benchmarks.superconductivity.figures`",
    ]
    lines += ["", "| | measured | at most | unit | met |", "|---|---:|---:|---|---|"]
    lines += [f"| {r.what} | {r.measured:.2g} | {r.limit} | {r.unit} | {r.met} |" for r in rows]
    lines += [
        "",
        "| no number for | reason given |",
        "|---|---|",
        *(f"| {w} | {t} |" for w, t in refused),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    with atomic_write(arguments.results.with_suffix(".md"), overwrite=True) as stream:
        stream.write(text)
    data = {"figures": [asdict(r) | {"met": r.met} for r in rows], "refusals": dict(refused)}
    write_json(arguments.results.with_suffix(".json"), data, overwrite=True)


if __name__ == "__main__":
    main()
