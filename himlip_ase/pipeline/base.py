"""Which model the potential of a run starts from."""

from __future__ import annotations

from collections.abc import Collection

from himlip_ase.pipeline.run_sections import AUTO, FinetuneSection


def base_of(section: FinetuneSection, symbols: Collection[str]) -> tuple[str | None, str]:
    """The model that the potential of a crystal starts from by a section of settings, and why.

    Parameters
    ----------
    section : FinetuneSection
    symbols : collection of str
        Elements of the crystal.

    Returns
    -------
    base : str or None
        Name or path; None: fresh weights.
    why : str
    """
    from himlip_ase.potential.checkpoint import default_model, read_card

    if section.base != AUTO:
        return section.base, "as finetune.base says"
    if section.network:
        return None, "finetune.network asks for fresh weights of its own shape"
    name = default_model()
    missing = sorted(set(symbols) - set(read_card(name)["config"]["elements"]))
    if missing:
        return None, f"{name} does not know {', '.join(missing)}"
    return name, f"{name} knows every element"
