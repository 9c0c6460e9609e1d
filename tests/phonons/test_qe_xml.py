"""XML files of ph.x and q2r.x, and what numbers of files say of each other."""

from __future__ import annotations

import gzip
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.broken_relations import site_asymmetry, tell_broken_relations
from himlip_ase.phonons.q2r import read_q2r
from himlip_ase.phonons.qe import read_dyn, write_dyn
from himlip_ase.phonons.qe_text import read_dyn_file
from himlip_ase.phonons.qe_xml import read_xml_dyn_file

from .qe_writers import as_xml, text_fc, with_frequencies, xml_fc
from .springs import triclinic, zincblende
from .test_force_constants import build

EXAMPLES = Path("/usr/share/doc/quantum-espresso/examples/PHonon")
REFERENCE = EXAMPLES / "GRID_example" / "reference_3"


def test_case_Q1_xml_dyn_files_are_the_text_ones(tmp_path):
    from .polar import polar

    dm = polar(triclinic, (2, 1, 1)).with_masses([2.0141, 6.9, 16.0]).dynamical_matrices()
    paths = write_dyn(dm, tmp_path / "dyn")
    for path in paths[1:]:
        file = read_dyn_file(path)
        file = file if file.born is not None else replace(file, born=dm.born)
        (tmp_path / f"{path.name}.xml").write_text(as_xml(file))
        path.unlink()
    for name in ("dyn", "dyn0", "dyn.xml"):
        back = read_dyn(tmp_path / name)
        assert np.abs(back.matrices - dm.matrices).max() < 1e-9
        assert back.primitive.get_masses() == pytest.approx([2.0141, 6.9, 16.0])
        assert np.abs(back.primitive.positions - dm.primitive.positions).max() < 1e-9
        assert np.abs(back.born.charges - dm.born.charges).max() < 1e-9
        assert np.abs(back.born.dielectric - dm.born.dielectric).max() < 1e-9
    text = (tmp_path / "dyn1.xml").read_text()
    for damaged, message in (
        (text[: len(text) // 2], "no complete XML file"),
        (text.replace("<PHI.2.1>", "<PHI.9.9>").replace("</PHI.2.1>", "</PHI.9.9>"), r"PHI\.2\.1"),
        (text.replace("<PHI.1.1>", "<PHI.1.1> NaN "), "18 finite numbers"),
    ):
        (tmp_path / "dyn1.xml").write_text(damaged)
        with pytest.raises(InputError, match=message):
            read_dyn(tmp_path / "dyn")


def test_xml_dyn_files_must_have_their_frequencies(tmp_path):
    dm = build(triclinic, (1, 1, 1))[1].dynamical_matrices()
    file = read_dyn_file(write_dyn(dm, tmp_path / "dyn")[1])
    text = with_frequencies(as_xml(file), file)
    (tmp_path / "dyn1.xml").write_text(text)
    assert read_xml_dyn_file(tmp_path / "dyn1.xml").matrices == pytest.approx(file.matrices, abs=1e-9)
    (tmp_path / "dyn1.xml").write_text(re.sub(r"\S+(</OMEGA\.9>)", r"1.234E+03\1", text))
    with pytest.raises(InputError, match=r"1234\.00 is printed below"):
        read_xml_dyn_file(tmp_path / "dyn1.xml")


def test_xml_of_version_7_2_may_lack_the_end_of_its_root(tmp_path):
    """At Γ of a grid of an insulator; a file that is cut anywhere else stays refused."""
    dm = build(triclinic, (1, 1, 1))[1].dynamical_matrices()
    file = read_dyn_file(write_dyn(dm, tmp_path / "dyn")[1])
    text = with_frequencies(as_xml(file), file).replace("</Root>", "").rstrip() + "\n"
    (tmp_path / "dyn1.xml").write_text(text)
    assert read_xml_dyn_file(tmp_path / "dyn1.xml").matrices == pytest.approx(file.matrices, abs=1e-9)
    (tmp_path / "dyn1.xml").write_text(text.replace("</FREQUENCIES_THZ_CMM1>", ""))
    with pytest.raises(InputError, match="no complete XML file"):
        read_xml_dyn_file(tmp_path / "dyn1.xml")


def test_a_digit_that_a_few_others_contradict_is_told(tmp_path, caplog):
    """Of dyn files by Hermiticity, of force constants by the exchange of two atoms."""
    constants = build(triclinic, (2, 2, 2))[1]
    dm = constants.dynamical_matrices()
    file = read_dyn_file(write_dyn(dm, tmp_path / "dyn")[1])
    text = with_frequencies(as_xml(file), file)
    (tmp_path / "dyn1.xml").write_text(text)
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        read_xml_dyn_file(tmp_path / "dyn1.xml")
        tell_broken_relations(constants, "whole")
        assert not caplog.text
        inside = re.search(r"<PHI\.1\.2>\s*(\S+)", text)
        changed = f"{float(inside[1]) + 1e-6:.15E}"
        (tmp_path / "dyn1.xml").write_text(text[: inside.start(1)] + changed + text[inside.end(1) :])
        read_xml_dyn_file(tmp_path / "dyn1.xml")
        assert "dyn1.xml: a few elements are not those of Hermitian matrices" in caplog.text
        wrong = constants.compact.copy()
        wrong[0, 5, 1, 2] += 1e-3
        tell_broken_relations(replace(constants, compact=wrong), "damaged.fc")
    assert "damaged.fc: a few force constants break the symmetry" in caplog.text


def test_an_on_site_block_that_the_others_contradict_is_told(tmp_path):
    """Of a zincblende crystal, without a sum rule; silent where all blocks have a symmetry of their own."""
    constants = build(zincblende, (2, 2, 2))[1]
    moved = constants.compact.copy()
    moved[[0, 1], [0, 8]] += 0.3 * np.eye(3)  # breaks the sum rule everywhere, and no symmetry
    assert site_asymmetry(replace(constants, compact=moved)) == 0
    moved[1, 8, 2, 2] += 1e-3
    assert site_asymmetry(replace(constants, compact=moved)) == pytest.approx(1e-3, rel=1e-6)
    axis = np.diag([1.0, 1.0, 1.01])
    assert site_asymmetry(replace(constants, compact=axis @ constants.compact @ axis)) == 0


def test_xml_force_constants_are_the_text_ones(tmp_path):
    """Of one grid whose three numbers differ, filled so that no two entries are equal."""
    dims, rng = (3, 2, 1), np.random.default_rng(3)
    atoms = triclinic().atoms
    n, alat = len(atoms), 5.0
    values = rng.normal(size=(n, n, *dims, 3, 3))
    (tmp_path / "x.fc").write_text(text_fc(atoms, alat, values))
    (tmp_path / "x.fc.xml").write_text(xml_fc(atoms, alat, values))
    text, xml = read_q2r(tmp_path / "x.fc"), read_q2r(tmp_path / "x.fc.xml")
    assert xml.dims == dims and np.abs(xml.compact - text.compact).max() < 1e-9
    assert xml.primitive.get_masses() == pytest.approx(text.primitive.get_masses())
    (tmp_path / "x.fc.xml").write_text(xml_fc(atoms, alat, values).replace("1.2.3.1.1", "1.2.9.1.1"))
    with pytest.raises(InputError, match=r"s_s1_m1_m2_m3\.1\.2\.3\.1\.1/IFC"):
        read_q2r(tmp_path / "x.fc.xml")


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs Debian's quantum-espresso-data")
def test_xml_of_ph_and_q2r_of_version_6_0_agree(tmp_path):
    """AlAs on a 4×4×4 grid, with Born charges: q2r.x made of the dyn files what is made of them here."""
    for path in REFERENCE.glob("alas.*xml.gz"):
        (tmp_path / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
    (tmp_path / "alas.dyn0.xml").write_text("4 4 4\n8\n")
    own = read_dyn(tmp_path / "alas.dyn.xml").force_constants()
    found = read_q2r(tmp_path / "alas.444.fc.xml")
    assert found.dims == own.dims == (4, 4, 4) and np.abs(own.compact).max() > 10
    assert np.abs(found.compact - own.compact).max() < 1e-12
    neutral = own.born.charges - own.born.charges.mean(axis=0)  # zasr of q2r.x
    assert np.abs(found.born.charges - neutral).max() < 1e-12
