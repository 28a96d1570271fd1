# Q1_0, TQ1_0 and TQ2_0, whose codes are signs or one of three values, and the 4-bit floats MXFP4 and NVFP4. They take
# no importance matrix.

from libc.math cimport floorf, log2f

cdef extern from * nogil:
    """
    /* The codes of E2M1, doubled, are 0, 1, 2, 3, 4, 6, 8, 12, and from the ninth on their negatives. */
    static inline int fp4_code(float x, float d, int negative) {
        int code = (x > 0.5f * d) + (x > 1.5f * d) + (x > 2.5f * d) + (x > 3.5f * d) + (x > 5.f * d) + (x > 7.f * d)
            + (x > 10.f * d);
        return code + ((negative & (code != 0)) << 3);
    }

    /* Half of 2^(e - 127). */
    static inline float half_of_power(int e) { return bits_float(e < 2 ? 0x00200000 << e : (e - 1) << 23); }

    /* An unsigned float of 4 exponent and 3 fraction bits, rounded half up, and half of its value. */
    static inline int to_ue4m3(float x) {
        if (!(x > 0.f)) return 0;
        if (x > 448.f) x = 448.f;
        int bits = float_bits(x), exponent = (bits >> 23 & 0xff) - 127 + 7;
        if (exponent <= 0) {
            int fraction = (int) (x * 512.f + 0.5f);
            return fraction > 7 ? 7 : fraction;
        }
        int code = (exponent << 3 | (bits >> 20 & 7)) + (bits >> 19 & 1);
        return exponent >= 15 || code >= 15 << 3 ? 0x7e : code;
    }
    static inline float half_of_ue4m3(int code) {
        if (code == 0 || code == 0x7f) return 0.f;
        int exponent = code >> 3 & 15, fraction = code & 7;
        float value = exponent ? (8 + fraction) * bits_float((exponent - 10 + 127) << 23) : fraction * bits_float(118 << 23);
        return value * 0.5f;
    }
    """
    int fp4_code(float x, float d, int negative) noexcept
    float half_of_power(int e) noexcept
    int to_ue4m3(float x) noexcept
    float half_of_ue4m3(int code) noexcept


cdef inline float magnitude(const float* x, int n) noexcept nogil:
    """The largest magnitude of n values."""
    cdef int e, largest = 0
    for e in range(n):
        largest = max(largest, float_bits(x[e]) & 0x7fffffff)
    return bits_float(largest)


cdef inline void fp4_codes(const float* x, int n, float d, uchar* codes) noexcept nogil:
    """The first of the nearest of 16 values times d, for n values.

    All products and differences that matter are exact, so the nearest is told by the middles; at a middle, the smaller
    magnitude comes first. Where d is 0 all are 0.
    """
    cdef int e
    for e in range(n):
        codes[e] = fp4_code(fabsf(x[e]), d, x[e] < ZERO)
    if d == ZERO:
        memset(codes, 0, n)


cdef bint mxfp4(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[32] codes
    cdef Py_ssize_t block
    cdef float largest
    for block in range(n_blocks):
        largest = magnitude(values, 32)
        out[0] = <uchar> (<int> (floorf(log2f(largest)) - <float> 2 + <float> 127)) if largest > ZERO else 0
        fp4_codes(values, 32, half_of_power(out[0]), codes)
        put_halves(codes, out + 1)
        values += 32
        out += 17
    return True


cdef bint nvfp4(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[16] codes
    cdef Py_ssize_t block
    cdef int s, e
    for block in range(n_blocks):
        for s in range(4):
            out[s] = to_ue4m3(magnitude(values, 16) / <float> 6)
            fp4_codes(values, 16, half_of_ue4m3(out[s]), codes)
            for e in range(8):
                out[4 + 8 * s + e] = codes[e] | codes[e + 8] << 4
            values += 16
        out += 36
    return True


cdef bint q1_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef Py_ssize_t block
    cdef int e, byte, bits
    cdef float total
    cdef bint ok = True
    for block in range(n_blocks):
        total = ZERO
        for e in range(128):
            total += fabsf(values[e])
        ok &= put_half(total / <float> 128, out)
        for byte in range(16):
            bits = 0
            for e in range(8):
                bits |= (values[8 * byte + e] >= ZERO) << e
            out[2 + byte] = bits
        values += 128
        out += 18
    return ok


cdef bint q2_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[64] codes
    cdef Py_ssize_t block
    cdef int e
    cdef float largest, inverse
    cdef bint ok = True
    for block in range(n_blocks):
        largest = magnitude(values, 64)
        inverse = ONE / largest if largest else ZERO
        ok &= put_half(largest, out)
        for e in range(64):
            codes[e] = <uchar> clamp_int(0, round_away(values[e] * inverse) + 1, 3)
        for e in range(16):
            out[2 + e] = codes[4 * e] | codes[4 * e + 1] << 2 | codes[4 * e + 2] << 4 | codes[4 * e + 3] << 6
        values += 64
        out += 18
    return ok


cdef inline bint ternary(const float* values, uchar* codes, uchar* d) noexcept nogil:
    """256 codes 0, 1 or 2, and the scale."""
    cdef float largest = magnitude(values, 256), inverse = ONE / largest if largest else ZERO
    cdef int e
    for e in range(256):
        codes[e] = <uchar> (round_away(values[e] * inverse) + 1)
    return put_half(largest, d)


cdef inline void put_trits(const uchar* codes, int stride, int n, uchar* out) noexcept nogil:
    """n codes, ``stride`` apart, as the digits of a fraction in base 3, in a byte; ``stride`` such bytes."""
    cdef int byte, e
    cdef uchar digits
    for byte in range(stride):
        digits = 0
        for e in range(n):
            digits = <uchar> (digits * 3 + codes[byte + e * stride])
        if n == 4:
            digits = <uchar> (digits * 3)
        out[byte] = <uchar> ((<int> digits * 256 + 242) // 243)


cdef bint tq1_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[256] codes
    cdef Py_ssize_t block
    cdef bint ok = True
    for block in range(n_blocks):
        ok &= ternary(values, codes, out + 52)
        put_trits(codes, 32, 5, out)
        put_trits(codes + 160, 16, 5, out + 32)
        put_trits(codes + 240, 4, 4, out + 48)
        values += 256
        out += 54
    return ok


cdef bint tq2_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[256] codes
    cdef Py_ssize_t block
    cdef int half, e, k, bits
    cdef bint ok = True
    for block in range(n_blocks):
        ok &= ternary(values, codes, out + 64)
        for half in range(2):
            for e in range(32):
                bits = 0
                for k in range(4):
                    bits |= (codes[128 * half + 32 * k + e] & 3) << 2 * k
                out[32 * half + e] = bits
        values += 256
        out += 66
    return ok
