# Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL: blocks of 32 values with one scale.

cdef extern from * nogil:
    """
    /* A float's bits as an integer of the same order (-0 just below +0), and back: the same operation. */
    static inline int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }
    /* The smallest and largest of 32 values; of zeros, one of either sign. As integers they are found in vectors,
       but SSE2 has no minimum of integers. */
    static inline void extremes(const float* x, float* low, float* high) {
    #if defined(__SSE2__) && !defined(__SSE4_1__)
        const float* end = x + 32;
        float least[8], most[8];
        for (int i = 0; i < 8; ++i) least[i] = most[i] = x[i];
        for (x += 8; x < end; x += 8) {
            for (int i = 0; i < 8; ++i) least[i] = x[i] < least[i] ? x[i] : least[i];
            for (int i = 0; i < 8; ++i) most[i] = x[i] > most[i] ? x[i] : most[i];
        }
        for (int i = 1; i < 8; ++i) {
            least[0] = least[i] < least[0] ? least[i] : least[0];
            most[0] = most[i] > most[0] ? most[i] : most[0];
        }
        *low = least[0];
        *high = most[0];
    #else
        int32_t least = INT32_MAX, most = INT32_MIN;
        for (int e = 0; e < 32; ++e) {
            int32_t key = ordered(float_bits(x[e]));
            least = key < least ? key : least;
            most = key > most ? key : most;
        }
        *low = bits_float(ordered(least));
        *high = bits_float(ordered(most));
    #endif
    }
    /* Bit 4 of 8 bytes, the first one lowest. */
    static inline unsigned char fifth_bits(const unsigned char* codes) {
        uint64_t bytes;
        memcpy(&bytes, codes, 8);
        return (unsigned char) (((bytes >> 4 & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
    }
    /* The low 4 bits of 8 bytes, and those of 8 others above them. */
    static inline void put_8_bytes(const unsigned char* low, const unsigned char* high, unsigned char* out) {
        uint64_t a, b;
        memcpy(&a, low, 8);
        memcpy(&b, high, 8);
        a = (a & 0x0f0f0f0f0f0f0f0fu) | (b & 0x0f0f0f0f0f0f0f0fu) << 4;
        memcpy(out, &a, 8);
    }
    """
    void put_8_bytes(const uchar* low, const uchar* high, uchar* out) noexcept
    void extremes(const float* x, float* low, float* high) noexcept
    uchar fifth_bits(const uchar* codes) noexcept


cdef inline float signed_maximum(const float* x) noexcept nogil:
    """The first of 32 values that has the largest magnitude."""
    cdef float low = ZERO, high = ZERO
    cdef int e
    extremes(x, &low, &high)
    if high == -low:
        for e in range(32):
            if x[e] != ZERO and fabsf(x[e]) == high:
                return x[e]
        return ZERO
    return select_float(high > -low, high, low)


cdef inline void signed_extremes(const float* x, float* low, float* high) noexcept nogil:
    """The smallest and largest of 32 values; of zeros of both signs, the first."""
    cdef int e
    extremes(x, low, high)
    if low[0] == ZERO:
        for e in range(32):
            if x[e] == ZERO:
                low[0] = x[e]
                break
    if high[0] == ZERO:
        high[0] = ZERO if low[0] < ZERO else low[0]


cdef inline void at_most(uchar largest, uchar* codes) noexcept nogil:
    cdef int e
    for e in range(32):
        codes[e] = largest if codes[e] > largest else codes[e]


cdef inline void put_halves(const uchar* codes, uchar* out) noexcept nogil:
    """The low 4 bits of codes e and e + 16 in byte e."""
    put_8_bytes(codes, codes + 16, out)
    put_8_bytes(codes + 8, codes + 24, out + 8)


cdef inline void put_fifths(const uchar* codes, uchar* out) noexcept nogil:
    """Bit 4 of code e as bit e of 32."""
    cdef int byte
    for byte in range(4):
        out[byte] = fifth_bits(codes + 8 * byte)


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
            codes[e] = <uchar> (<int> (values[e] * inverse + (<float> 8 + HALF)))
        at_most(15, codes)
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
            codes[e] = <uchar> (<int> (values[e] * inverse + (<float> 16 + HALF)))
        at_most(31, codes)
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
        signed_extremes(values, &low, &high)
        d = (high - low) / <float> 15
        inverse = ONE / d if d else ZERO
        ok &= put_half(d, out)
        ok &= put_half(low, out + 2)
        for e in range(32):
            codes[e] = <uchar> (<int> ((values[e] - low) * inverse + HALF))
        at_most(15, codes)
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
        signed_extremes(values, &low, &high)
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
    """A lane is a block."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar[32] codes
    cdef float[W] scale
    cdef int i, e
    cdef float v
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
        find_table_scale(x, weight, scale)
        for i in range(n):
            ok &= put_half(scale[i], out)
            v = ONE / scale[i] if scale[i] else ZERO
            for e in range(32):
                codes[e] = iq4_nl_code(v * x[e * W + i])
            put_halves(codes, out + 2)
            out += 18
        block += n
    return ok
