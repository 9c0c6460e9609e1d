"""What the report says of superconductivity: tables of λ and Tc, what they are uncertain by, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.pipeline import figures
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.document import Document, Heading, Paragraph, Picture, Table, number
from himlip_ase.pipeline.runfolder import Figure
from himlip_ase.pipeline.tc import NAMES, SPECTRA, TABLES, name_of
from himlip_ase.superconductivity.gap import GapCurve
from himlip_ase.superconductivity.plateau import SigmaPlateau
from himlip_ase.superconductivity.q_mesh import QMeshRow, row_from_dict
from himlip_ase.superconductivity.spectrum import Problem, Spectrum
from himlip_ase.superconductivity.tables import METHOD_NAMES, budget_rows, methods_of, mu_stars_of
from himlip_ase.superconductivity.tc import NoTc, TcTable, table_from_dict

Quoted = Mapping[str, Figure]


def read_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """What the ``tc`` stage found, by the key of the phonons; empty if there is nothing."""
    path = folder / TABLES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_spectra(folder: Path) -> dict[str, Spectrum]:
    """Spectra that the ``tc`` stage left, by the key of their phonons."""
    found = {}
    if (folder / SPECTRA).is_file():
        with np.load(folder / SPECTRA) as data:
            for key, table in read_tables(folder).items():
                problems = tuple(Problem("imaginary", text) for text in table["problems"])
                energies, lambdas = data[f"{key}.energies_ev"], data[f"{key}.lambdas"]
                if len(energies):
                    found[key] = Spectrum(energies, lambdas, problems)
    return found


def variants(tables: Mapping[str, Any]) -> list[str]:
    """Isotope labels: "" for the natural masses, then the isotopes and further grids."""
    return list(dict.fromkeys(key.partition(".")[2] for key in tables))


def headline(document: Document, config: RunConfig, quoted: Quoted, tables: Mapping[str, Any]) -> None:
    """λ, ω_log and Tc of each set of phonons; isotopes; published values; why some have no Tc."""
    for variant in variants(tables):
        keys = [k for k in (f"{kind}.{variant}".rstrip(".") for kind in NAMES) if f"lambda.{k}" in quoted]
        rows = [["λ", *(cell(quoted, f"lambda.{key}") for key in keys)]]
        rows.append(["ω_log", *(cell(quoted, f"omega_log.{key}") for key in keys)])
        for method in config.tc.methods:
            for mu in config.tc.mu_star:
                label = f"Tc, {METHOD_NAMES[method]}, μ* = {mu:.2f}"
                rows.append([label, *(cell(quoted, f"tc.{key}.{method}.mu{mu:.2f}") for key in keys)])
        for mu in config.tc.mu_star:
            name = f"eliashberg-dos.mu{mu:.2f}"
            if any(f"tc.{key}.{name}" in quoted for key in keys):
                label = f"Tc, Migdal–Eliashberg with N(ε), μ* = {mu:.2f}"
                rows.append([label, *(cell(quoted, f"tc.{key}.{name}") for key in keys)])
        rows.append(["2Δ/kTc", *(cell(quoted, f"two_delta_over_kTc.{key}") for key in keys)])
        if not any(rows[-1][1:]):
            rows.pop()
        title = variant.replace("grid_", "SSCHA grid ").replace("x", "×") if variant else ""
        document.add(
            Table([title, *(NAMES[k.partition(".")[0]] for k in keys)], rows, range(1, 1 + len(keys)))
        )
    _isotope_rows(document, config, quoted)
    if config.tc.published:
        rows = [[item.what, item.value, item.source] for item in config.tc.published]
        document.add(Table(["published or measured", "", "source"], rows, [1]))
    reasons = []
    for name, figure in quoted.items():
        if name.startswith("tc.") and figure.value is None:
            key = name[3:].split(".mu")[0].rpartition(".")[0]
            why = figure.how.partition("no Tc: ")[2] or figure.how
            reasons.append(f"{name_of(key) if key in tables else 'all'}: {why}")
    if reasons:
        text = "; ".join(dict.fromkeys(reasons))
        document.add(
            Paragraph(f"Where there is no Tc: {text}. λ and ω_log there are of the stable modes alone.")
        )


def _isotope_rows(document: Document, config: RunConfig, quoted: Quoted) -> None:
    rows = []
    for isotope in config.anharmonic.isotopes:
        for kind in ("hessian", "auxiliary"):
            for mu in config.tc.mu_star:
                names = [f"isotope_coefficient.{isotope}.{kind}.{m}.mu{mu:.2f}" for m in config.tc.methods]
                if any(name in quoted for name in names):
                    label = f"{isotope}, {NAMES[kind]}, μ* = {mu:.2f}"
                    rows.append([label, *(cell(quoted, name) for name in names)])
    if rows:
        columns = ["isotope coefficient", *(METHOD_NAMES[m] for m in config.tc.methods)]
        document.add(Table(columns, rows, range(1, len(columns))))


def cell(quoted: Quoted, name: str) -> str:
    """A quoted figure for a table: value ± uncertainty and unit; "no Tc" or "–" where it has no value."""
    figure = quoted.get(name)
    if figure is None:
        return ""
    if figure.value is None:
        return "no Tc" if name.startswith("tc.") else "–"
    return f"{number(figure.value, figure.uncertainty)} {figure.unit}".strip()


def uncertainty(document: Document, tables: Mapping[str, Any], quoted: Quoted, place: Path) -> None:
    """One table and one figure of what makes λ and Tc uncertain, for the phonons of interest."""
    key = next((k for k in ("hessian", "auxiliary", "harmonic") if _has_tc(tables.get(k))), None)
    if key is None:
        return
    data = tables[key]
    table = table_from_dict(data)
    methods, values = methods_of(table), mu_stars_of(table)
    middle = values[len(values) // 2]
    rows = [
        [name, "" if size is None else number(size), *("" if k is None else number(k) for k in kelvins)]
        for name, size, kelvins in budget_rows(table)
    ]
    columns = ["source", "λ", *(f"{METHOD_NAMES[m]} (K)" for m in methods)]
    document.add(
        Heading(f"What makes Tc uncertain ({name_of(key)}, μ* = {middle:g})"),
        Table(columns, rows, range(1, len(columns))),
    )
    mesh = [row_from_dict(row) for row in data.get("q_mesh", [])]
    if mesh:
        columns = ["q-grid of G", "sum over", "λ", "ω_log (K)", f"Tc, Allen–Dynes, μ* = {middle:g} (K)"]
        document.add(Table(columns, [_mesh_row(row) for row in mesh], range(2, 5)))
    plateaus = {
        name_of(k): SigmaPlateau.from_dict(t["sigma_plateau"])
        for k, t in tables.items()
        if "." not in k and "sigma_plateau" in t
    }
    sigma = quoted.get("sigma")
    chosen = None if sigma is None or sigma.value is None else float(sigma.value)
    document.add(
        Picture(
            figures.tc_uncertainty(place, table, mesh, plateaus, chosen),
            "Left: λ against the broadening for each set of phonons, its plateau thick; one σ serves all. "
            "Middle: λ against the q-mesh, for each q-grid of G. Right: sources of the uncertainty of Tc.",
        )
    )
    document.add(Paragraph(limits(data, mesh, quoted)))


def _has_tc(data: Mapping[str, Any] | None) -> bool:
    return bool(data) and any(item["value"] is not None for item in data["tc"])  # type: ignore[index]


def _mesh_row(row: QMeshRow) -> list[str]:
    grid, mesh = ("×".join(map(str, dims)) for dims in (row.elph_dims, row.mesh))
    tc = number(row.kelvin) if np.isfinite(row.kelvin) else "no Tc"
    how = f"{mesh}, interpolated" if row.interpolated else "the grid itself"
    return [grid, how, number(row.lambda_total), number(row.omega_log_k), tc]


def limits(data: Mapping[str, Any], mesh: list[QMeshRow], quoted: Quoted) -> str:
    """What the error bars do not hold, and what limits a comparison with measurements."""
    pressures = [quoted[name] for name in ("pressure", "pressure_quantum") if name in quoted]
    pressure = "a static lattice pressure, which zero-point motion raises"
    if len(pressures) == 2:
        static, quantum = (number(p.value, p.uncertainty) for p in pressures)
        pressure = (
            f"a crystal of {static} GPa static pressure, which zero-point motion raises to {quantum} GPa"
        )
    text = (
        "These error bars do not hold: the k-grid of the double delta beyond its σ-plateau; the Coulomb "
        "interaction, which enters as a number μ* alone; the average over the Fermi surface (isotropic "
        f"equations); {pressure}; G(q) of the undisplaced crystal (linear coupling); and the functional. "
    )
    if len({row.elph_dims for row in mesh}) > 1:
        text += (
            "Half the change from the coarser to the finer q-grid stands for what is left beyond the finer. "
        )
    else:
        text += "There is a single q-grid, whose error is bounded from below only, by the weight of Γ. "
    plateau = data.get("sigma_plateau")
    if plateau is not None and not plateau["found"]:
        text += "There is no plateau in σ, so that the spread over the flattest window is a lower bound. "
    return text.strip()


def pictures(document: Document, folder: Path, place: Path) -> None:
    """α²F, Tc against μ*, Δ(T)."""
    tables, spectra = read_tables(folder), read_spectra(folder)
    if not spectra:
        return
    document.add(Heading("Electron-phonon coupling"))
    for variant in variants(spectra):
        mine = {name_of(k): s for k, s in spectra.items() if k.partition(".")[2] == variant}
        name = "alpha2f" + (f"_{variant}" if variant else "")
        caption = "α²F (filled) and λ summed up to ω (dashed)" + (f", {variant}." if variant else ".")
        document.add(Picture(figures.alpha2f(place, mine, name), caption))
    drawn: dict[str, TcTable] = {}
    for key, data in tables.items():
        table = table_from_dict(data)
        if data["refusal"]:
            refused = tuple(NoTc(e.method, e.mu_star, data["refusal"]) for e in table.results)
            table = TcTable(table.lambda_total, table.omega_log_k, table.omega_2_k, refused, (), ())
        drawn[key] = table
    named = {name_of(k): t for k, t in drawn.items() if k.partition(".")[0] != "auxiliary"}
    if any(not isinstance(entry, NoTc) for table in named.values() for entry in table.results):
        document.add(
            Picture(figures.tc_mu_star(place, named), "Tc against μ*, which is meant at the highest phonon.")
        )
    gaps = {
        name_of(key): GapCurve.from_dict(data["gap"])
        for key, data in tables.items()
        if "gap" in data and not data["refusal"] and not key.startswith("auxiliary")
    }
    if gaps:
        caption = (
            "Gap from the non-linear Migdal–Eliashberg equations at the first μ*: edge on the real axis by "
            "Padé (full), at the first Matsubara frequency (dotted)."
        )
        document.add(Picture(figures.gap(place, gaps), caption))
