"""Did it converge?  The self-consistency residual, and the verdict of a fresh ensemble."""
