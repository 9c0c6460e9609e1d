"""Errors of a potential on labelled structures, in the units that people quote."""
