"""The command line; `cohortium.cli.main` is the entry point."""
