# Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL: blocks of 32 values with one scale.

cdef extern from * nogil:
    """
    static const float IQ4_NL_VALUES[16] = {
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
    };
    /* A value belongs to the next code from the middle of two neighbours on. */
    static inline float iq4_nl_value(float x) {
        float value = IQ4_NL_VALUES[0];
        for (int k = 0; k < 15; ++k) {
            float middle = (IQ4_NL_VALUES[k] + IQ4_NL_VALUES[k + 1]) * 0.5f;
            value += x >= middle ? IQ4_NL_VALUES[k + 1] - IQ4_NL_VALUES[k] : 0.f;
        }
        return value;
    }
    static inline int iq4_nl_code(float x) {
        int code = 0;
        for (int k = 0; k < 15; ++k) code += x >= (IQ4_NL_VALUES[k] + IQ4_NL_VALUES[k + 1]) * 0.5f;
        return code;
    }
    /* A float's bits as an integer of the same order (-0 just below +0), and back: the same operation. */
    static inline int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }
    """
    float iq4_nl_value(float x) noexcept
    int iq4_nl_code(float x) noexcept
    int ordered(int bits) noexcept


cdef inline float signed_maximum(const float* x) noexcept nogil:
    """The first of 32 values that has the largest magnitude."""
    cdef int e, high = 0, low = 0, bits
    for e in range(32):
        bits = float_bits(x[e])
        high = max(high, bits)
        low = max(low, bits & 0x7fffffff)
    if low == 0:
        return ZERO
    cdef float positive = bits_float(low)
    if high != low:
        return -positive
    for e in range(32):
        if fabsf(x[e]) == positive:
            return x[e]
    return positive


cdef inline void extremes(const float* x, float* low, float* high) noexcept nogil:
    """The smallest and largest of 32 values; of zeros of both signs, the first."""
    cdef int e, key, least = 0x7fffffff, most = -0x7fffffff - 1
    for e in range(32):
        key = ordered(float_bits(x[e]))
        least = min(least, key)
        most = max(most, key)
    low[0] = bits_float(ordered(least))
    high[0] = bits_float(ordered(most))
    if low[0] == ZERO:
        for e in range(32):
            if x[e] == ZERO:
                low[0] = x[e]
                break
    if high[0] == ZERO:
        high[0] = ZERO if low[0] < ZERO else low[0]


cdef inline void put_halves(const uchar* codes, uchar* out) noexcept nogil:
    """The low 4 bits of codes e and e + 16 in byte e."""
    cdef int e
    for e in range(16):
        out[e] = (codes[e] & 15) | (codes[e + 16] & 15) << 4


cdef inline void put_fifths(const uchar* codes, uchar* out) noexcept nogil:
    """Bit 4 of code e as bit e of 32."""
    cdef int e, byte, bits
    for byte in range(4):
        bits = 0
        for e in range(8):
            bits |= (codes[8 * byte + e] >> 4) << e
        out[byte] = bits


cdef inline void row_importance(
    const float* weights, Py_ssize_t n, const float* x, float sigma, float* weight
) noexcept nogil:
    """An importance matrix's weights, by lane, each times the root of ``sigma`` and its value's own square."""
    cdef int i, e
    load(weights, n, 32, weight)
    for e in range(32):
        for i in range(W):
            weight[e * W + i] *= sqrtf(sigma + x[e * W + i] * x[e * W + i])


cdef inline float mean_square(const float* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef float total = ZERO
    for i in range(n):
        total += values[i] * values[i]
    return total / <float> n


cdef inline bint weighted(
    const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights, int nmax, int size
) noexcept nogil:
    """Q4_0 and Q5_0 of a row with an importance matrix. A lane is a block."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar[32] codes
    cdef float[W] largest, scale, inverse
    cdef float sigma = mean_square(values, n_blocks * 32)
    cdef int i, e
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W, n_blocks - block)
        load(values + block * 32, n, 32, x)
        row_importance(weights + block * 32, n, x, sigma, weight)
        find_scale(x, weight, 32, nmax, largest, scale, inverse)
        for i in range(n):
            for e in range(32):
                codes[e] = code_of(x[e * W + i], inverse[i], nmax, largest[i])
            ok &= put_half(scale[i], out)
            if nmax == 16:
                put_fifths(codes, out + 2)
            put_halves(codes, out + size - 16)
            out += size
        block += n
    return ok


cdef inline bint weighted_with_minimum(
    const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights, int nmax, int size
) noexcept nogil:
    """Q4_1 and Q5_1 of a row with an importance matrix. A lane is a block."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar[32] codes
    cdef float[W] scale, minimum, sum_weight, inverse, base
    cdef int[W] first
    cdef float sigma = mean_square(values, n_blocks * 32)
    cdef int i, e
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W, n_blocks - block)
        load(values + block * 32, n, 32, x)
        row_importance(weights + block * 32, n, x, sigma, weight)
        find_scale_and_minimum(
            x, weight, 32, nmax, -NINE_TENTHS, TWENTIETH, 36, False, True, scale, minimum, sum_weight, inverse, base, first
        )
        for i in range(n):
            for e in range(32):
                codes[e] = level_of(x[e * W + i], inverse[i], base[i], nmax, first[i], True)
            ok &= put_half(scale[i], out)
            ok &= put_half(-minimum[i], out + 2)
            if nmax == 31:
                put_fifths(codes, out + 4)
            put_halves(codes, out + size - 16)
            out += size
        block += n
    return ok


cdef bint q4_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[32] codes
    cdef Py_ssize_t block
    cdef int e
    cdef float d, inverse
    cdef bint ok = True
    if weights != NULL:
        return weighted(values, out, n_blocks, weights, 8, 18)
    for block in range(n_blocks):
        d = signed_maximum(values) / <float> -8
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        for e in range(32):
            codes[e] = min(15, <int> (<signed char> (<int> (values[e] * inverse + (<float> 8 + HALF)))))
        put_halves(codes, out + 2)
        values += 32
        out += 18
    return ok


cdef bint q5_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[32] codes
    cdef Py_ssize_t block
    cdef int e
    cdef float d, inverse
    cdef bint ok = True
    if weights != NULL:
        return weighted(values, out, n_blocks, weights, 16, 22)
    for block in range(n_blocks):
        d = signed_maximum(values) / <float> -16
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        for e in range(32):
            codes[e] = min(31, <int> (<signed char> (<int> (values[e] * inverse + (<float> 16 + HALF)))))
        put_fifths(codes, out + 2)
        put_halves(codes, out + 6)
        values += 32
        out += 22
    return ok


cdef bint q4_1(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[32] codes
    cdef Py_ssize_t block
    cdef int e
    cdef float low = ZERO, high = ZERO, d, inverse
    cdef bint ok = True
    if weights != NULL:
        return weighted_with_minimum(values, out, n_blocks, weights, 15, 20)
    for block in range(n_blocks):
        extremes(values, &low, &high)
        d = (high - low) / <float> 15
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        ok &= put_half(low, out + 2)
        for e in range(32):
            codes[e] = min(15, <int> (<signed char> (<int> ((values[e] - low) * inverse + HALF))))
        put_halves(codes, out + 4)
        values += 32
        out += 20
    return ok


cdef bint q5_1(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef uchar[32] codes
    cdef Py_ssize_t block
    cdef int e
    cdef float low = ZERO, high = ZERO, d, inverse
    cdef bint ok = True
    if weights != NULL:
        return weighted_with_minimum(values, out, n_blocks, weights, 31, 24)
    for block in range(n_blocks):
        extremes(values, &low, &high)
        d = (high - low) / <float> 31
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        ok &= put_half(low, out + 2)
        for e in range(32):
            codes[e] = <uchar> (<int> ((values[e] - low) * inverse + HALF))
        put_fifths(codes, out + 4)
        put_halves(codes, out + 8)
        values += 32
        out += 24
    return ok


cdef bint q8_0(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef Py_ssize_t block
    cdef int e, largest
    cdef float d, inverse
    cdef bint ok = True
    for block in range(n_blocks):
        largest = 0
        for e in range(32):
            largest = max(largest, float_bits(values[e]) & 0x7fffffff)
        d = bits_float(largest) / <float> 127
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        for e in range(32):
            out[2 + e] = <uchar> round_away(values[e] * inverse)
        values += 32
        out += 34
    return ok


cdef bint iq4_nl(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    """A lane is a block. Searches the scale as quantize_row_iq4_nl_impl does with 7 tries to either side."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar[32] codes
    cdef float[W] amax, largest, scale, best, inverse, sum_qx, sum_q2
    cdef int i, e, attempt, better
    cdef float v, q, wq
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W, n_blocks - block)
        load(values + block * 32, n, 32, x)
        for e in range(32):
            for i in range(W):
                weight[e * W + i] = x[e * W + i] * x[e * W + i]
        if weights != NULL:
            for i in range(W):
                scale[i] = ZERO
            for e in range(32):
                for i in range(W):
                    scale[i] += weight[e * W + i]
            for i in range(W):
                scale[i] *= SIXTEENTH
            load(weights + block * 32, n, 32, weight)
            for e in range(32):
                for i in range(W):
                    weight[e * W + i] *= sqrtf(scale[i] + x[e * W + i] * x[e * W + i])
        for i in range(W):
            amax[i] = ZERO
            largest[i] = ZERO
        for e in range(32):
            for i in range(W):
                v = fabsf(x[e * W + i])
                better = v > amax[i]
                amax[i] = select_float(better, v, amax[i])
                largest[i] = select_float(better, x[e * W + i], largest[i])
        for attempt in range(-8, 8):  # the first is the plain scale
            for i in range(W):
                if attempt == -8:
                    inverse[i] = ONE / (-largest[i] / <float> -127)
                else:
                    inverse[i] = (attempt - 127) / largest[i]
                sum_qx[i] = ZERO
                sum_q2[i] = ZERO
            for e in range(32):
                for i in range(W):
                    q = iq4_nl_value(inverse[i] * x[e * W + i])
                    wq = weight[e * W + i] * q
                    sum_qx[i] += wq * x[e * W + i]
                    sum_q2[i] += wq * q
            for i in range(W):
                v = sum_qx[i] / sum_q2[i]
                if attempt == -8:
                    scale[i] = select_float(sum_q2[i] > ZERO, v, ZERO)
                    best[i] = scale[i] * sum_qx[i]
                else:
                    better = (sum_q2[i] > ZERO) & (sum_qx[i] * sum_qx[i] > best[i] * sum_q2[i])
                    scale[i] = select_float(better, v, scale[i])
                    best[i] = select_float(better, v * sum_qx[i], best[i])
        for i in range(n):
            v = ZERO if amax[i] < GROUP_MAX_EPS else scale[i]
            ok &= put_half(v, out)
            v = ONE / v if v else ZERO
            for e in range(32):
                codes[e] = iq4_nl_code(v * x[e * W + i])
            put_halves(codes, out + 2)
            out += 18
        block += n
    return ok
