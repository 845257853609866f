"""The version of this program, on the wire and in evidence."""

__version__ = "0.1.0"
