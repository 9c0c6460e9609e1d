"""The ``report`` stage: pictures, ``report.md``, ``report.html`` from what the other stages left."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from himlip_ase.figure_style import with_mev
from himlip_ase.files import atomic_write, read_arrays, read_mapping, read_yaml
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline import figures, sscha_report, tc_report
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.document import Document, Files, Heading, Link, Paragraph, Picture, Table, number
from himlip_ase.pipeline.finetune import PAIRS
from himlip_ase.pipeline.known import first_lines, read_gate
from himlip_ase.pipeline.labels import VALIDATION, LabelFolder, label_folder
from himlip_ase.pipeline.phonons import HIMLIP_DYN, WELL
from himlip_ase.pipeline.run_facts import run_facts
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.sscha import grid_folders
from himlip_ase.pipeline.stages import Context, Outcome, Stage
from himlip_ase.pipeline.tc_cases import TcResults

logger = logging.getLogger(__name__)

AGAIN = "delete it and --resume"
BEFORE = ("labels", "finetune", "phonons", "sscha", "tc")


def _run(context: Context, folder: Path) -> Outcome:
    outcome = Outcome()
    costs = cost_rows(context)
    for name, (value, unit, how) in costs.items():
        outcome.add(name, value, unit, how)
    write_report(context, outcome)
    return outcome


def write_report(context: Context, extra: Outcome | None = None) -> Path:
    """Draw everything again and write ``report.md`` and ``report.html``.

    Parameters
    ----------
    context : Context
    extra : Outcome, optional
        Of the stage that is not recorded yet.

    Returns
    -------
    Path
        ``report.html``.
    """
    folder, labels = context.folder, label_folder(context)
    quoted: dict[str, Figure] = {}
    notes: list[str] = []
    for stage in (*BEFORE, "report"):
        record = folder.read_record(stage)
        if record is not None:
            quoted |= record.figures
            notes += record.notes
    if extra is not None:
        quoted |= extra.figures
    document = Document(f"{context.config.name}: anharmonic phonons and Tc")
    results = TcResults.read(context.of("tc"))
    first_lines(document, quoted, results, read_gate(folder))
    _headline(document, context.config, quoted, notes, results)
    facts = run_facts(context, quoted).rows()
    document.add(Heading("Crystal and calculation"), Table(["", ""], facts))
    _pictures(document, context, labels, quoted, results)
    _costs(document, labels, quoted)
    without = {name for name, f in quoted.items() if f.value is None and name.startswith("tc.")}
    withheld = without if results.of_interest() is None else set()
    rows = [
        [name, number(f.value, f.uncertainty), f.unit, f.how]
        for name, f in quoted.items()
        if name not in withheld
    ]
    if withheld:
        how = f"{len(withheld)} figures without a value, each with its reason in results.json"
        rows.append(["tc.…", number(None), "K", how])
    document.add(
        Heading("All figures"),
        Table(["figure", "value", "unit", "how it was obtained"], rows, numbers=[1]),
        Heading("How to go on"),
        Paragraph(
            "After a change, --resume does again what depends on it; --from STAGE redoes it and all after "
            "it. These files lie beside this page:"
        ),
        Files([(Link(name, name), what) for name, what in BESIDE.items() if (folder.path / name).exists()]),
    )
    for name, text in (("report.md", document.markdown(folder.path)), ("report.html", document.html())):
        with atomic_write(folder.path / name, overwrite=True) as stream:
            stream.write(text)
    return folder.path / "report.html"


BESIDE = {
    "config.yaml": "all that decided this run",
    "versions.json": "what computed it",
    "figures": "every picture as PNG and PDF, beside the numbers that it shows",
    "state": "data of each stage: dyn files for QE and CellConstructor, phonopy_params*.yaml for phonopy",
}
"""What the report leads to, where it is there."""


def report_again(path: str | Path) -> Path:
    """Write the report of a run folder again, from its finished stages; see `write_report`."""
    from himlip_ase.pipeline.config import build_config

    folder = RunFolder.existing(path)
    config = build_config(read_yaml(folder.path / "config.yaml"), "config.yaml")
    with folder.session():
        return write_report(Context(config, folder))


def _headline(
    document: Document,
    config: RunConfig,
    quoted: dict[str, Figure],
    notes: list[str],
    results: TcResults,
) -> None:
    cell = partial(_cell, quoted)
    if results.cases:
        document.add(Heading("Tc"))
        tc_report.headline(document, config, results)
    rows = [
        ["lowest optical mode at Γ, DFT harmonic", cell("gamma_optical_lowest.dft")],
        ["the same, Hi-MLIP harmonic", cell("gamma_optical_lowest.with_hessian")],
        ["the same, SSCHA auxiliary", cell("gamma_optical_lowest.auxiliary")],
        ["the same, free-energy Hessian", cell("gamma_optical_lowest.hessian")],
        ["lowest mode of the free-energy Hessian on the grid", cell("hessian_lowest")],
        ["harmonic frequencies, RMSE against DFT", cell("harmonic_rmse.with_hessian")],
        ["harmonic frequencies, largest error", cell("harmonic_largest_error.with_hessian")],
        *(
            [f"the same on {name.split('.')[0]}", cell(name)]
            for name in quoted
            if name.endswith(".harmonic_rmse.with_hessian")
        ),
        ["the same of the network, without its remainder", cell("harmonic_rmse.without_remainder")],
        ["free energy above the static lattice", cell("free_energy")],
    ]
    rows = [row for row in rows if row[1]]
    if rows:
        document.add(Heading("Phonons in numbers"), Table(["quantity", "value"], rows, numbers=[1]))
    document.add(
        Paragraph("Imaginary frequencies are shown negative. ± is one standard error unless said otherwise.")
    )
    for note in dict.fromkeys(notes):
        document.add(Paragraph(note))


def _cell(quoted: dict[str, Figure], name: str) -> str:
    """A quoted figure for a table: value ± uncertainty and unit; "–" where it has no value, "" without it."""
    figure = quoted.get(name)
    if figure is None:
        return ""
    if figure.value is None:
        return "–"
    text = f"{number(figure.value, figure.uncertainty)} {figure.unit}".strip()
    return f"{text} ({with_mev(figure.value, figure.uncertainty)})" if figure.unit == "cm⁻¹" else text


def _pictures(
    document: Document,
    context: Context,
    labels: LabelFolder,
    quoted: dict[str, Figure],
    results: TcResults,
) -> None:
    place = context.folder.figures
    phonons, sscha = context.of("phonons"), context.of("sscha")
    check, harmonic = labels.k_check(), labels.harmonic
    errors = None if check is None else check.errors(harmonic)
    left: dict[str, Any] = {"DFT harmonic": (harmonic, errors, figures.HARMONIC)}
    right: dict[str, Any] = {}
    if (phonons / f"{HIMLIP_DYN}0").is_file():
        own: DynamicalMatrices = read_dyn(phonons / f"{HIMLIP_DYN}0")
        left["Hi-MLIP harmonic"] = (own, None, figures.POTENTIAL)
    if (sscha / "result.json").is_file():
        from himlip_ase.sscha.results.result import load_result

        result = load_result(sscha)
        looks = figures.LOOKS
        right["SSCHA auxiliary"] = (result.auxiliary, result.auxiliary_sigma_cm, looks["auxiliary"])
        if result.hessian is not None:
            right["free-energy Hessian"] = (result.hessian, result.hessian_sigma_cm, looks["hessian"])
    drawn = figures.bands(place, {"harmonic": left, "anharmonic": right})
    document.add(Heading("Phonons"))
    for name, path in drawn.items():
        document.add(Picture(path, BANDS[name] if name != "harmonic" or errors is None else BANDS_K))
    if (phonons / WELL).is_file():
        wells = read_mapping(phonons / WELL, AGAIN)
        double = figures.is_double_well(wells)
        title = "Double well of the softest mode at Γ" if double else "Energy along the softest mode at Γ"
        document.add(Heading(title))
        first = "Energy along the mode" if double else "A single well"
        first += ". The curves were not fitted to the points. No ±: single points carry no noise, and the "
        first += "error of the potential is what lies between."
        captions = [first, "The same near the bottom."]
        for path, caption in zip(figures.double_well(place, wells), captions, strict=False):
            document.add(Picture(path, caption))
    if right:
        from himlip_ase.sscha.results.plots import state

        after = f"{state(result)} after {len(result.populations)} populations"
        document.add(Heading("SSCHA"), Paragraph(f"The SSCHA: {after}."))
        for name, path in figures.sscha(place, result).items():
            document.add(Picture(path, SSCHA_CAPTIONS[name]))
    sscha_report.corrected_modes(document, sscha)
    for dims, folder in grid_folders(context).items():
        sscha_report.corrected_modes(document, folder, f" of the SSCHA on {'×'.join(map(str, dims))}")
    sscha_report.runs(document, context.config, quoted)
    tc_report.pictures(document, results, place)
    tc_report.uncertainty(document, results, quoted, place)
    pairs_path = context.of("finetune") / PAIRS
    if pairs_path.is_file():
        pairs = read_arrays(pairs_path, AGAIN)
        for name in labels.sets():
            if name.startswith(VALIDATION):
                document.add(Heading(f"Forces on supercells never trained on ({name})"))
                for how, path in figures.parity(place, pairs, name).items():
                    caption = f"Potential trained {how} against DFT, whose forces carry no noise."
                    document.add(Picture(path, caption))


BANDS = {
    "harmonic": "Harmonic, DFT and potential. Lines are Fourier-interpolated from the q-grid. No ±: the "
    "labels have no k-check.",
    "anharmonic": "SSCHA auxiliary, positive by construction, and free-energy Hessian, from which stability "
    "is read. Marks: points of the q-grid with ±1σ of the sampling; lines between them are interpolated.",
}
"""Captions of the pictures of bands."""
BANDS_K = (
    "Harmonic, DFT and potential. Marks: points of the q-grid with the error that the k-mesh leaves; lines "
    "between them are interpolated."
)
SSCHA_CAPTIONS = {
    "sscha_free_energy": "Free energy with ±1σ.",
    "sscha_gradient": "Gradient and its stochastic error.",
    "sscha_kong_liu": "Kong-Liu ratio; it has no error, being a count of the ensemble at hand.",
    "sscha_auxiliary": "Auxiliary frequencies of the supercell on the way; their ± is in the next picture.",
    "sscha_frequencies": "Frequencies with ±1σ at each q-point of the grid.",
}


def cost_rows(context: Context) -> dict[str, tuple[float, str, str]]:
    """What the labels cost, and what the same SSCHA on DFT forces would have."""
    labels = label_folder(context)
    minutes, counts = labels.core_minutes(), labels.counts()
    trained = [name for name in labels.training_sets() if name in minutes]
    learnt = minutes.get("harmonic", 0.0) + sum(minutes[name] for name in trained)
    rows: dict[str, tuple[float, str, str]] = {
        "cost.labels": (
            learnt,
            "core-min",
            f"DFT of the harmonic run and of {', '.join(trained) or 'no other set'}",
        )
    }
    record = context.folder.read_record("sscha")
    validation = [name for name in minutes if name.startswith(VALIDATION)]
    if record is not None and validation and counts[validation[0]][0]:
        each = minutes[validation[0]] / counts[validation[0]][0]
        calls = int(record.figures["sscha_force_calls"].value)
        rows["cost.dft_sscha"] = (
            each * calls,
            "core-min",
            f"{calls} supercells of {counts[validation[0]][1]} atoms at the {each:.1f} core-min that one of "
            f"set '{validation[0]}' took",
        )
    for stage in BEFORE:
        done = context.folder.read_record(stage)
        if done is not None and stage != "labels":
            rows[f"cost.{stage}"] = (
                done.cpu_seconds / 60,
                "core-min",
                f"CPU time of the stage {stage} in this run",
            )
    return rows


def _costs(document: Document, labels: LabelFolder, quoted: dict[str, Figure]) -> None:
    counts = labels.counts()
    rows = []
    for name, minutes in labels.core_minutes().items():
        use = "harmonic Hessian, G(q)" if name == "harmonic" else "judging only"
        if name != "harmonic" and name in labels.harmonic_runs():
            use = "G(q) on a finer q-grid"
        if name in labels.training_sets():
            use = "training"
        frames = f"{counts[name][0]} × {counts[name][1]} atoms" if name in counts else ""
        rows.append([name, frames, use, number(minutes)])
    columns = ["DFT labels", "frames", "used for", "core-min"]
    document.add(Heading("Cost"), Table(columns, rows, numbers=[3]))
    rows = [[f.how, number(f.value)] for name, f in quoted.items() if name.startswith("cost.")]
    document.add(Table(["in all", "core-min"], rows, numbers=[1]))
    if "cost.dft_sscha" in quoted and "cost.labels" in quoted:
        ratio = quoted["cost.dft_sscha"].value / max(quoted["cost.labels"].value, 1e-9)
        document.add(
            Paragraph(
                f"The same SSCHA on DFT forces would have taken {ratio:.0f} times the DFT of the labels."
            )
        )


def _inputs(context: Context) -> list[Any]:
    return []


STAGE = Stage("report", _run, _inputs)
