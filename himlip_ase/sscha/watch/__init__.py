"""Does an ensemble stay where the potential was taught?  Distances, environments of the labels, committee."""
