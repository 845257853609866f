"""The researcher side: connect, study, run, result."""
