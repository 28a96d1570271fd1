"""Compiled block kernels: the sources are in ``kernels/``, and ``ollamaq/quantize/kernels.py`` chooses among them."""
