"""The ``himlip`` command: one module per subcommand; it parses and calls, and computes nothing."""
