"""Files as ph.x and q2r.x write them, in text and XML."""

from __future__ import annotations

import re

import numpy as np

from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe_text import DynFile
from himlip_ase.units import AMU_RY, BOHR_ANGSTROM, RY_PER_BOHR2_EV_PER_ANGSTROM2

XML = """<?xml version="1.0" encoding="UTF-8"?>
<Root>
  <GEOMETRY_INFO>
    <NUMBER_OF_TYPES>{types}</NUMBER_OF_TYPES> <NUMBER_OF_ATOMS>{atoms}</NUMBER_OF_ATOMS>
    <CELL_DIMENSIONS>{alat} 0 0 0 0 0</CELL_DIMENSIONS> <AT>{cell}</AT>
    {names} {sites} <NUMBER_OF_Q>{count}</NUMBER_OF_Q>
  </GEOMETRY_INFO>
  <DIELECTRIC_PROPERTIES epsil="true" zstar="true" raman="true">
    <EPSILON>{epsilon}</EPSILON> <ZSTAR>{charges}</ZSTAR>
    <RAMAN_TENSOR_A2><RAMAN_S_ALPHA.1.1>3.2-309 2.7+229 NaN</RAMAN_S_ALPHA.1.1></RAMAN_TENSOR_A2>
  </DIELECTRIC_PROPERTIES>
  {blocks}
</Root>
"""


def as_xml(file: DynFile) -> str:
    """The XML that ph.x writes instead of a text file: Fortran's order, masses in amu."""
    atoms, alat = file.header.atoms, file.header.alat
    n, unit = len(atoms), RY_PER_BOHR2_EV_PER_ANGSTROM2
    born = file.born or BornCharges(np.zeros((n, 3, 3)), np.eye(3))

    def numbers(values):
        return " ".join(f"{x:.15E}" for x in np.ravel(values))

    def block(matrix, a, b):
        part = matrix.reshape(n, 3, n, 3)[a, :, b].T
        return (
            f"<PHI.{a + 1}.{b + 1}>{numbers(np.stack([part.real, part.imag], axis=-1))}</PHI.{a + 1}.{b + 1}>"
        )

    return XML.format(
        types=n, atoms=n, alat=alat / BOHR_ANGSTROM, cell=numbers(atoms.cell.array / alat),
        count=len(file.qpoints),
        names="".join(
            f"<TYPE_NAME.{i}>{s}</TYPE_NAME.{i}><MASS.{i}>{m}</MASS.{i}>"
            for i, (s, m) in enumerate(zip(atoms.symbols, atoms.get_masses(), strict=True), 1)
        ),
        sites="".join(
            f'<ATOM.{i} SPECIES="{s}" INDEX="{i}" TAU="{numbers(r / alat)}"/>'
            for i, (s, r) in enumerate(zip(atoms.symbols, atoms.positions, strict=True), 1)
        ),
        epsilon=numbers(born.dielectric.T),
        charges="".join(f"<Z_AT_.{i}>{numbers(z.T)}</Z_AT_.{i}>" for i, z in enumerate(born.charges, 1)),
        blocks="".join(
            f"<DYNAMICAL_MAT_.{i}><Q_POINT>{numbers(q)}</Q_POINT>"
            + "".join(block(m / unit, a, b) for a in range(n) for b in range(n))
            + f"</DYNAMICAL_MAT_.{i}>"
            for i, (q, m) in enumerate(zip(file.qpoints, file.matrices, strict=True), 1)
        ),
    )  # fmt: skip


def with_frequencies(text: str, file: DynFile) -> str:
    """An XML dyn file with the frequencies of its matrices, THz and cm⁻¹."""
    first = DynamicalMatrices(file.header.atoms, (1, 1, 1), np.zeros((1, 3)), file.matrices[:1])
    omega = "".join(
        f"<OMEGA.{i}>{w / 33.35641:.12E} {w:.12E}</OMEGA.{i}>"
        for i, w in enumerate(first.frequencies()[0], 1)
    )
    return text.replace("</Root>", f"<FREQUENCIES_THZ_CMM1>{omega}</FREQUENCIES_THZ_CMM1></Root>")


def text_fc(atoms, alat, values) -> str:
    """The file of q2r.x: ibrav = 0, lengths in alat (Å), masses in Rydberg units."""
    n, *dims = values.shape[1:5]
    lines = [f"{n} {n} 0 {alat / BOHR_ANGSTROM} 0 0 0 0 0"]
    lines += [" ".join(map(str, row / alat)) for row in atoms.cell.array]
    lines += [f"{i} '{a.symbol} ' {a.mass * AMU_RY}" for i, a in enumerate(atoms, 1)]
    lines += [f"{i} {i} {' '.join(map(str, a.position / alat))}" for i, a in enumerate(atoms, 1)]
    lines += ["F", " ".join(map(str, dims))]
    for i, j, a, b in np.ndindex(3, 3, n, n):
        lines.append(f"{i + 1} {j + 1} {a + 1} {b + 1}")
        for m3, m2, m1 in np.ndindex(*dims[::-1]):
            lines.append(f"{m1 + 1} {m2 + 1} {m3 + 1} {values[a, b, m1, m2, m3, i, j]:.16E}")
    return "\n".join(lines) + "\n"


def xml_fc(atoms, alat, values) -> str:
    """The same in XML: columns of each 3×3 one after the other, masses in amu."""
    n, *dims = values.shape[1:5]
    blocks = ""
    for a, b, *cell in np.ndindex(n, n, *dims):
        name = "s_s1_m1_m2_m3." + ".".join(str(k + 1) for k in (a, b, *cell))
        numbers = " ".join(f"{x:.15E}" for x in values[(a, b, *cell)].T.ravel())
        blocks += f"<{name}><IFC>{numbers}</IFC></{name}>"
    mesh = " ".join(map(str, dims))
    head = XML.format(
        types=n, atoms=n, alat=alat / BOHR_ANGSTROM, count=1, epsilon="", charges="",
        cell=" ".join(map(str, (atoms.cell.array / alat).ravel())),
        names="".join(f"<TYPE_NAME.{i}>{a.symbol}</TYPE_NAME.{i}><MASS.{i}>{a.mass}</MASS.{i}>"
                      for i, a in enumerate(atoms, 1)),
        sites="".join(f'<ATOM.{i} INDEX="{i}" TAU="{" ".join(map(str, a.position / alat))}"/>'
                      for i, a in enumerate(atoms, 1)),
        blocks=f"<INTERATOMIC_FORCE_CONSTANTS><MESH_NQ1_NQ2_NQ3>{mesh}</MESH_NQ1_NQ2_NQ3>{blocks}"
        "</INTERATOMIC_FORCE_CONSTANTS>",
    )  # fmt: skip
    return re.sub(r"(?s)<DIELECTRIC_PROPERTIES.*</DIELECTRIC_PROPERTIES>", "", head)
