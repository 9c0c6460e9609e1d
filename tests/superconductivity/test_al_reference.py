"""fcc Al: QE's own published table, and lambda.x and matdyn.x run on the same files."""

from __future__ import annotations

import gzip
import shutil
import subprocess

import numpy as np
import pytest

from himlip_ase.superconductivity.coupling import interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.elph_matrices import ElphMatrices, read_elph
from himlip_ase.superconductivity.qe_outputs import read_a2f_dos, read_a2fmatdyn, read_lambda_table
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import Tc
from tests.superconductivity.material import AL, AL_STARS, al_phonons, al_primitive, needs_al, text_of

pytestmark = needs_al

# σ (Ry): λ, ω_log (K), Tc (K) at μ* = 0.10; QE test-suite, ph_metal, lambda.x
PUBLISHED = {
    0.010: (0.43490, 352.86, 2.311),
    0.020: (0.39772, 336.03, 1.365),
    0.030: (0.36695, 328.92, 0.812),
    0.050: (0.38379, 321.63, 1.057),
}


@pytest.fixture(scope="module")
def elph() -> ElphMatrices:
    return read_elph(AL, al_primitive())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("al")
    for path in AL.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(AL)
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            if path.suffix == ".gz":
                target, data = target.with_suffix(""), gzip.decompress(data)
            target.write_bytes(data)
    return folder


def test_whole_run_is_read_and_belongs_to_the_phonons(elph: ElphMatrices) -> None:
    assert elph.dims == (4, 4, 4) and elph.matrices.shape == (10, 64, 3, 3)
    assert elph.sigma_ry == pytest.approx(np.arange(1, 11) * 0.005)
    assert elph.dos_per_spin_per_ry[1] == pytest.approx(1.881761, abs=1e-6)
    assert elph.fermi_energy_ev[1] == pytest.approx(8.327153, abs=1e-4)
    assert elph.check_against(al_phonons()) < 0.01


@pytest.mark.parametrize("sigma", PUBLISHED)
def test_published_table(elph: ElphMatrices, sigma: float) -> None:
    lam, omega_log, kelvin = PUBLISHED[sigma]
    spectrum = mode_coupling(elph, al_phonons(), sigma).spectrum()
    result = critical_temperature(spectrum, 0.10, "mcmillan")
    assert spectrum.lambda_total == pytest.approx(lam, abs=1e-3)
    assert spectrum.omega_log_k == pytest.approx(omega_log, abs=0.5)
    assert isinstance(result, Tc) and result.kelvin == pytest.approx(kelvin, abs=0.015)


@pytest.mark.skipif(shutil.which("lambda.x") is None, reason="needs Quantum ESPRESSO's lambda.x")
@pytest.mark.peer
def test_lambda_x_on_the_same_files(elph: ElphMatrices, unpacked) -> None:
    lines = ["10 0.06 0", str(len(AL_STARS)), *(f"0 0 0 {w}" for w in AL_STARS)]
    lines += [f"elph_dir/elph.inp_lambda.{n + 1}" for n in range(len(AL_STARS))] + ["0.10", ""]
    run = subprocess.run(
        ["lambda.x"],
        input="\n".join(lines),
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (unpacked / "lambda.out").write_text(run.stdout)
    for name in ("lambda.out", "lambda.dat"):
        theirs = read_lambda_table(unpacked / name)
        assert len(theirs.sigma_ry) == 10
        for sigma, lam, omega_log in zip(theirs.sigma_ry, theirs.lambdas, theirs.omega_log_k, strict=True):
            ours = mode_coupling(elph, al_phonons(), sigma).spectrum()
            assert ours.lambda_total == pytest.approx(lam, abs=5e-5)
            assert ours.omega_log_k == pytest.approx(omega_log, abs=0.15)


@pytest.mark.skipif(shutil.which("matdyn.x") is None, reason="needs Quantum ESPRESSO's matdyn.x")
@pytest.mark.peer
def test_matdyn_x_on_the_same_files(elph: ElphMatrices, unpacked) -> None:
    (unpacked / "lambda").unlink()
    with open(unpacked / "matdyn.in.dos") as stream:
        subprocess.run(["matdyn.x"], stdin=stream, cwd=unpacked, capture_output=True, check=True, timeout=120)
    theirs = read_lambda_table(unpacked / "lambda")
    assert len(theirs.sigma_ry) == 10
    for sigma, lam, omega_log, dos in zip(
        theirs.sigma_ry, theirs.lambdas, theirs.omega_log_k, theirs.dos_per_spin_per_ry, strict=True
    ):
        ours = interpolated_coupling(elph, al_phonons(), (10, 10, 10), sigma)
        assert ours.spectrum().lambda_total == pytest.approx(lam, abs=5e-5)
        assert ours.spectrum().omega_log_k == pytest.approx(omega_log, abs=0.15)
        assert ours.dos_per_spin_per_ry == pytest.approx(dos, abs=1e-4)


def test_g_in_real_space_agrees_with_q2r(elph: ElphMatrices) -> None:
    for index in (0, 9):
        theirs = read_a2fmatdyn(AL / "elph_dir" / f"a2Fmatdyn.{61 + index}.gz", 1)
        assert theirs.sigma_ry == pytest.approx(elph.sigma_ry[index])
        assert theirs.dos_per_spin_per_ry == pytest.approx(elph.dos_per_spin_per_ry[index])
        # cell indices of the file are those of q2r's lattice vectors, the same as the primitive ones
        cells = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        phases = np.exp(-2j * np.pi * elph.qpoints @ cells.T)
        back = np.einsum("qr,rij->qij", phases, theirs.matrices.reshape(-1, 3, 3))
        assert np.abs(back - elph.matrices[index]).max() < 2e-7


def test_linewidths_match_what_ph_x_printed(elph: ElphMatrices) -> None:
    coupling = mode_coupling(elph, al_phonons(), 0.02)
    for entry in elph.printed:
        place = np.abs((coupling.qpoints - entry.qpoint + 0.5) % 1 - 0.5).max(axis=1).argmin()
        assert coupling.gammas_ghz[place].sum() == pytest.approx(entry.gammas_ghz[3].sum(), abs=0.02)


def test_a2f_dos_of_old_and_new_versions(tmp_path) -> None:
    old = read_a2f_dos(AL / "a2F.dos2")
    assert old.modes.shape[1] == 3 and old.lambda_total == pytest.approx(0.40106607678603401)
    assert np.abs(old.modes.sum(axis=1) - old.total).max() < 2e-6
    # the same table, each row on one line as QE 6.7 writes it
    rows = [f"{w:.6E} {t:.6E} " + " ".join(f"{m:.6E}" for m in ms)
            for w, t, ms in zip(old.omega_ry, old.total, old.modes, strict=True)]  # fmt: skip
    (tmp_path / "a2F.dos2").write_text("# header\n" + "\n".join(rows) + "\n lambda = 0.4 Delta = 1\n")
    new = read_a2f_dos(tmp_path / "a2F.dos2")
    assert new.modes == pytest.approx(old.modes, rel=1e-6) and new.lambda_total == 0.4


def test_old_matdyn_lambda_file() -> None:
    table = read_lambda_table(AL / "lambda")
    assert table.lambdas[1] == 0.4011 and np.isnan(table.omega_log_k).all()
    assert "Broadening" in text_of(AL / "lambda")
