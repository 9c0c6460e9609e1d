"""Small valid inputs of every kind that a user may bring, or a run leaves, and how each is read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

ROOT = Path(__file__).resolve().parents[2]
LABELS = ROOT / "examples" / "h3s" / "labels_k12"

Named = Callable[[str], Any]
"""Finds what a dotted name inside the package leads to."""


def current(name: str) -> Any:
    """What ``room.module.thing`` leads to in the package that is imported."""
    module, _, thing = name.rpartition(".")
    return getattr(importlib.import_module(f"himlip_ase.{module}"), thing)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes
    ----------
    name : str
    make : callable
        Writes a valid input into a folder.
    files : tuple of str
        Patterns of the files that are damaged in turn.
    read : callable
        Reads it: ``read(named, folder)``; `named` finds things of the package by their dotted name.
    sealed : bool
        A checksum covers the values, so that no change may pass.
    slow : bool
        Reading takes a good part of a second.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Named, Path], Any]
    sealed: bool = False
    slow: bool = False


def content(value: Any) -> Iterator[Any]:
    """Numbers, arrays and strings inside a value, in order."""
    if isinstance(value, Atoms):
        yield from (value.numbers, value.positions, np.asarray(value.cell), value.get_masses(), value.pbc)
    elif isinstance(value, np.ndarray):
        yield value
    elif hasattr(value, "detach"):
        yield value.detach().cpu().numpy()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from content(getattr(value, item.name))
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key)
            yield from content(value[key])
    elif isinstance(value, list | tuple | set | frozenset):
        yield len(value)
        for item in value:
            yield from content(item)
    elif isinstance(value, bool | int | float | complex | str | None | np.generic):
        yield value


def largest(values: np.ndarray) -> float:
    """Largest absolute value that is a number."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))


def same(first: Any, second: Any) -> bool:
    """Whether two values hold the same numbers and words, numbers to 1e-12 of the largest."""
    one, two = list(content(first)), list(content(second))
    if len(one) != len(two):
        return False
    for a, b in zip(one, two, strict=True):
        words = [isinstance(x, str) or x is None for x in (a, b)]
        if any(words):
            if not all(words) or a != b:
                return False
            continue
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            return False
        if a.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                return False
        elif not np.allclose(a, b, rtol=1e-12, atol=1e-12 * largest(a), equal_nan=True):
            return False
    return True


# -- what is read --------------------------------------------------------------------------------------------


def _frames(named: Named, path: Path) -> Any:
    found = named("labels.readers.read_labels")(path)
    return [[f.atoms, f.energy, f.forces, f.stress, f.hessian, getattr(f, "products", None)] for f in found]


def _model(named: Named, path: Path) -> Any:
    model = named("potential.checkpoint.load_model")(path)
    return [dict(model.state_dict()), model.cutoff, list(model.elements)]


def _config(named: Named, path: Path) -> Any:
    return named("pipeline.config.load_config")(path).resolved()


def _elph(named: Named, folder: Path) -> Any:
    read = named("superconductivity.elph_matrices.read_elph")
    dm = named("phonons.qe.read_dyn")(folder / "dyn")
    return read(folder / "elph_dir", dm.primitive)


def _unpacked(named: Named, folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as place:
        named("sscha.run.checkpoints.unpack_run")(folder / "run.zip", Path(place) / "run")
        return [
            (str(path.relative_to(place)), path.read_bytes().hex())
            for path in sorted(Path(place).rglob("*"))
            if path.is_file()
        ]


# -- how it is made ------------------------------------------------------------------------------------------


def _copy(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            for source in sorted(LABELS.glob(name)):
                target = folder / source.relative_to(LABELS / "harmonic")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    return make


def _pw(folder: Path) -> None:
    shutil.copy(ROOT / "tests" / "dft" / "data" / "al2.out", folder / "pw.out")


def _dft_run(folder: Path) -> None:
    run = folder / "000"
    run.mkdir()
    data = ROOT / "tests" / "dft" / "data"
    shutil.copy(data / "al2.in", run / "pw.in")
    shutil.copy(data / "al2.out", run / "pw.out")
    current("files.write_json")(run / "pw.json", {"index": 0, "set": "al"}, seal=True)


def _symmetric_constants() -> np.ndarray:
    """(3, 3, 2, 2, 2) of one atom on a simple cubic lattice: axes may be exchanged and reversed; sum zero."""
    values = np.random.default_rng(0).normal(size=(3, 3, 2, 2, 2)) + np.arange(8).reshape(2, 2, 2)
    orders = list(itertools.permutations(range(3)))
    turned = [values[np.ix_(o, o)].transpose(0, 1, *np.add(o, 2)) for o in orders]
    values = np.mean(turned, axis=0) * np.eye(3)[:, :, None, None, None]
    values[:, :, 0, 0, 0] -= values.sum(axis=(2, 3, 4))
    return values


def _jobs(folder: Path) -> None:
    """A list of jobs as ``--inputs-only`` writes it."""
    job = current("dft.espresso.inputs_only.ListedJob")
    jobs = [job("relax", None, "relax", "pw.x -in pw.in > pw.out")]
    jobs += [job(f"rattle-{k:03d}", None, f"rattle/{k:03d}", "pw.x -in pw.in > pw.out") for k in range(3)]
    jobs += [job("harmonic-scf", None, "harmonic", "pw.x -in scf.in > scf.out")]
    jobs += [job("harmonic-ph", "harmonic-scf", "harmonic", "ph.x -in ph.in > ph.out")]
    (folder / "jobs.tsv").write_text(current("dft.espresso.inputs_only.job_list")(jobs))
    for found in jobs:
        (folder / found.folder).mkdir(parents=True, exist_ok=True)


def _q2r(folder: Path) -> None:
    constants = _symmetric_constants()
    lines = ["  1    1   1   5.0000000  0.0000000  0.0000000  0.0000000  0.0000000  0.0000000"]
    lines += ["           1  'Al '    24590.7656", "    1    1      0.0 0.0 0.0", " F", "   2   2   2"]
    for i in range(3):
        for j in range(3):
            lines.append(f"   {i + 1}   {j + 1}   1   1")
            for m in np.ndindex(2, 2, 2):
                value = constants[(i, j, *m)]
                lines.append("   {}   {}   {}  {: .11E}".format(*(np.array(m[::-1]) + 1), value))
    (folder / "q2r.fc").write_text("\n".join(lines) + "\n")


def _xml_dyn(folder: Path) -> None:
    from tests.phonons.test_qe import as_xml, with_frequencies

    _copy("harmonic/dyn*")(folder)
    for number in (1, 2, 3):
        file = current("phonons.qe_text.read_dyn_file")(folder / f"dyn{number}")
        (folder / f"dyn{number}.xml").write_text(with_frequencies(as_xml(file), file))
        (folder / f"dyn{number}").unlink()


def _xml_fc(folder: Path) -> None:
    from ase.build import bulk

    from tests.phonons.test_qe import xml_fc

    values = _symmetric_constants().transpose(2, 3, 4, 0, 1)[None, None]
    (folder / "q2r.fc.xml").write_text(xml_fc(bulk("Al", "sc", a=2.65), 2.65, values))


def _phonopy(folder: Path) -> None:
    import phonopy
    from ase.build import bulk
    from phonopy.file_IO import write_FORCE_CONSTANTS, write_force_constants_to_hdf5, write_FORCE_SETS
    from phonopy.structure.atoms import PhonopyAtoms

    from tests.hint.toy import toy_labels

    cube = bulk("NaCl", "rocksalt", a=5.2)
    cell = PhonopyAtoms(symbols=cube.get_chemical_symbols(), cell=cube.cell, positions=cube.positions)
    phonon = phonopy.Phonopy(cell, [2, 1, 1], primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    phonon.forces = [
        toy_labels(Atoms(c.symbols, positions=c.positions, cell=c.cell, pbc=True))[1]
        for c in phonon.supercells_with_displacements
    ]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    phonon.save(folder / "phonopy_disp.yaml", settings={"force_sets": False, "force_constants": False})
    write_FORCE_SETS(phonon.dataset, filename=folder / "FORCE_SETS")
    write_FORCE_CONSTANTS(phonon.force_constants, filename=folder / "FORCE_CONSTANTS")
    write_force_constants_to_hdf5(phonon.force_constants, filename=folder / "force_constants.hdf5")
    phonon.save(folder / "phonopy_params.yaml", settings={"force_constants": True})


def _toy_frames() -> list[Any]:
    from ase.build import bulk

    from tests.hint.toy import rattled, toy_frame, toy_label

    cube = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cube, 3, 0.05)]
    return [dataclasses.replace(f, hessian=toy_label(f.atoms)) for f in frames]


def _extxyz(folder: Path) -> None:
    from ase.io import write

    images = []
    for frame in _toy_frames():
        atoms = frame.atoms.copy()
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = frame.energy, frame.forces
        atoms.info["REF_stress"] = frame.stress
        images.append(atoms)
    write(folder / "labels.extxyz", images)


def _store(folder: Path) -> None:
    current("labels.store.write_labels")(folder / "labels.h5", _toy_frames())


def _hessian(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from tests.hint.toy import toy_hessian

        stored = current("labels.hessian_file.StoredHessian")
        atoms = _toy_frames()[0].atoms
        found = stored(atoms, toy_hessian(atoms), np.arange(len(atoms)), "toy")
        current("labels.hessian_file.write_hessian")(folder / name, found)

    return make


def _small_model(folder: Path) -> None:
    config = current("potential.network.HiMLIPConfig")(elements=("H", "S"), channels=4, layers=1)
    model = current("potential.network.HiMLIP")(config)
    current("potential.checkpoint.save_model")(model, folder / "small.safetensors", {"licence": "MIT"})


def _yaml(folder: Path) -> None:
    shutil.copy(ROOT / "examples" / "h3s" / "h3s.yaml", folder / "crystal.yaml")


def _measured(folder: Path) -> None:
    shutil.copy(ROOT / "examples" / "hydrides" / "measured.yaml", folder / "measured.yaml")
    (folder / "measured.csv").write_text("compound,tc_kelvin,source\nH3S,203,a paper\nD3S,150,another\n")


def _training_yaml(folder: Path) -> None:
    (folder / "base.yaml").write_text(
        "training:\n  epochs: 200\n  learning_rate: 0.01\n  optimizer: soap\n"
        "network:\n  elements: [H, S]\n  channels: 8\n"
    )


def _curve(folder: Path) -> None:
    omega = np.linspace(0, 60, 121)
    alpha2f = np.exp(-(((omega - 30) / 8) ** 2)) * (omega / 30) ** 2 * (1 - omega / 60)
    lines = ["# E(THz)  alpha2F"] + [f"{w:12.6f} {a:14.8f}" for w, a in zip(omega, alpha2f, strict=True)]
    (folder / "alpha2F.dat").write_text("\n".join(lines) + "\n")


def _tc_results(folder: Path) -> None:
    from himlip_ase.superconductivity import Spectrum, TcOptions, analyse_curve, write_results

    spectrum = Spectrum(np.array([0.02, 0.05]), np.array([0.4, 0.6]))
    write_results(folder / "tc.json", [analyse_curve("curve", spectrum, TcOptions((0.1,), gap=True))])


def _printed_modes(folder: Path) -> None:
    from tests.superconductivity.test_printed_modes import write_run

    write_run(folder, "tetra")


def _dos(folder: Path) -> None:
    energy = np.linspace(-10, 10, 201)
    dos = 1 + 0.1 * np.cos(energy)
    rows = [
        f"{e:8.3f} {d:11.4E} {i:11.4E}" for e, d, i in zip(energy, dos, np.cumsum(dos) * 0.1, strict=True)
    ]
    (folder / "dos.dat").write_text(
        "#  E (eV)   dos(E)     Int dos(E) EFermi =    1.000 eV\n" + "\n".join(rows) + "\n"
    )


@functools.cache
def _distribution(named: Named = current) -> Any:
    from tests.sscha.toy import BondCrystal, cscl

    shells = [(6.0, -20.0, 120.0, -0.02), (2.0, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
    crystal = BondCrystal(cscl(c=2.9), (2, 1, 1), shells)
    start = named("sscha.run.initial.positive_definite_start")(crystal.harmonic())[0]
    return crystal, named("sscha.ensembles.sampling.HarmonicDistribution")(start, 250.0)


def _ensemble() -> Any:
    crystal, distribution = _distribution()
    stream = current("sscha.ensembles.draws.stream")
    return current("sscha.ensembles.ensemble.draw_ensemble")(distribution, 8, stream(0, 1), crystal)


def _python_sscha(text: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        current("sscha.exchange.python_sscha.write_python_sscha")(folder, _ensemble(), text=text)

    return make


_SSCHA = {"n_configurations": 40, "n_hessian_configurations": 40, "n_blocks": 4, "max_populations": 1}


def _sscha_run(folder: Path) -> None:
    crystal, _ = _distribution()
    settings = current("sscha.SschaSettings")(**_SSCHA)
    current("sscha.run_sscha")(crystal.harmonic(), crystal, settings, folder / "run")


def _sscha_state(folder: Path) -> None:
    """A run that was stopped before its result was written."""
    _sscha_run(folder)
    for path in (folder / "run").glob("result.*"):
        path.unlink()


def _ensemble_file(folder: Path) -> None:
    ensemble = _ensemble()
    current("sscha.exchange.extxyz.write_extxyz")(folder / "ensemble.extxyz", ensemble)
    current("sscha.exchange.phonopy.write_phonopy_dataset")(folder / "ensemble.yaml", ensemble)


def _posterior(folder: Path) -> None:
    import torch

    noise = current("hint.last_layer.evidence.Noise")
    posterior = current("hint.last_layer.posterior.Posterior")
    root = torch.eye(5, dtype=torch.float64)
    posterior(root, noise(), "readout", 0, {}).save(folder / "posterior.safetensors")


def _label_folder(folder: Path) -> None:
    for name in ("crystal.extxyz", "rattle013.extxyz", "rattle013.json", "pseudopotentials.json"):
        shutil.copy(LABELS / name, folder)
    _copy("harmonic/dyn*")(folder)
    shutil.copy(LABELS / "harmonic" / "provenance.json", folder)
    harmonic = folder / "harmonic"
    harmonic.mkdir()
    for path in (*folder.glob("dyn*"), folder / "provenance.json"):
        path.rename(harmonic / path.name)


def _packed(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        _sscha_run(Path(place))
        current("sscha.run.checkpoints.pack_run")(Path(place) / "run", folder / "run.zip")


def _training(folder: Path, resume: bool = False, named: Named = current) -> Any:
    settings = named("hint.training.settings.TrainingSettings")
    network = named("potential.network.HiMLIPConfig")(elements=("Cl", "Na"), channels=4, layers=1)
    frames = [dataclasses.replace(frame, hessian=None) for frame in _toy_frames()]
    with _quiet():
        return named("hint.training.finetune.finetune")(
            frames,
            network=network,
            settings=settings.from_dict(
                {"epochs": 2, "batch_size": 2, "polish": {"rounds": 0}, "device": "cpu"}
            ),
            folder=folder / "tuned",
            resume=resume,
        )


def _resumed_training(named: Named, folder: Path) -> Any:
    _training(folder, True, named)
    return _model(named, folder / "tuned" / "model.safetensors")


def _resumed_sscha(named: Named, folder: Path) -> Any:
    crystal, _ = _distribution(named)
    settings = named("sscha.SschaSettings")(**_SSCHA)
    result = named("sscha.run_sscha")(crystal.harmonic(), crystal, settings, folder / "run", resume=True)
    return [result.free_energy, result.auxiliary.matrices, result.hessian.matrices]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _results(folder: Path) -> None:
    run = current("pipeline.runfolder.RunFolder")(folder / "run")
    run.write_config({"name": "toy"})
    figure = current("pipeline.runfolder.Figure")
    record = current("pipeline.runfolder.StageRecord")
    run.write_record(record("phonons", "0" * 64, {}, {"rmse": figure(0.4, "cm-1", 0.1, "toy")}, [], 1.0, 1.0))
    run.write_results("toy", ["phonons"])


def _volume(folder: Path) -> None:
    """A volume of a quasi-harmonic scan of one atom."""
    numbers = {"strain": 0.0, "volume": 11.5, "energy": -0.01}
    arrays = {
        "dims": [2, 2, 2],
        "mesh": [1, 1, 1],
        "start": np.eye(3),
        "cell": np.eye(3),
        "lengths": [1.0] * 3,
    }
    rows = {
        "positions": np.zeros((1, 3)),
        "frequencies": np.ones((1, 3)),
        "grid_frequencies": np.ones((8, 3)),
    }
    np.savez(folder / "volume_00.npz", **numbers, **arrays, **rows)


KINDS: tuple[Kind, ...] = (
    Kind(
        "volume of a quasi-harmonic scan",
        _volume,
        ("volume_00.npz",),
        lambda n, d: n("phonons.quasi_harmonic.read_volume")(d / "volume_00.npz"),
    ),
    Kind("pw.x output", _pw, ("pw.out",), lambda n, d: _frames(n, d / "pw.out")),
    Kind("DFT run folder", _dft_run, ("000/*",), lambda n, d: n("dft.espresso.runs.read_run")(d / "000")),
    Kind("job list", _jobs, ("jobs.tsv",), lambda n, d: n("dft.espresso.inputs_only.read_jobs")(d)),
    Kind("dyn files", _copy("harmonic/dyn*"), ("dyn*",), lambda n, d: n("phonons.qe.read_dyn")(d / "dyn")),
    Kind("q2r.x force constants", _q2r, ("q2r.fc",), lambda n, d: n("phonons.q2r.read_q2r")(d / "q2r.fc")),
    Kind("XML dyn files", _xml_dyn, ("dyn*.xml",), lambda n, d: n("phonons.qe.read_dyn")(d / "dyn")),
    Kind("q2r.x XML", _xml_fc, ("q2r.fc.xml",), lambda n, d: n("phonons.q2r.read_q2r")(d / "q2r.fc.xml")),
    *(
        Kind(
            f"phonopy {name}",
            _phonopy,
            (name,),
            lambda n, d, name=name: n("phonons.phonopy_files.read_force_constants")(d / name),
            slow=True,
        )
        for name in ("FORCE_CONSTANTS", "force_constants.hdf5", "phonopy_params.yaml", "phonopy_disp.yaml")
    ),
    Kind(
        "phonopy FORCE_SETS",
        _phonopy,
        ("FORCE_SETS", "phonopy_disp.yaml"),
        lambda n, d: _frames(n, d / "FORCE_SETS"),
    ),
    Kind("extxyz labels", _extxyz, ("labels.extxyz",), lambda n, d: _frames(n, d / "labels.extxyz")),
    Kind("HDF5 label store", _store, ("labels.h5",), lambda n, d: _frames(n, d / "labels.h5")),
    *(
        Kind(
            f"Hessian {suffix}",
            _hessian(f"hessian{suffix}"),
            (f"hessian{suffix}",),
            lambda n, d, suffix=suffix: n("labels.hessian_file.read_hessian")(d / f"hessian{suffix}"),
            sealed=suffix == ".npz",
        )
        for suffix in (".npz", ".h5")
    ),
    Kind("model", _small_model, ("*",), lambda n, d: _model(n, d / "small.safetensors"), sealed=True),
    Kind("run YAML", _yaml, ("crystal.yaml",), lambda n, d: _config(n, d / "crystal.yaml")),
    Kind(
        "training YAML",
        _training_yaml,
        ("base.yaml",),
        lambda n, d: n("hint.training.config.read_training_config")(d / "base.yaml"),
    ),
    Kind(
        "α²F curve",
        _curve,
        ("alpha2F.dat",),
        lambda n, d: n("superconductivity.curve_files.read_alpha2f")(d / "alpha2F.dat", "THz"),
    ),
    Kind(
        "λ of ph.x's own modes",
        _printed_modes,
        ("al.dyn*",),
        lambda n, d: [
            (s.energies_ev, s.lambdas)
            for s in n("superconductivity.printed_modes.read_printed_modes")(d).spectra
        ],
    ),
    Kind(
        "Tc results",
        _tc_results,
        ("tc.json",),
        lambda n, d: [
            item.to_record() for item in n("superconductivity.output_files.read_results")(d / "tc.json")[0]
        ],
    ),
    Kind(
        "electronic DOS",
        _dos,
        ("dos.dat",),
        lambda n, d: n("superconductivity.electronic_dos.read_electronic_dos")(d / "dos.dat"),
    ),
    Kind("electron-phonon files", _copy("harmonic/dyn*", "harmonic/elph_dir/*"), ("elph_dir/*",), _elph),
    *(
        Kind(
            f"python-sscha ensemble, {form}",
            _python_sscha(form == "text"),
            ("*",),
            lambda n, d: n("sscha.exchange.python_sscha.read_python_sscha")(d),
        )
        for form in ("binary", "text")
    ),
    Kind(
        "ensemble as extxyz",
        _ensemble_file,
        ("ensemble.extxyz",),
        lambda n, d: n("sscha.exchange.extxyz.read_extxyz")(d / "ensemble.extxyz", _distribution(n)[1]),
    ),
    Kind(
        "ensemble as phonopy data set",
        _ensemble_file,
        ("ensemble.yaml",),
        lambda n, d: n("sscha.exchange.phonopy.read_phonopy_dataset")(
            d / "ensemble.yaml", _distribution(n)[1]
        ),
    ),
    Kind(
        "label folder",
        _label_folder,
        ("*.json", "harmonic/provenance.json"),
        lambda n, d: n("pipeline.labels.LabelFolder")(d).core_minutes(),
    ),
    Kind(
        "measured values",
        _measured,
        ("measured.yaml", "measured.csv"),
        lambda n, d: [
            n("pipeline.comparison.measured.read_measured")(d / f"measured.{end}") for end in ("yaml", "csv")
        ],
    ),
    Kind(
        "posterior",
        _posterior,
        ("posterior.safetensors",),
        lambda n, d: [
            n("hint.last_layer.posterior.Posterior").load(d / "posterior.safetensors").root,
        ],
    ),
    Kind("packed SSCHA run", _packed, ("run.zip",), _unpacked, sealed=True),
    Kind("SSCHA result", _sscha_run, ("run/result.*",), lambda n, d: n("sscha.load_result")(d / "run")),
    Kind("state of an SSCHA run", _sscha_state, ("run/state/*",), _resumed_sscha, slow=True),
    Kind(
        "checkpoint of a training",
        lambda folder: _training(folder) and None,
        ("tuned/state/*", "tuned/model.*"),
        _resumed_training,
        slow=True,
    ),
    Kind(
        "results.json of a run",
        _results,
        ("run/results.json",),
        lambda n, d: n("pipeline.runfolder.RunFolder").existing(d / "run").read_results(),
    ),
    Kind(
        "record of a stage",
        _results,
        ("run/state/phonons.json",),
        lambda n, d: n("pipeline.runfolder.RunFolder").existing(d / "run").read_record("phonons"),
    ),
)
