"""Reactions: from a reactant and a product to a verified transition state."""

from himlip_ase.reactions.atom_order import matched_order, reordered
from himlip_ase.reactions.bonds import BondGraph, bond_graph
from himlip_ase.reactions.calculators import CALCULATORS, calculator_by_name
from himlip_ase.reactions.driven_ends import driven_product
from himlip_ase.reactions.gibbs_uncertainty import GibbsUncertainty, gibbs_uncertainty
from himlip_ase.reactions.growing_string import ReactionPath, StringSettings, find_path
from himlip_ase.reactions.interpolation import INTERPOLATIONS, interpolate
from himlip_ase.reactions.irc import Branch, Irc, IrcSettings, follow_irc
from himlip_ase.reactions.minimum import Minimum, find_minimum
from himlip_ase.reactions.rational_steps import SADDLE_STEPS
from himlip_ase.reactions.saddle import Saddle, SaddleSettings, find_saddle
from himlip_ase.reactions.search import Reaction, SearchSettings, find_reaction
from himlip_ase.reactions.surface import Counts, Surface
from himlip_ase.reactions.verdict import End, Judgement, Verdict, judge_reaction

__all__ = [
    "BondGraph",
    "Branch",
    "CALCULATORS",
    "Counts",
    "End",
    "GibbsUncertainty",
    "INTERPOLATIONS",
    "Irc",
    "IrcSettings",
    "Judgement",
    "Minimum",
    "Reaction",
    "ReactionPath",
    "SADDLE_STEPS",
    "Saddle",
    "SaddleSettings",
    "SearchSettings",
    "StringSettings",
    "Surface",
    "Verdict",
    "bond_graph",
    "calculator_by_name",
    "driven_product",
    "find_minimum",
    "find_path",
    "find_reaction",
    "find_saddle",
    "follow_irc",
    "gibbs_uncertainty",
    "interpolate",
    "judge_reaction",
    "matched_order",
    "reordered",
]
