"""Modelfiles: as data, as text, and as ``/api/create`` requests."""
