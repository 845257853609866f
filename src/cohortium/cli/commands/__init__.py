"""The commands of ``cohortium run STUDY``, one file an area: methods of a study, as data."""
