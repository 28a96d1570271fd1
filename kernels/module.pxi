# The one function that Python sees: rows of floats in, blocks out.

cdef enum:  # ids of ggml_type
    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42
    TILE = 4096  # values at a time: they stay in the first-level cache

DONE, NOT_FINITE, OVERFLOW = 0, 1, 2

include "common.pxi"
include "floats.pxi"
include "search.pxi"
include "blocks_of_32.pxi"
include "low_bit.pxi"
include "k_quants.pxi"
include "codebooks.pxi"
include "i_quants.pxi"
include "iq1.pxi"

cdef struct Format:
    Kernel kernel
    int block
    int size


cdef Format format_of(int type_id):
    if type_id == F32:
        return Format(f32, 1, 4)
    if type_id == F16:
        return Format(f16, 1, 2)
    if type_id == BF16:
        return Format(bf16, 1, 2)
    if type_id == Q4_0:
        return Format(q4_0, 32, 18)
    if type_id == Q4_1:
        return Format(q4_1, 32, 20)
    if type_id == Q5_0:
        return Format(q5_0, 32, 22)
    if type_id == Q5_1:
        return Format(q5_1, 32, 24)
    if type_id == Q8_0:
        return Format(q8_0, 32, 34)
    if type_id == IQ4_NL:
        return Format(iq4_nl, 32, 18)
    if type_id == TQ1_0:
        return Format(tq1_0, 256, 54)
    if type_id == TQ2_0:
        return Format(tq2_0, 256, 66)
    if type_id == MXFP4:
        return Format(mxfp4, 32, 17)
    if type_id == NVFP4:
        return Format(nvfp4, 64, 36)
    if type_id == Q1_0:
        return Format(q1_0, 128, 18)
    if type_id == Q2_0:
        return Format(q2_0, 64, 18)
    if type_id == Q2_K:
        return Format(q2_k, 256, 84)
    if type_id == Q3_K:
        return Format(q3_k, 256, 110)
    if type_id == Q4_K:
        return Format(q4_k, 256, 144)
    if type_id == Q5_K:
        return Format(q5_k, 256, 176)
    if type_id == Q6_K:
        return Format(q6_k, 256, 210)
    if type_id == IQ4_XS:
        return Format(iq4_xs, 256, 136)
    if type_id == IQ3_S:
        return Format(iq3_s, 256, 110)
    if type_id == IQ3_XXS:
        return Format(iq3_xxs, 256, 98)
    if type_id == IQ2_S:
        return Format(iq2_s, 256, 82)
    if type_id == IQ2_XS:
        return Format(iq2_xs, 256, 74)
    if type_id == IQ2_XXS:
        return Format(iq2_xxs, 256, 66)
    if type_id == IQ1_S:
        return Format(iq1_s, 256, 50)
    if type_id == IQ1_M:
        return Format(iq1_m, 256, 56)
    raise ValueError(f"no kernel for ggml type {type_id}")


def quantize(int source, const uchar[::1] stored, int target, uchar[::1] out, const float[::1] weights=None):
    """Convert floats of ggml type ``source`` to blocks of ggml type ``target``, without the GIL.

    ``weights``, one for each value of a row, tell which matter most. Returns DONE, NOT_FINITE (an input value) or
    OVERFLOW (a value or scale of the output).
    """
    cdef Format format = format_of(target)
    cdef Py_ssize_t width = 4 if source == F32 else 2
    cdef Py_ssize_t n = stored.shape[0] // width, at = 0, count
    if source not in (F32, F16, BF16):
        raise ValueError(f"ggml type {source} is not a float type")
    if stored.shape[0] % width or n % format.block or out.shape[0] != n // format.block * format.size:
        raise ValueError(f"{stored.shape[0]} bytes of type {source} do not make {out.shape[0]} bytes of type {target}")
    if weights is None and target in NEEDS_WEIGHTS:
        raise ValueError(f"ggml type {target} needs weights")
    if target in CODEBOOKS:
        build_codebook(target)
    if n == 0:
        return DONE
    cdef Py_ssize_t step = TILE  # with weights: a row
    cdef const float* weight = NULL
    if weights is not None:
        step = weights.shape[0]
        if step == 0 or n % step or step % format.block:
            raise ValueError(f"{step} weights are not a row of {n} values")
        weight = &weights[0]
    cdef float tile[TILE]
    cdef float* buffer = tile
    cdef const float* values
    cdef uchar* place = &out[0]
    cdef const void* first = &stored[0]
    cdef bint ok = True, finite = True
    if step > TILE:
        buffer = <float*> malloc(step * sizeof(float))
        if buffer == NULL:
            raise MemoryError
    with nogil:
        while at < n:
            count = min(step, n - at)
            values = widened(source, first, at, count, buffer)
            finite = all_finite(values, count)
            if not finite:
                break
            ok &= format.kernel(values, place, count // format.block, weight)
            place += count // format.block * format.size
            at += count
    if step > TILE:
        free(buffer)
    return NOT_FINITE if not finite else DONE if ok else OVERFLOW
