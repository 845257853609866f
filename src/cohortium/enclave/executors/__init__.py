"""One executor a file: where programs run on lent data."""
