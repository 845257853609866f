"""The demonstration: a real consortium of processes on this machine, driven as people would."""
