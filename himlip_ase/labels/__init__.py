"""What is known about energies: frames, Hessians, readers, stores, checks, and what is worth labelling."""
