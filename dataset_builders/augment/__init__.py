"""VL-ADAS: augmented copies of training photos whose label stays true."""
