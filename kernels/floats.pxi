# F32, F16 and BF16, read and written.


cdef inline const float* widened(
    int source, const void* stored, Py_ssize_t start, Py_ssize_t n, float* out
) noexcept nogil:
    """``n`` values of a float type from ``start`` on, as float32, exactly; they go to ``out`` unless they are so already."""
    cdef Py_ssize_t i
    if source == F32:
        return <const float*> stored + start
    if source == F16:
        for i in range(n):
            out[i] = from_half((<const ushort*> stored)[start + i])
    else:
        for i in range(n):
            out[i] = bits_float(<int> ((<unsigned int> (<const ushort*> stored)[start + i]) << 16))
    return out


cdef inline bint all_finite(const float* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int other = 0
    for i in range(n):
        other |= (float_bits(values[i]) & 0x7f800000) == 0x7f800000
    return not other


cdef bint f32(const float* values, uchar* out, Py_ssize_t n, const float* weights) noexcept nogil:
    memcpy(out, values, n * sizeof(float))
    return True


cdef bint f16(const float* values, uchar* out, Py_ssize_t n, const float* weights) noexcept nogil:
    cdef ushort* halves = <ushort*> out
    cdef Py_ssize_t i
    cdef int largest = 0
    for i in range(n):
        halves[i] = to_half(values[i])
    for i in range(n):
        largest = max(largest, float_bits(values[i]) & 0x7fffffff)
    return largest < 0x477ff000  # 65520, which rounds to infinity


cdef bint bf16(const float* values, uchar* out, Py_ssize_t n, const float* weights) noexcept nogil:
    """Ties to even; the largest values round to infinity."""
    cdef ushort* halves = <ushort*> out
    cdef Py_ssize_t i
    cdef int largest = 0
    cdef unsigned int bits
    for i in range(n):
        bits = <unsigned int> float_bits(values[i])
        halves[i] = <ushort> ((bits + (0x7fff + ((bits >> 16) & 1))) >> 16)
    for i in range(n):
        largest = max(largest, float_bits(values[i]) & 0x7fffffff)
    return largest < 0x7f7f8000
