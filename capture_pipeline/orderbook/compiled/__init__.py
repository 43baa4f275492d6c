"""Order book in compiled code (numba)."""
