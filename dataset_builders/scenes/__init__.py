"""Rendered photos of corridors, rooms and streets whose label follows from what is in them."""
