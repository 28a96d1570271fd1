# Q4_K, Q5_K and Q6_K: super-blocks of 256 values, whose sub-blocks of 32 or 16 have scales of their own.


cdef inline bint with_minimum(
    const float* values, uchar* out, Py_ssize_t n_blocks, int nmax, float rmin, int n_steps, int block_bytes
) noexcept nogil:
    """Q4_K and Q5_K: a lane is a sub-block of 32. Searches scale and minimum as make_qkx2_quants does."""
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef float level[32 * W]
    cdef uchar codes[32 * W]
    cdef float[W] low, high, sum_w, sum_x, scale, best, inverse, best_inverse, best_low
    cdef float[W] sum_l, sum_l2, sum_xl, try_scale, try_low, error, d, dm
    cdef int[W] flat, sub_scale, sub_min
    cdef int i, e, step, l, better, s
    cdef float v, wl, w, det, a, b, factor
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 8, n_blocks - block)
        load(values + block * 256, n * 8, 32, x)
        for i in range(W):
            sum_x[i] = ZERO
        for e in range(32):
            for i in range(W):
                sum_x[i] += x[e * W + i] * x[e * W + i]
        for i in range(W):
            sum_x[i] = sqrtf(sum_x[i] / <float> 32)
        for e in range(32):
            for i in range(W):
                weight[e * W + i] = sum_x[i] + fabsf(x[e * W + i])
        for i in range(W):
            low[i] = x[i]
            high[i] = x[i]
            sum_w[i] = weight[i]
            sum_x[i] = weight[i] * x[i]
        for e in range(1, 32):
            for i in range(W):
                v = x[e * W + i]
                low[i] = select_float(v < low[i], v, low[i])
                high[i] = select_float(v > high[i], v, high[i])
                sum_w[i] += weight[e * W + i]
                sum_x[i] += weight[e * W + i] * v
        for i in range(W):
            low[i] = select_float(low[i] > ZERO, ZERO, low[i])
            flat[i] = high[i] == low[i]
            inverse[i] = nmax / (high[i] - low[i])
            scale[i] = ONE / inverse[i]
            best[i] = ZERO
            best_inverse[i] = inverse[i]
            best_low[i] = low[i]
        for e in range(32):
            for i in range(W):
                l = clamp_int(0, nearest_int(inverse[i] * (x[e * W + i] - low[i])), nmax)
                v = scale[i] * l + low[i] - x[e * W + i]
                best[i] += weight[e * W + i] * (v * v)
        for step in range(n_steps + 1):
            factor = rmin + STEP * step + nmax
            for i in range(W):
                inverse[i] = factor / (high[i] - low[i])
                sum_l[i] = ZERO
                sum_l2[i] = ZERO
                sum_xl[i] = ZERO
            for e in range(32):
                for i in range(W):
                    l = clamp_int(0, nearest_int(inverse[i] * (x[e * W + i] - low[i])), nmax)
                    level[e * W + i] = l
                    wl = weight[e * W + i] * l
                    sum_l[i] += wl
                    sum_l2[i] += wl * l
                    sum_xl[i] += wl * x[e * W + i]
            for i in range(W):
                det = sum_w[i] * sum_l2[i] - sum_l[i] * sum_l[i]
                a = (sum_w[i] * sum_xl[i] - sum_x[i] * sum_l[i]) / det
                b = (sum_l2[i] * sum_x[i] - sum_l[i] * sum_xl[i]) / det
                a = select_float(b > ZERO, sum_xl[i] / sum_l2[i], a)
                b = select_float(b > ZERO, ZERO, b)
                try_scale[i] = a
                try_low[i] = b
                error[i] = ZERO
                sum_l2[i] = det
            for e in range(32):
                for i in range(W):
                    v = try_scale[i] * level[e * W + i] + try_low[i] - x[e * W + i]
                    error[i] += weight[e * W + i] * (v * v)
            for i in range(W):
                better = (sum_l2[i] > ZERO) & (error[i] < best[i])
                best[i] = select_float(better, error[i], best[i])
                scale[i] = select_float(better, try_scale[i], scale[i])
                best_inverse[i] = select_float(better, inverse[i], best_inverse[i])
                best_low[i] = select_float(better, low[i], best_low[i])
                low[i] = select_float(better, try_low[i], low[i])
        for i in range(W):
            scale[i] = select_float(flat[i], ZERO, scale[i])
            low[i] = -low[i]
        for s in range(n):
            ok &= put_scales(scale + 8 * s, low + 8 * s, out + s * block_bytes, d + 8 * s, dm + 8 * s)
        for i in range(8 * n, W):
            d[i] = ONE
            dm[i] = ZERO
        for e in range(32):
            for i in range(W):
                codes[e * W + i] = clamp_int(0, nearest_int((x[e * W + i] + dm[i]) / d[i]), nmax)
        for i in range(8 * n):
            if not d[i]:  # its scale is lost in the super-block's: the levels of the search stay
                for e in range(32):
                    v = best_inverse[i] * (x[e * W + i] - best_low[i])
                    codes[e * W + i] = 0 if flat[i] else clamp_int(0, nearest_int(v), nmax)
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
    const float* scale, const float* minimum, uchar* out, float* d, float* dm
) noexcept nogil:
    """d, dmin and the 6-bit scales and minima of 8 sub-blocks, in 16 bytes; what they come to goes to ``d``, ``dm``."""
    cdef float max_scale = ZERO, max_min = ZERO, inv_scale, inv_min
    cdef uchar[8] ls, lm
    cdef int j
    cdef bint ok
    for j in range(8):
        if scale[j] > max_scale:
            max_scale = scale[j]
        if minimum[j] > max_min:
            max_min = minimum[j]
    inv_scale = <float> 63 / max_scale if max_scale > ZERO else ZERO
    inv_min = <float> 63 / max_min if max_min > ZERO else ZERO
    for j in range(8):
        ls[j] = min(63, <int> (<uchar> nearest_int(inv_scale * scale[j])))
        lm[j] = min(63, <int> (<uchar> nearest_int(inv_min * minimum[j])))
    ok = put_half(max_scale / <float> 63, out)
    ok &= put_half(max_min / <float> 63, out + 2)
    for j in range(4):
        out[4 + j] = ls[j] | (ls[j + 4] >> 4) << 6
        out[8 + j] = lm[j] | (lm[j + 4] >> 4) << 6
        out[12 + j] = (ls[j + 4] & 15) | (lm[j + 4] & 15) << 4
    max_scale = from_half(to_half(max_scale / <float> 63))
    max_min = from_half(to_half(max_min / <float> 63))
    for j in range(8):
        d[j] = max_scale * ls[j]
        dm[j] = max_min * lm[j]
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
    return with_minimum(values, out, n_blocks, 15, -ONE, 20, 144)


cdef bint q5_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return with_minimum(values, out, n_blocks, 31, -HALF, 15, 176)


cdef bint q6_k(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    """A lane is a sub-block of 16. Searches the scale as make_qx_quants does, weighting by the square."""
    cdef float x[16 * W]
    cdef float wx[16 * W]
    cdef uchar codes[16 * W]
    cdef float[W] amax, largest, scale, best, inverse, best_inverse, sum_lx, sum_l2, d
    cdef int[W] nothing
    cdef int i, e, step, l, better, s
    cdef float v, w, factor
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 16, n_blocks - block)
        load(values + block * 256, n * 16, 16, x)
        for i in range(W):
            amax[i] = ZERO
            largest[i] = ZERO
        for e in range(16):
            for i in range(W):
                v = fabsf(x[e * W + i])
                better = v > amax[i]
                amax[i] = select_float(better, v, amax[i])
                largest[i] = select_float(better, x[e * W + i], largest[i])
                w = x[e * W + i] * x[e * W + i]
                wx[e * W + i] = w * x[e * W + i]
        for step in range(-10, 10):  # the first is the plain scale; the step at 0 would repeat it
            if step == 0:
                continue
            factor = <float> -32 if step == -10 else -(<float> 32 + STEP * step)
            for i in range(W):
                inverse[i] = factor / largest[i]
                sum_lx[i] = ZERO
                sum_l2[i] = ZERO
            for e in range(16):
                for i in range(W):
                    l = clamp_int(-32, nearest_int(inverse[i] * x[e * W + i]), 31)
                    w = x[e * W + i] * x[e * W + i]
                    sum_lx[i] += wx[e * W + i] * l
                    sum_l2[i] += w * l * l
            if step == -10:
                for i in range(W):
                    scale[i] = select_float(sum_l2[i] != ZERO, sum_lx[i] / sum_l2[i], ZERO)
                    best[i] = scale[i] * sum_lx[i]
                    best_inverse[i] = inverse[i]
            else:
                for i in range(W):
                    better = (sum_l2[i] > ZERO) & (sum_lx[i] * sum_lx[i] > best[i] * sum_l2[i])
                    v = sum_lx[i] / sum_l2[i]
                    scale[i] = select_float(better, v, scale[i])
                    best[i] = select_float(better, v * sum_lx[i], best[i])
                    best_inverse[i] = select_float(better, inverse[i], best_inverse[i])
        for i in range(W):
            scale[i] = select_float(amax[i] < GROUP_MAX_EPS, ZERO, scale[i])
        for s in range(n):
            ok &= put_scales_16(scale + 16 * s, out + 210 * s, d + 16 * s, nothing + s)
        for i in range(16 * n, W):
            d[i] = ONE
        for e in range(16):
            for i in range(W):
                codes[e * W + i] = clamp_int(-32, nearest_int(x[e * W + i] / d[i]), 31) + 32
        for i in range(16 * n):
            if not d[i]:  # its scale is lost in the super-block's: the levels of the search stay
                for e in range(16):
                    l = clamp_int(-32, nearest_int(best_inverse[i] * x[e * W + i]), 31) + 32
                    codes[e * W + i] = 0 if amax[i] < GROUP_MAX_EPS else l
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
