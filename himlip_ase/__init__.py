"""From a crystal to anharmonic phonons and Tc, with an interatomic potential that has learnt the Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.potential.checkpoint import load_model

    __version__: str

__all__ = ["HiMLIPCalculator", "load_model", "__version__"]


def __getattr__(name: str) -> Any:
    """Public names, imported when first used, so that the command line starts without torch."""
    if name == "HiMLIPCalculator":
        from himlip_ase.calculator import HiMLIPCalculator

        return HiMLIPCalculator
    if name == "load_model":
        from himlip_ase.potential.checkpoint import load_model

        return load_model
    if name == "__version__":
        from importlib.metadata import version

        return version("himlip-ase")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
