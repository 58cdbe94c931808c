"""Engines behind the seam, as the front sees them. No torch here."""
