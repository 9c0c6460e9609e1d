"""Compiled passes over the dense layers of each atom: the scalar networks, and what atoms say.

Names besides those in the head of `himlip_ase.potential.fused.geometry`: `bent` (N, I) are the inputs of a
network after arsinh, `hidden` and `scalars` (N, H) its values before SiLU and its results, `down` (N, H) the
gradient by the results; `first` (I, H), `second` (H, H) and `readout` (elements, H) are weights, (H, I) and
(H, H) in the adjoint, and `offset` (elements, H) and `shift` (H,) are what is added to the products.
"""

from __future__ import annotations

import math

import numpy as np

from himlip_ase.potential.compilation import compiled
from himlip_ase.potential.fused.tiles import add_product, product


@compiled
def network(
    start, stop, species, bent, first, offset, second, shift, readout, readout_shift, scale, hidden, scalars,
    energies,
):  # fmt: skip
    """The network of each atom; adds its share to the energies.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, bent, first, offset, second, shift, readout, readout_shift, scale, hidden, scalars,
    energies : float, ndarray
        As in the head of this file; `readout_shift` (elements,) and `scale` make energies of results.
    """
    one = bent.dtype.type(1)
    width = hidden.shape[1]
    active = np.empty((stop - start, width), dtype=bent.dtype)
    for i in range(start, stop):
        for h in range(width):
            hidden[i, h] = offset[species[i], h]
    add_product(bent[start:stop], first, hidden[start:stop])
    for i in range(start, stop):
        for h in range(width):
            value = hidden[i, h]
            active[i - start, h] = value / (one + math.exp(-value))
            scalars[i, h] = value + shift[h]
    add_product(active, second, scalars[start:stop])
    for i in range(start, stop):
        total = readout_shift[species[i]]
        for h in range(width):
            total += readout[species[i], h] * scalars[i, h]
        energies[i] += scale * total


@compiled
def network_adjoint(
    start, stop, species, hidden, standard, first, second, readout, scale, inverse_spread, down, to_standard,
    to_inputs,
):  # fmt: skip
    """Gradients by the inputs; `down`, which holds those of the layers above, becomes the whole.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    species, hidden, standard, first, second, readout, scale, inverse_spread, down, to_standard,
    to_inputs : float, ndarray
        As in the head of this file; `to_standard` is the gradient by `bent`.
    """
    one = hidden.dtype.type(1)
    width = hidden.shape[1]
    through = np.empty((stop - start, width), dtype=hidden.dtype)
    for i in range(start, stop):
        for h in range(width):
            down[i, h] += scale * readout[species[i], h]
    product(down[start:stop], second, through)
    for i in range(start, stop):
        for h in range(width):
            value = hidden[i, h]
            sigmoid = one / (one + math.exp(-value))
            slope = sigmoid * (one + value * (one - sigmoid))
            through[i - start, h] = down[i, h] + through[i - start, h] * slope
    product(through, first, to_standard[start:stop])
    for i in range(start, stop):
        a = species[i]
        for q in range(standard.shape[1]):
            root = math.sqrt(one + standard[i, q] * standard[i, q])
            to_inputs[i, q] = to_standard[i, q] * (inverse_spread[a, q] / root)


@compiled
def saying(start, stop, density, mixing, scalars, head, head_shift, said):
    """What each atom says, of its densities (16, N, 4 C) and of its scalars.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    density, scalars, said : ndarray
        As in the heads of this file and of `himlip_ase.potential.fused.geometry`.
    mixing : ndarray (16, 4 C, F)
    head : ndarray (H, F)
    head_shift : ndarray (F,)
    """
    n_features = said.shape[1]
    spoken = np.empty((stop - start, n_features), dtype=said.dtype)
    for s in range(16):
        for i in range(start, stop):
            for f in range(n_features):
                spoken[i - start, f] = head_shift[f] if s == 0 else said.dtype.type(0)
        if s == 0:
            add_product(scalars[start:stop], head, spoken)
        add_product(density[s, start:stop], mixing[s], spoken)
        for i in range(start, stop):
            for f in range(n_features):
                said[i, f, s] = spoken[i - start, f]


@compiled
def saying_adjoint(start, stop, said_gradient, unmixing, head, inputs_gradient, to_density, to_scalars):
    """Gradients by densities (16, N, 4 C) and by scalars (N, H), which are the last of the inputs.

    Parameters
    ----------
    start, stop : int
        Range of atoms.
    said_gradient : ndarray (N, F, 16)
    unmixing : ndarray (16, F, 4 C)
    head : ndarray (F, H)
    inputs_gradient, to_density, to_scalars : ndarray
        As in the head of this file.
    """
    width = to_scalars.shape[1]
    place = inputs_gradient.shape[1] - width
    for i in range(start, stop):
        for h in range(width):
            to_scalars[i, h] = inputs_gradient[i, place + h]
    add_product(said_gradient[start:stop, :, 0], head, to_scalars[start:stop])
    for s in range(16):
        product(said_gradient[start:stop, :, s], unmixing[s], to_density[s, start:stop])
