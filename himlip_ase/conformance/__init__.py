"""The single checks behind `himlip_ase.testing.check_calculator`, one module per kind."""
