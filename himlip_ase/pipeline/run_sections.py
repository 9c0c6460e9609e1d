"""Sections of the run file: labels, training, further SSCHA runs, Tc, the learning loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from himlip_ase.hint.last_layer.twin_weights import FEWEST
from himlip_ase.hint.training.settings import PolishSettings, TrainingSettings
from himlip_ase.pipeline.section import Section
from himlip_ase.potential.network import HiMLIPConfig
from himlip_ase.registry import did_you_mean
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.superconductivity.options import Mesh, TcOptions

Grid = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]

Mass = Annotated[float, Field(gt=0)]
Width = Annotated[float, Field(gt=0)]


class RattleSet(Section):
    """A set of rattled cells to be labelled, and learnt from."""

    supercell: Grid = (1, 1, 1)
    """Repetitions of the primitive cell."""
    number: int = Field(default=30, ge=1)
    """Of cells."""
    amplitude_angstrom: float = Field(default=0.4, gt=0, le=1.5)
    """Standard deviation of each displacement."""
    mass_scaled: bool = False
    """Scale the displacements by (lightest mass / mass)^¼."""
    seed: int = 1
    """Of the random numbers."""


class QuantumSet(Section):
    """Cells drawn from the zero-point distribution of the harmonic phonons (|ω| for imaginary modes)."""

    supercell: Grid = (1, 1, 1)
    """Repetitions of the primitive cell."""
    number: int = Field(default=12, ge=1)
    """Of cells."""
    seed: int = 1
    """Of the random numbers."""


def _rattle_sets() -> dict[str, RattleSet | None]:
    return {"rattle040": RattleSet()}


def _quantum_sets() -> dict[str, QuantumSet | None]:
    return {
        "quantum111": QuantumSet(seed=10),
        "quantum211": QuantumSet(supercell=(2, 1, 1), number=6, seed=11),
        "quantum221": QuantumSet(supercell=(2, 2, 1), number=4, seed=12),
    }


class LabelsSection(Section):
    """The DFT labels: a folder of finished ones, or what to make."""

    folder: Path | None = None
    """Finished labels (the layout of ``himlip label collect``). None: make them in the run folder."""
    relax: bool = True
    """Relax the crystal to ``pressure_gpa`` before anything else."""
    rattle: dict[str, RattleSet | None] = Field(default_factory=_rattle_sets)
    """Sets of rattled cells by name; null takes one of the defaults away."""
    quantum: dict[str, QuantumSet | None] = Field(default_factory=_quantum_sets)
    """Cells as the SSCHA will visit them: the larger ones show how displacements of different q interact;
    null takes one of the defaults away."""
    validation: int = Field(default=8, ge=0)
    """Supercells of the q-grid, drawn from the harmonic distribution, labelled and never trained on."""
    double_well: int = Field(default=9, ge=0)
    """Single points along the softest mode at Γ."""
    check_k: bool = True
    """A soft q-point and Γ once more on a denser mesh (ph.x only), for the k-error of all modes."""
    k_tolerance_cm: float = Field(default=10.0, gt=0)
    """cm⁻¹; a k-mesh that moves a frequency of that q-point by more is not converged, and the harmonic Tc is
    withheld."""

    def off(self) -> list[str]:
        """What is switched off, as it is typed."""
        switches = {name: getattr(self, name) for name in ("relax", "validation", "double_well", "check_k")}
        found = [f"labels.{name}: {value}" for name, value in switches.items() if not value]
        for kind in ("rattle", "quantum"):
            found += [
                f"labels.{kind}.{name}: null" for name, own in getattr(self, kind).items() if own is None
            ]
        return found

    @property
    def rattle_sets(self) -> dict[str, RattleSet]:
        """The sets of rattled cells that are made."""
        return {name: chosen for name, chosen in self.rattle.items() if chosen is not None}

    @property
    def quantum_sets(self) -> dict[str, QuantumSet]:
        """The sets of quantum cells that are made."""
        return {name: chosen for name, chosen in self.quantum.items() if chosen is not None}


MOST_TWINS = 10
"""Twins of a training by gradients, at most: each is a training of its own."""
AUTO = "auto"
"""`FinetuneSection.base` as chosen by the package."""


class ClosedFormSection(Section):
    """A linear head of the base, fitted in closed form instead of training by gradients."""

    head: Literal["readout", "wide"] = "wide"
    """``readout`` replaces the readouts, ``wide`` fits every layer's invariants and activations as well."""
    prior: Literal["model", "zero"] = "model"
    """Fitted around the present head of the base, or around none."""
    noise: tuple[Width, Width, Width, Width] | None = None
    """Widths that weigh the labels: of energies (eV/atom), forces (eV/Å), stresses (eV/Å³), rows of Hessians
    (eV/Å²); None: from the evidence and cross-validation."""
    replay: list[Path] = Field(default_factory=list)
    """Files or folders of labels of the base's own training, of which those with no other element than the
    crystal's take part, without their energies."""

    @model_validator(mode="after")
    def _prior_of_a_readout(self) -> ClosedFormSection:
        if self.prior == "zero" and self.head == "wide":
            raise ValueError("prior: zero is for head: readout; a wide head is fitted around the present one")
        return self

    @field_validator("noise", mode="before")
    @classmethod
    def _four_widths(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 4):
            raise ValueError(
                "give four widths, of energies (eV/atom), forces (eV/Å), stresses (eV/Å³) and rows of "
                "Hessians (eV/Å²), e.g. [0.01, 0.1, 0.01, 0.02]"
            )
        return value


class FinetuneSection(Section):
    """Training of the potential, or one already trained."""

    model: Path | None = None
    """A finished ``.safetensors``, or the name of a model of the package: no training is done."""
    model_without_hessian: Path | None = None
    """The same, trained without the Hessian term; shown beside it."""
    compare: bool = True
    """Train a second time without the Hessian term, to show what it brings."""
    base: str | None = AUTO
    """Name or path of the model to start from, ``mace:PATH`` or ``alphanet:PATH`` for one of those; auto: the
    package's own if it knows the elements and ``network`` asks for no other shape; null: fresh weights from
    ``training.seed``."""
    train_sets: list[str] | None = None
    """Label sets to learn from; None: all but ``validation`` and ``doublewell``."""
    set_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Weight of a set's frames in the loss, 1 where it is not named."""
    hessian: bool = True
    """Whether the harmonic Hessian is learnt from."""
    hessians: list[str] = Field(default_factory=lambda: ["harmonic"], min_length=1)
    """Folders of the labels with matrices on a q-grid, e.g. ``[harmonic, harmonic444]``: the potential learns
    from all of them and is judged on each."""
    remainder: bool = False
    """Add to the potential what the densest of ``hessians`` holds beyond it: a harmonic energy of
    displacements from the sites of the crystal, so that harmonic phonons are DFT's on that grid. Not together
    with ``learn``."""
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(epochs=300, polish=PolishSettings(rounds=10))
    )
    """See `himlip_ase.hint.training.settings.TrainingSettings`."""
    twins: int = Field(default=0, ge=0, le=MOST_TWINS)
    """Train the potential as often again, each time without another part of the cells (``training``;
    ``closed_form`` makes twins of its own): their spread is the potential's error in every ±, and
    ``anharmonic.corrected_by`` asks them. 0 for none, else at least 4."""
    replay: list[Path] = Field(default_factory=list)
    """Files or folders of labels of the base's own training, of which those with no other element than the
    crystal's are learnt between the others, without their energies, against forgetting (``training``, whose
    ``replay_every`` says how often; ``closed_form`` has its own)."""
    closed_form: ClosedFormSection | None = None
    """Fit the head of ``base``, of the crystal's elements alone, in closed form; null: training by gradients.
    ``training`` does not count then."""
    network: dict[str, int | float] = Field(default_factory=dict)
    """Shape of fresh weights: keys of `himlip_ase.potential.network.HiMLIPConfig`, without ``elements``."""

    @property
    def head_to_fit(self) -> ClosedFormSection | None:
        """``closed_form`` where it is used: a finished model wins over it, as over a training."""
        return self.closed_form if self.model is None else None

    def off(self) -> list[str]:
        """What is switched off, as it is typed."""
        switches: dict[str, Any] = {"hessian": self.hessian, "compare": self.compare}
        if self.closed_form is None:
            switches["training.polish.rounds"] = self.training.polish.rounds
            switches["training.loss.hessian"] = self.training.loss.hessian
        return [f"finetune.{name}: {value}" for name, value in switches.items() if not value]

    @model_validator(mode="after")
    def _one_replay(self) -> FinetuneSection:
        if self.replay and self.closed_form is not None:
            raise ValueError(
                "finetune.replay is learnt by a training by gradients, and finetune.closed_form asks for "
                "none: name the files as finetune.closed_form.replay, or leave finetune.closed_form out"
            )
        return self

    @model_validator(mode="after")
    def _enough_twins(self) -> FinetuneSection:
        if self.twins and self.closed_form is not None:
            raise ValueError(
                "finetune.twins are trained by gradients, and finetune.closed_form makes its own; leave one "
                "out"
            )
        if self.twins and self.remainder:
            raise ValueError("finetune.twins are of the network alone, without its remainder; leave one out")
        if 0 < self.twins < FEWEST:
            raise ValueError(f"finetune.twins: {self.twins} tell no error; give 0 or at least {FEWEST}")
        return self

    @model_validator(mode="after")
    def _beside_a_model(self) -> FinetuneSection:
        if self.model_without_hessian is not None and self.model is None:
            raise ValueError("finetune.model_without_hessian is shown beside finetune.model; give that, too")
        return self

    @model_validator(mode="after")
    def _known_network(self) -> FinetuneSection:
        allowed = [field.name for field in dataclasses.fields(HiMLIPConfig) if field.name != "elements"]
        for key in self.network:
            if key not in allowed:
                raise ValueError(f"unknown key 'network.{key}'; {did_you_mean(key, allowed)}")
        return self


class AnharmonicSection(Section):
    """Further SSCHA runs beside the main one (natural masses, grid ``q_grid``, settings ``sscha``)."""

    isotopes: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")], dict[str, Mass]] = Field(
        default_factory=dict
    )
    """Masses (amu) by element for each isotope, e.g. ``{D3S: {H: 2.014}}``; begun from the main run."""
    grids: list[Grid] = Field(default_factory=list)
    """Further supercells, e.g. ``[[4, 4, 4]]``; begun from the potential's own force constants on them."""
    grid_share: float = Field(default=1.0, gt=0, le=1)
    """Configurations on further supercells, as a share of those of ``sscha``; a sum over q (λ) has the same
    error with 1/n of them on a supercell n times as large, that of one frequency grows as 1/√share."""
    corrected_by: list[str] = Field(default_factory=list)
    """Sets of finished labels, of cells that an SSCHA of this crystal drew: what DFT asks for in them beyond
    the potential, each cell judged by a twin that did not learn it, corrects the main SSCHA and its isotopes,
    λ and Tc."""
    grids_corrected_by: list[str] = Field(default_factory=list)
    """The same for the further supercells: sets whose cells, of any shapes, together hold every q-point of
    them, the smaller cells of ``corrected_by`` among them if they are named."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that evaluate the potential's forces; None: one for each core."""

    @model_validator(mode="after")
    def _names_are_free(self) -> AnharmonicSection:
        taken = sorted(set(self.isotopes) & {"state", "figures"})
        if taken:
            raise ValueError(f"an isotope cannot be called {taken[0]}; call it D3S, for example")
        return self


class Published(Section):
    """A published or measured value."""

    what: str
    value: str
    source: str


@dataclasses.dataclass(frozen=True)
class TcSection(TcOptions):
    """From G(q) and phonons to Tc: `TcOptions`, with the gap unless told otherwise, and where files lie.

    Parameters
    ----------
    electron_phonon : str or None
        Folder of the labels whose G(q) is used, e.g. ``harmonic444``; None: that of the finest q-grid.
    electronic_dos : Path or None
        N(ε) (output of dos.x, or two columns): Migdal–Eliashberg with it, too.
    carrier : {"dft", "potential"}
        Whose harmonic matrices carry the SSCHA's phonons onto the grid of G(q), where it is another. Those of
        the potential, where ph.x is not converged in k there.
    published : tuple of Published
        Values of others, shown beside those of the run.
    """

    gap: bool = True
    meshes: tuple[Mesh, ...] = ((8, 8, 8),)
    electron_phonon: str | None = None
    electronic_dos: Path | None = None
    carrier: Literal["dft", "potential"] = "dft"
    published: tuple[Published, ...] = ()


@dataclasses.dataclass(frozen=True)
class LearnSection(LearnSettings):
    """The loop in which the potential learns from the SSCHA: `LearnSettings`, and whether it runs.

    Parameters
    ----------
    enabled : bool or None
        None: where the labels are made in the run, so that a DFT engine is at hand.
    """

    enabled: bool | None = None
