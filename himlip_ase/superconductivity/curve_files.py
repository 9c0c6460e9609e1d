"""α²F(ω) of any program as spectra: unit and columns from the file, holes and truncation refused by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.curve_formats import Column, Layout, format_of
from himlip_ase.superconductivity.elph_files import read_text
from himlip_ase.superconductivity.number_rows import Block, NumberRows, check_steps, read_rows
from himlip_ase.superconductivity.spectrum import Spectrum, spectrum_from_curve

DEFAULT_UNIT = "meV"
"""Where neither the file nor the caller says."""
_OPEN_END = 0.2
_NOT_ZERO = 0.01
_NOTHING = 1e-6
_LAMBDA_TOLERANCE = 0.03
_LOWEST_TOP_EV, _HIGHEST_TOP_EV = 1e-3, 1.0


@dataclass(frozen=True)
class Alpha2FTable:
    """Every α²F of one file.

    Attributes
    ----------
    path : Path
    format : str
        Name of an entry of `curve_formats.FORMATS`.
    unit : str
        Of the frequencies.
    columns : tuple of Column
        What the file holds.
    spectra : tuple of Spectrum
        One for each column.
    width_unit : str
        As in `curve_formats.Layout`.
    choice : str
        Why one column must be chosen; "" where the first stands for the file.
    """

    path: Path
    format: str
    unit: str
    columns: tuple[Column, ...]
    spectra: tuple[Spectrum, ...]
    width_unit: str = ""
    choice: str = ""

    def spectrum(self, column: int | None = None) -> Spectrum:
        """The spectrum of one column.

        Parameters
        ----------
        column : int, optional
            Counted from 1, the frequency being the first; None takes the first α²F.

        Returns
        -------
        Spectrum

        Raises
        ------
        InputError
            No such column; or a choice is needed.
        """
        return self.spectra[self.index(column)]

    def index(self, column: int | None = None) -> int:
        """Place of a column in `columns`; see `spectrum`."""
        if column is None:
            if self.choice:
                raise InputError(f"{self.path} holds {self.choice}")
            return 0
        for place, found in enumerate(self.columns):
            if found.number == column:
                return place
        listed = ", ".join(f"{c.number} ({c.label})" if c.label else str(c.number) for c in self.columns)
        raise InputError(f"{self.path} has no α²F in column {column}; there are {listed}")


def read_alpha2f_table(path: str | Path, unit: str | None = None, column: int | None = None) -> Alpha2FTable:
    """Read every α²F of a file.

    Parameters
    ----------
    path : path-like
        Text, perhaps gz, of matdyn.x, lambda.x, alpha2f.x, EPW, Elk, abinit, this package, or columns (csv).
    unit : {"eV", "meV", "cm-1", "THz", "Ry", "Ha", "K"}, optional
        Of the frequencies, where the file does not say; it must not contradict the file.
    column : int, optional
        Take this column as α²F, counted from 1, whatever the format says of it.

    Returns
    -------
    Alpha2FTable

    Raises
    ------
    InputError
        A damaged, holed or truncated file, the line named; a unit that contradicts the file; no such column.
    """
    path = Path(path)
    rows = read_rows(path, read_text(path))
    entry = format_of(rows)
    layout = entry.layout(rows)
    if unit is not None and layout.unit is not None and unit.lower() != layout.unit.lower():
        raise InputError(
            f"{path}: its frequencies are in {layout.unit}, as the file says ({entry.summary}), not in "
            f"{unit}; leave "
            "--alpha2f-unit out, or remove the header if it is wrong"
        )
    stated = unit or layout.unit
    blocks = _curves(rows)
    columns = layout.columns
    if len(blocks) > 1 and len(blocks) != len(columns):
        places = " and ".join(block.where for block in blocks)
        raise InputError(f"{path} holds {len(blocks)} curves, in {places}; give each in a file of its own")
    wide = blocks[0].numbers.shape[1]
    if column is not None and len(blocks) == 1 and column not in [c.number for c in columns]:
        if not 2 <= column <= wide:
            raise InputError(
                f"{path} has no numeric column {column} beside the frequency; there are 2 to {wide}"
            )
        columns = (*columns, Column(column, f"column {column}"))
    caveats = [f"α²F read from {path.name}"]
    if stated is None:
        caveats.append(f"{path.name} does not say the unit of its frequencies: {DEFAULT_UNIT} was taken")
    spectra = []
    for place, found in enumerate(columns):
        block = blocks[place] if len(blocks) > 1 else blocks[0]
        values = block.numbers[:, 1 if len(blocks) > 1 else found.number - 1]
        spectra.append(_spectrum(path, block, values, stated or DEFAULT_UNIT, tuple(caveats), rows.open_end))
    if rows.cut:
        raise InputError(
            f"{path} stops within line {blocks[-1].lines[-1]}, which is shorter than the line before: it is "
            "truncated; if it is whole, end its last line with a newline"
        )
    _compare(path, layout, spectra)
    choice = "" if column is not None else layout.choice
    return Alpha2FTable(
        path, entry.name, stated or DEFAULT_UNIT, columns, tuple(spectra), layout.width_unit, choice
    )


def read_alpha2f(path: str | Path, unit: str | None = None, column: int | None = None) -> Spectrum:
    """Spectrum of one α²F of a file; see `read_alpha2f_table`.

    Parameters
    ----------
    path : path-like
    unit : str, optional
        Of the frequencies, where the file does not say; meV, with a caveat, if nobody says.
    column : int, optional
        Counted from 1; None takes the first α²F.

    Returns
    -------
    Spectrum

    Raises
    ------
    InputError
        As in `read_alpha2f_table`; or a column must be chosen.
    """
    return read_alpha2f_table(path, unit, column).spectrum(column)


def _curves(rows: NumberRows) -> list[Block]:
    """Blocks whose frequencies go on are one curve; those that begin anew are curves of their own."""
    joined: list[Block] = []
    for block in rows.blocks:
        before = joined[-1] if joined else None
        if before is None or before.numbers.shape[1] != block.numbers.shape[1]:
            joined.append(block)
        elif block.numbers[0, 0] > before.numbers[-1, 0]:
            numbers = np.concatenate([before.numbers, block.numbers])
            joined[-1] = Block(numbers, np.concatenate([before.lines, block.lines]))
        else:
            joined.append(block)
    return joined


def _spectrum(
    path: Path,
    block: Block,
    values: np.ndarray,
    unit: str,
    caveats: tuple[str, ...],
    open_end: bool = False,
) -> Spectrum:
    omega = block.numbers[:, 0]
    if len(omega) < 3:
        raise InputError(f"{path} holds {len(omega)} rows; α²F wants at least 3")
    step = check_steps(path, block, unit)
    peak = float(np.abs(values).max())
    if peak > 0:
        last, first = abs(float(values[-1])) / peak, abs(float(values[0])) / peak
        if open_end and last > _NOTHING:
            raise InputError(
                f"{path} stops within line {block.lines[-1]}, where α²F is {last:.2g} of its peak: it is "
                f"truncated; "
                "if it is whole, end its last line with a newline"
            )
        if last > _OPEN_END:
            raise InputError(
                f"{path}: α²F ends at {omega[-1]:g} {unit} (line {block.lines[-1]}) with {last:.0%} of its "
                "peak, not at zero: the file is truncated, or its range was too small; write it again up "
                "to the "
                "highest phonon"
            )
        if step is not None and first > _OPEN_END and omega[0] > 1.5 * step:
            raise InputError(
                f"{path}: α²F begins at {omega[0]:g} {unit} (line {block.lines[0]}) with {first:.0%} of "
                f"its peak: the "
                "rows before are missing"
            )
        if last > _NOT_ZERO:
            caveats += (f"α²F ends with {last:.0%} of its peak: what lies beyond is missing",)
    spectrum = spectrum_from_curve(omega, values, unit, caveats)
    top = spectrum.omega_max_ev
    if not (np.isnan(top) or _LOWEST_TOP_EV < top < _HIGHEST_TOP_EV):
        raise InputError(
            f"{path}: in {unit} the highest phonon would be {top * 1e3:.4g} meV, which no crystal has; "
            f"give the unit of "
            "its frequencies with --alpha2f-unit"
        )
    return spectrum


def _compare(path: Path, layout: Layout, spectra: list[Spectrum]) -> None:
    """λ that the file quotes itself against that of its curve: another unit or column would not agree."""
    for printed, spectrum in zip(layout.printed_lambda, spectra, strict=False):
        found = spectrum.lambda_total
        if abs(found - printed) > _LAMBDA_TOLERANCE * max(abs(printed), 0.05):
            raise InputError(
                f"{path} quotes λ = {printed:.4f}, its curve gives {found:.4f}: it is damaged, or its "
                f"columns are not "
                "those that its header names"
            )
