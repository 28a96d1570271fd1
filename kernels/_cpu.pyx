# cython: language_level=3
"""Which x86-64 levels this processor has (https://gitlab.com/x86-psABIs/x86-64-ABI)."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    static int has_v3(void) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int has_v4(void) {
        return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int has_v3(void) { return 0; }
    static int has_v4(void) { return 0; }
    #endif
    """
    bint has_v3()
    bint has_v4()


def levels():
    """The levels that run here, the best one last."""
    return ("v1",) + (("v3",) if has_v3() else ()) + (("v4",) if has_v4() else ())
