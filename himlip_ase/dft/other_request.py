"""A folder that holds another calculation than the one that is asked for."""

from __future__ import annotations

from pathlib import Path

from himlip_ase.errors import InputError


class OtherRequest(InputError):
    """A folder was asked for something else; what is in it must not be taken, nor overwritten.

    Parameters
    ----------
    message : str
    folder : Path
        Which folder has to make room.
    """

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message, folder)  # both, so that it can be sent between processes
        self.message, self.folder = message, folder

    def __str__(self) -> str:
        return self.message
