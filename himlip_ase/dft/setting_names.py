"""What a setting is called where the user gave it: a key of the run file, or an option of a command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SettingNames:
    """Names for messages.

    Attributes
    ----------
    ecutwfc, k_grid, q_grid, dense_k_grid : str
        Of the setting.
    pseudo_dir, chosen : str
        How a folder of pseudopotentials is given, and one file of several; ``{element}`` and ``{file}`` are
        filled in.
    grid : str
        How a grid is written: "list" or "words".
    """

    ecutwfc: str
    k_grid: str
    q_grid: str
    dense_k_grid: str
    pseudo_dir: str
    chosen: str
    grid: str

    def written(self, numbers: tuple[int, ...]) -> str:
        """A grid as it is typed.

        Parameters
        ----------
        numbers : tuple of int

        Returns
        -------
        str
        """
        return f"[{', '.join(map(str, numbers))}]" if self.grid == "list" else " ".join(map(str, numbers))


RUN_FILE = SettingNames(
    ecutwfc="qe.ecutwfc_ry",
    k_grid="qe.k_grid",
    q_grid="q_grid",
    dense_k_grid="harmonic.dense_k_grid",
    pseudo_dir="write `pseudopotentials: FOLDER` in the run file",
    chosen="qe: {{pseudopotentials: {{{element}: {file}}}}}",
    grid="list",
)
OPTIONS = SettingNames(
    ecutwfc="--ecutwfc",
    k_grid="--k",
    q_grid="--q",
    dense_k_grid="--k-dense",
    pseudo_dir="pass --pseudo FOLDER",
    chosen="--pseudopotential {element}={file}",
    grid="words",
)
