"""``python -m cohortium`` is the command line."""

from cohortium.cli.main import main

main()
