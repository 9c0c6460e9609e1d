"""What ``himlip ts`` is told: pairs of structures and settings, from the command line, a folder or YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from ase import Atoms
from pydantic import Field, ValidationError

from himlip_ase.errors import InputError
from himlip_ase.files import read_yaml
from himlip_ase.pipeline.section import Section
from himlip_ase.reactions.growing_string import StringSettings
from himlip_ase.reactions.irc import IrcSettings
from himlip_ase.reactions.saddle import SaddleSettings
from himlip_ase.reactions.search import SearchSettings
from himlip_ase.registry import did_you_mean
from himlip_ase.structures import read_structure, read_structures
from himlip_ase.vibrations.gibbs import Conventions

Bond = tuple[int, int]


class PairSection(Section):
    """One reaction: two files, or one and the bonds that change."""

    name: str
    reactant: Path
    product: Path | None = None
    form: list[Bond] = Field(default_factory=list)
    break_: list[Bond] = Field(default_factory=list, alias="break")


class ReactionsConfig(Section):
    """The YAML file of ``himlip ts``."""

    calculator: str = "gfn2"
    reorder: bool = False
    reactions: list[PairSection] = Field(default_factory=list)
    relax_fmax: float = Field(default=0.01, gt=0)
    string: StringSettings = Field(default_factory=StringSettings)
    saddle: SaddleSettings = Field(default_factory=SaddleSettings)
    irc: IrcSettings = Field(default_factory=IrcSettings)
    gibbs: bool = True
    conventions: Conventions = Field(default_factory=Conventions)
    tunnelling: str = "wigner"

    @property
    def search(self) -> SearchSettings:
        """Settings of a search."""
        return SearchSettings(self.string, self.saddle, self.irc, self.relax_fmax)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """One reaction to search.

    Attributes
    ----------
    name : str
        Also its folder.
    reactant : Atoms
    product : Atoms or None
        None: to be made from the bonds that change.
    form, break_ : sequence of (int, int)
    """

    name: str
    reactant: Atoms
    product: Atoms | None
    form: Sequence[Bond] = ()
    break_: Sequence[Bond] = ()


def load_reactions(path: Path) -> tuple[ReactionsConfig, list[Pair]]:
    """Settings and pairs of a YAML file; paths in it are relative to it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    config : ReactionsConfig
    pairs : list of Pair

    Raises
    ------
    InputError
        An unknown key, a value out of range, a missing file, two reactions of one name.
    """
    text = read_yaml(path)
    if not isinstance(text, Mapping):
        raise InputError(f"{path} holds no settings; see `reactions:` in docs/reactions.md")
    try:
        config = ReactionsConfig.model_validate(dict(text))
    except ValidationError as error:
        raise InputError(f"{path}: {'; '.join(_explained(item) for item in error.errors())}") from None
    folder = path.parent
    pairs = [
        Pair(
            one.name,
            read_structure(folder / one.reactant),
            None if one.product is None else read_structure(folder / one.product),
            tuple(one.form),
            tuple(one.break_),
        )
        for one in config.reactions
    ]
    return config, checked(pairs)


def pairs_of_folder(folder: Path) -> list[Pair]:
    """Pairs in a folder: each file with two structures, or each subfolder with reactant.* and product.*.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Pair
        Sorted by name.

    Raises
    ------
    InputError
        Nothing of that kind, or a file with another number of structures.
    """
    pairs = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            ends = [sorted(path.glob(f"{side}.*")) for side in ("reactant", "product")]
            if all(ends):
                pairs.append(Pair(path.name, read_structure(ends[0][0]), read_structure(ends[1][0])))
        elif path.suffix in (".xyz", ".extxyz"):
            images = read_structures([path])
            if len(images) != 2:
                raise InputError(f"{path} holds {len(images)} structures; a reaction is two, reactant first")
            pairs.append(Pair(path.stem, images[0], images[1]))
    if not pairs:
        raise InputError(
            f"{folder} holds no reactions: put NAME.xyz with two structures there, or NAME/reactant.xyz and "
            "NAME/product.xyz"
        )
    return checked(pairs)


def checked(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs whose names are different and can be folders; InputError otherwise."""
    seen: set[str] = set()
    for pair in pairs:
        if not pair.name or pair.name in seen or Path(pair.name).name != pair.name:
            raise InputError(f"reaction names must be different and good for a folder; got {pair.name!r}")
        seen.add(pair.name)
        if pair.product is None and not (pair.form or pair.break_):
            raise InputError(
                f"reaction {pair.name}: give a product, or the bonds that change (form, break; atoms from 0)"
            )
        if pair.product is not None and (pair.form or pair.break_):
            raise InputError(f"reaction {pair.name}: a product and bonds that change exclude each other")
    return list(pairs)


def _explained(item: Any) -> str:
    """One finding of pydantic in a sentence."""
    location = [str(part) for part in item["loc"]]
    where = ".".join(location)
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key '{where}'; {did_you_mean(location[-1], _keys(item['loc'][:-1]))}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"'{where}': {message} (got {item['input']!r})" if where else message


def _keys(location: Sequence[Any]) -> list[str]:
    if not location:
        return [field.alias or name for name, field in ReactionsConfig.model_fields.items()]
    if location[0] == "reactions":
        return [field.alias or name for name, field in PairSection.model_fields.items()]
    kind = ReactionsConfig.model_fields[str(location[0])].annotation
    return list(get_type_hints(kind)) if dataclasses.is_dataclass(kind) else []
