"""Measures any telephone in an emulated network. README.md says how."""
