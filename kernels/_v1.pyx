# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
cdef extern from *:
    """
    #define LANES 16
    """
    enum:
        W "LANES"
        V "(4 * LANES)"

include "module.pxi"
