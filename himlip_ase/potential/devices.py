"""The device that a potential runs on."""

from __future__ import annotations

import torch

from himlip_ase.errors import InputError


def find_device(device: str | torch.device | None = None) -> torch.device:
    """A device that is there.

    Parameters
    ----------
    device : str or torch.device, optional
        "cpu", "cuda", "cuda:1", …; by default "cuda" where there is one, else "cpu".

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        torch does not know the name, or sees no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    advice = "type cpu (--device cpu), or leave it out for what is there"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"there is no device {str(device)!r}; {advice}") from error
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the device {str(device)!r} cannot be used: {reason}; {advice}") from error
    return found
