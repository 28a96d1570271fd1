# Q2_K to Q6_K: super-blocks of 256 values, whose sub-blocks of 32 or 16 have scales of their own. A lane is a sub-block.


cdef inline void importance(
    const float* x, const float* weights, Py_ssize_t n, int width, float times, float* sigma, float* weight
) noexcept nogil:
    """An importance matrix's weights, by lane, each times the root of what ``times`` the mean square of its super-block
    and its own square add up to; ``sigma`` gets the former."""
    cdef int i, e, per = 256 // width, s
    cdef float total
    load(weights, n * per, width, weight)
    for s in range(W // per):
        total = ZERO
        for i in range(per * s, per * s + per):
            for e in range(width):
                total += x[e * W + i] * x[e * W + i]
        total = times * total / <float> 256
        for i in range(per * s, per * s + per):
            sigma[i] = total
    for e in range(width):
        for i in range(W):
            weight[e * W + i] *= sqrtf(sigma[i] + x[e * W + i] * x[e * W + i])


cdef inline bint with_minimum(
    const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights, int nmax, float rmin, int n_steps,
    int block_bytes,
) noexcept nogil:
    """Q4_K and Q5_K."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar codes[32 * W]
    cdef float[W] scale, minimum, sum_weight, inverse, base, d, dm
    cdef int[W] first
    cdef int i, e, s
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 8, n_blocks - block)
        load(values + block * 256, n * 8, 32, x)
        if weights != NULL:
            importance(x, weights + block * 256, n, 32, 2, d, weight)
            find_scale_and_minimum(
                x, weight, 32, nmax, -NINE_TENTHS, TWENTIETH, 36, False, True, scale, minimum, sum_weight, inverse, base, first
            )
        else:
            for i in range(W):
                d[i] = ZERO
            for e in range(32):
                for i in range(W):
                    d[i] += x[e * W + i] * x[e * W + i]
            for i in range(W):
                d[i] = sqrtf(d[i] / <float> 32)
            for e in range(32):
                for i in range(W):
                    weight[e * W + i] = d[i] + fabsf(x[e * W + i])
            find_scale_and_minimum(
                x, weight, 32, nmax, rmin, STEP, n_steps, False, False, scale, minimum, sum_weight, inverse, base, first
            )
        for s in range(n):
            ok &= put_scales(
                scale + 8 * s, minimum + 8 * s, NULL if weights == NULL else sum_weight + 8 * s,
                255 if nmax == 15 else 63, out + s * block_bytes, d + 8 * s, dm + 8 * s,
            )
        for i in range(8 * n, W):
            d[i] = ONE
            dm[i] = ZERO
        for e in range(32):
            for i in range(W):
                codes[e * W + i] = clamp_int(0, nearest_int((x[e * W + i] + dm[i]) / d[i]), nmax)
        for i in range(8 * n):
            if not d[i]:  # its scale is lost in the super-block's: the codes of the search stay
                for e in range(32):
                    codes[e * W + i] = level_of(x[e * W + i], inverse[i], base[i], nmax, first[i], weights != NULL)
        for s in range(n):
            if nmax == 15:
                put_nibbles(codes + 8 * s, out + 16)
            else:
                put_fifth_bits(codes + 8 * s, out + 16)
                put_nibbles(codes + 8 * s, out + 48)
            out += block_bytes
        block += n
    return ok


cdef inline bint put_scales(
    const float* scale, const float* minimum, const float* weight, int highest, uchar* out, float* d, float* dm
) noexcept nogil:
    """d, dmin and the 6-bit scales and minima of 8 sub-blocks, in 16 bytes; what they come to goes to ``d``, ``dm``.

    ``weight``, what each sub-block weighs, is NULL where there is no importance matrix. With one, a negative scale wraps
    and is cut to ``highest``.
    """
    cdef float max_scale = ZERO, max_min = ZERO, inv_scale, inv_min
    cdef uchar[8] ls, lm
    cdef int j
    cdef bint ok
    if weight != NULL:
        max_scale = scale_of_scales(8, 63, scale, ls, weight)
        max_min = scale_of_scales(8, 63, minimum, lm, weight)
        for j in range(8):
            ls[j] = min(highest, <int> ls[j])
            lm[j] = min(highest, <int> lm[j])
    else:
        for j in range(8):
            max_scale = scale[j] if scale[j] > max_scale else max_scale
            max_min = minimum[j] if minimum[j] > max_min else max_min
        inv_scale = <float> 63 / max_scale if max_scale > ZERO else ZERO
        inv_min = <float> 63 / max_min if max_min > ZERO else ZERO
        for j in range(8):
            ls[j] = min(63, <int> (<uchar> nearest_int(inv_scale * scale[j])))
            lm[j] = min(63, <int> (<uchar> nearest_int(inv_min * minimum[j])))
        max_scale = max_scale / <float> 63
        max_min = max_min / <float> 63
    ok = put_half(max_scale, out)
    ok &= put_half(max_min, out + 2)
    for j in range(4):
        out[4 + j] = ls[j] | (ls[j + 4] >> 4) << 6
        out[8 + j] = lm[j] | (lm[j + 4] >> 4) << 6
        out[12 + j] = (ls[j + 4] & 15) | (lm[j + 4] & 15) << 4
    max_scale = from_half(to_half(max_scale))
    max_min = from_half(to_half(max_min))
    for j in range(4):  # as they read back: what has wrapped reaches into its neighbours' bits
        d[j] = max_scale * (out[4 + j] & 63)
        dm[j] = max_min * (out[8 + j] & 63)
        d[j + 4] = max_scale * (out[12 + j] & 15 | (out[4 + j] >> 6) << 4)
        dm[j + 4] = max_min * (out[12 + j] >> 4 | (out[8 + j] >> 6) << 4)
    return ok


cdef inline void put_nibbles(const uchar* codes, uchar* out) noexcept nogil:
    cdef int j, e
    for j in range(4):
        for e in range(32):
            out[32 * j + e] = (codes[e * W + 2 * j] & 15) | (codes[e * W + 2 * j + 1] & 15) << 4


cdef inline void put_fifth_bits(const uchar* codes, uchar* out) noexcept nogil:
    cdef int j, e, bits
    for e in range(32):
        bits = 0
        for j in range(8):
            bits |= (codes[e * W + j] >> 4) << j
        out[e] = bits


cdef bint q4_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return with_minimum(values, out, n_blocks, weights, 15, -ONE, 20, 144)


cdef bint q5_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return with_minimum(values, out, n_blocks, weights, 31, -HALF, 15, 176)


cdef bint q2_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef float x[16 * W]
    cdef float weight[16 * W]
    cdef uchar codes[16 * W]
    cdef float[W] scale, minimum, sum_weight, inverse, base, d, dm
    cdef int[W] first
    cdef int i, e, s
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 16, n_blocks - block)
        load(values + block * 256, n * 16, 16, x)
        if weights != NULL:
            importance(x, weights + block * 256, n, 16, 1, d, weight)
            find_scale_and_minimum(
                x, weight, 16, 3, -NINE_TENTHS, TWENTIETH, 36, False, True, scale, minimum, sum_weight, inverse, base, first
            )
        else:
            for e in range(16):
                for i in range(W):
                    weight[e * W + i] = fabsf(x[e * W + i])
            find_scale_and_minimum(
                x, weight, 16, 3, -HALF, STEP, 15, True, False, scale, minimum, sum_weight, inverse, base, first
            )
        for s in range(n):
            ok &= put_nibble_scales(
                scale + 16 * s, minimum + 16 * s, NULL if weights == NULL else sum_weight + 16 * s, out + 84 * s,
                d + 16 * s, dm + 16 * s,
            )
        for i in range(16 * n, W):
            d[i] = ONE
            dm[i] = ZERO
        for e in range(16):
            for i in range(W):
                codes[e * W + i] = clamp_int(0, nearest_int((x[e * W + i] + dm[i]) / d[i]), 3)
        for i in range(16 * n):
            if not d[i]:
                for e in range(16):
                    codes[e * W + i] = level_of(x[e * W + i], inverse[i], base[i], 3, first[i], weights != NULL)
        for s in range(n):
            put_pairs(codes + 16 * s, out + 16)
            out += 84
        block += n
    return ok


cdef inline bint put_nibble_scales(
    const float* scale, const float* minimum, const float* weight, uchar* out, float* d, float* dm
) noexcept nogil:
    """The 4-bit scales and minima of 16 sub-blocks, and d and dmin behind 64 bytes of codes."""
    cdef float max_scale = ZERO, max_min = ZERO, factor
    cdef uchar[16] ls, lm
    cdef int j
    cdef bint ok
    memset(ls, 0, 16)
    memset(lm, 0, 16)
    if weight != NULL:
        max_scale = scale_of_scales(16, 15, scale, ls, weight)
        max_min = scale_of_scales(16, 15, minimum, lm, weight)
    else:
        for j in range(16):
            max_scale = scale[j] if scale[j] > max_scale else max_scale
            max_min = minimum[j] if minimum[j] > max_min else max_min
        if max_scale > ZERO:
            factor = <float> 15 / max_scale
            for j in range(16):
                ls[j] = <uchar> nearest_int(factor * scale[j])
            max_scale = max_scale / <float> 15
        if max_min > ZERO:
            factor = <float> 15 / max_min
            for j in range(16):
                lm[j] = <uchar> nearest_int(factor * minimum[j])
            max_min = max_min / <float> 15
    ok = put_half(max_scale, out + 80)
    ok &= put_half(max_min, out + 82)
    max_scale = from_half(to_half(max_scale))
    max_min = from_half(to_half(max_min))
    for j in range(16):
        out[j] = <uchar> (ls[j] | lm[j] << 4)
        d[j] = max_scale * (out[j] & 15)
        dm[j] = max_min * (out[j] >> 4)
    return ok


cdef inline void put_pairs(const uchar* codes, uchar* out, int lanes=W) noexcept nogil:
    """The low 2 bits of 256 codes in 64 bytes."""
    cdef int half, j, e, k, bits
    for half in range(2):
        for j in range(2):
            for e in range(16):
                bits = 0
                for k in range(4):
                    bits |= (codes[e * lanes + 8 * half + j + 2 * k] & 3) << 2 * k
                out[32 * half + 16 * j + e] = bits


cdef bint q3_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef float x[16 * W]
    cdef float weight[16 * W]
    cdef uchar codes[16 * W]
    cdef float[W] scale, sum_weight, largest, inverse, d
    cdef int i, e, s
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    if weights == NULL:
        return q3_k_without_weights(values, out, n_blocks)
    while block < n_blocks:
        n = min(W // 16, n_blocks - block)
        load(values + block * 256, n * 16, 16, x)
        importance(x, weights + block * 256, n, 16, 2, d, weight)
        for i in range(W):
            sum_weight[i] = ZERO
        for e in range(16):
            for i in range(W):
                sum_weight[i] += weight[e * W + i]
        find_scale(x, weight, 16, 4, largest, scale, inverse)
        for s in range(n):
            ok &= put_six_bit_scales(scale + 16 * s, sum_weight + 16 * s, out + 110 * s, d + 16 * s)
        for i in range(16 * n, W):
            d[i] = ONE
        for e in range(16):
            for i in range(W):
                codes[e * W + i] = clamp_int(-4, nearest_int(x[e * W + i] / d[i]), 3) + 4
        for i in range(16 * n):
            if not d[i]:
                for e in range(16):
                    codes[e * W + i] = code_of(x[e * W + i], inverse[i], 4, largest[i])
        for s in range(n):
            put_third_bits(codes + 16 * s, out)
            put_pairs(codes + 16 * s, out + 32)
            out += 110
        block += n
    return ok


cdef inline bint q3_k_without_weights(const float* values, uchar* out, Py_ssize_t n_blocks) noexcept nogil:
    """Codes from -4 to 3 that change one by one while it helps (make_q3_quants).

    Each step needs the one before it, so V lanes, several vectors, are worked on at a time.
    """
    cdef float x[16 * V]
    cdef float level[16 * V]
    cdef uchar codes[16 * V]
    cdef float[V] amax, signed_max, sum_lx, sum_l2, scale, d, new, slx, sl2
    cdef int i, e, l, s, attempt, changed, better, wild
    cdef float v, w, sx, s2
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(V // 16, n_blocks - block)
        load(values + block * 256, n * 16, 16, x, V)
        for i in range(V):
            amax[i] = ZERO
            signed_max[i] = ZERO
            sum_lx[i] = ZERO
            sum_l2[i] = ZERO
        for e in range(16):
            for i in range(V):
                v = fabsf(x[e * V + i])
                better = v > amax[i]
                amax[i] = select_float(better, v, amax[i])
                signed_max[i] = select_float(better, x[e * V + i], signed_max[i])
        for i in range(V):
            scale[i] = <float> -4 / signed_max[i]
        for e in range(16):
            for i in range(V):
                v = x[e * V + i]
                l = clamp_int(-4, nearest_int(scale[i] * v), 3)
                level[e * V + i] = l
                w = v * v
                sum_lx[i] += w * v * l
                sum_l2[i] += w * l * l
        for attempt in range(5):
            changed = 0
            for e in range(16):
                wild = 0
                for i in range(V):
                    v = x[e * V + i]
                    w = v * v
                    slx[i] = sum_lx[i] - w * v * level[e * V + i]
                    sl2[i] = sum_l2[i] - w * level[e * V + i] * level[e * V + i]
                    new[i] = v * sl2[i] / slx[i]
                    wild |= not fabsf(new[i]) < LARGEST_ROUNDED
                if wild:
                    for i in range(V):
                        new[i] = clamp_int(-4, nearest_int(new[i]), 3)
                else:
                    for i in range(V):
                        new[i] = nearest_within(-4, new[i], 3)
                for i in range(V):
                    v = x[e * V + i]
                    w = v * v
                    better = (slx[i] > ZERO) & (new[i] != level[e * V + i])
                    sx = slx[i] + w * v * new[i]
                    s2 = sl2[i] + w * new[i] * new[i]
                    better &= (s2 > ZERO) & (sx * sx * sum_l2[i] > sum_lx[i] * sum_lx[i] * s2)
                    sum_lx[i] = select_float(better, sx, sum_lx[i])
                    sum_l2[i] = select_float(better, s2, sum_l2[i])
                    level[e * V + i] = select_float(better, new[i], level[e * V + i])
                    changed |= better
            if not changed:
                break
        for i in range(V):
            v = select_float(sum_l2[i] > ZERO, sum_lx[i] / sum_l2[i], ZERO)
            scale[i] = select_float(amax[i] < GROUP_MAX_EPS, ZERO, v)
        for s in range(n):
            ok &= put_six_bit_scales(scale + 16 * s, NULL, out + 110 * s, d + 16 * s)
        for i in range(16 * n, V):
            d[i] = ONE
        for e in range(16):
            for i in range(V):
                codes[e * V + i] = clamp_int(-4, nearest_int(x[e * V + i] / d[i]), 3) + 4
        for i in range(16 * n):
            if not d[i]:
                for e in range(16):
                    codes[e * V + i] = 0 if amax[i] < GROUP_MAX_EPS else <int> level[e * V + i] + 4
        for s in range(n):
            put_third_bits(codes + 16 * s, out, V)
            put_pairs(codes + 16 * s, out + 32, V)
            out += 110
        block += n
    return ok


cdef inline bint put_six_bit_scales(const float* scale, const float* weight, uchar* out, float* d) noexcept nogil:
    """The 6-bit scales of 16 sub-blocks in 12 bytes, and d, behind 96 bytes of codes."""
    cdef float largest = ZERO, max_scale = ZERO, inverse = ZERO
    cdef uchar[16] codes
    cdef int j
    cdef bint ok
    memset(codes, 0, 16)
    if weight != NULL:
        max_scale = signed_scale_of_scales(16, 32, scale, codes, weight)
    else:
        for j in range(16):
            if fabsf(scale[j]) > largest:
                largest = fabsf(scale[j])
                max_scale = scale[j]
        if max_scale:
            inverse = <float> -32 / max_scale
            for j in range(16):
                codes[j] = clamp_int(-32, <signed char> nearest_int(inverse * scale[j]), 31) + 32
            max_scale = ONE / inverse
    memset(out + 96, 0, 12)
    for j in range(16):
        out[96 + j % 8] |= (codes[j] & 15) << 4 * (j // 8)
        out[104 + j % 4] |= (codes[j] >> 4) << 2 * (j // 4)
    ok = put_half(max_scale, out + 108)
    max_scale = from_half(to_half(max_scale))
    for j in range(16):
        d[j] = max_scale * (codes[j] - 32)
    return ok


cdef inline void put_third_bits(const uchar* codes, uchar* out, int lanes=W) noexcept nogil:
    """Bit 2 of code j as bit j / 32 of byte j % 32."""
    cdef int half, e, j, bits
    for half in range(2):
        for e in range(16):
            bits = 0
            for j in range(8):
                bits |= (codes[e * lanes + 2 * j + half] >> 2) << j
            out[16 * half + e] = bits


cdef bint q6_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    """Weights are the squares, or those of the importance matrix as they are."""
    cdef float x[16 * W]
    cdef float weight[16 * W]
    cdef uchar codes[16 * W]
    cdef float[W] largest, scale, inverse, d
    cdef int[W] nothing
    cdef int i, e, s
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 16, n_blocks - block)
        load(values + block * 256, n * 16, 16, x)
        if weights != NULL:
            load(weights + block * 256, n * 16, 16, weight)
        else:
            for e in range(16):
                for i in range(W):
                    weight[e * W + i] = x[e * W + i] * x[e * W + i]
        find_scale(x, weight, 16, 32, largest, scale, inverse)
        for s in range(n):
            ok &= put_scales_16(scale + 16 * s, out + 210 * s, d + 16 * s, nothing + s)
        for i in range(16 * n, W):
            d[i] = ONE
        for e in range(16):
            for i in range(W):
                codes[e * W + i] = clamp_int(-32, nearest_int(x[e * W + i] / d[i]), 31) + 32
        for i in range(16 * n):
            if not d[i]:  # its scale is lost in the super-block's: the codes of the search stay
                for e in range(16):
                    codes[e * W + i] = code_of(x[e * W + i], inverse[i], 32, largest[i])
        for s in range(n):
            if nothing[s]:
                memset(out, 0, 210)
            else:
                put_sixes(codes + 16 * s, out)
            out += 210
        block += n
    return ok


cdef inline bint put_scales_16(const float* scale, uchar* out, float* d, int* nothing) noexcept nogil:
    """The 8-bit scales of 16 sub-blocks, and d, behind 192 bytes of codes; what they come to goes to ``d``.

    A super-block without any scale worth the name is ``nothing``: all its bytes are zero.
    """
    cdef float max_scale = ZERO, max_abs = ZERO, inverse, whole
    cdef int j, l
    cdef bint ok
    for j in range(16):
        if fabsf(scale[j]) > max_abs:
            max_abs = fabsf(scale[j])
            max_scale = scale[j]
    nothing[0] = max_abs < GROUP_MAX_EPS
    if nothing[0]:
        for j in range(16):
            d[j] = ONE
        return True
    inverse = <float> -128 / max_scale
    ok = put_half(ONE / inverse, out + 208)
    whole = from_half(to_half(ONE / inverse))
    for j in range(16):
        l = min(127, nearest_int(inverse * scale[j]))
        out[192 + j] = <uchar> l
        d[j] = whole * <signed char> l
    return ok


cdef inline void put_sixes(const uchar* codes, uchar* out) noexcept nogil:
    """Low 4 bits of 256 codes in 128 bytes, high 2 bits in 64."""
    cdef int half, j, e, q1, q2, q3, q4
    for half in range(2):
        for j in range(2):
            for e in range(16):
                q1 = codes[e * W + 8 * half + j]
                q2 = codes[e * W + 8 * half + j + 2]
                q3 = codes[e * W + 8 * half + j + 4]
                q4 = codes[e * W + 8 * half + j + 6]
                out[64 * half + 16 * j + e] = (q1 & 15) | (q3 & 15) << 4
                out[64 * half + 16 * j + e + 32] = (q2 & 15) | (q4 & 15) << 4
                out[128 + 32 * half + 16 * j + e] = q1 >> 4 | (q2 >> 4) << 2 | (q3 >> 4) << 4 | (q4 >> 4) << 6
