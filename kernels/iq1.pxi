# IQ1_S and IQ1_M: each value is one of three levels, -1, 0 and 1, all raised or all lowered by an eighth; groups of 8
# are points of a grid. A lane is a sub-block of 32 or 16 values.

cdef extern from *:
    """
    #define IQ1_S_EPS 1e-12f
    #define IQ1_M_EPS 1e-7f
    #define IQ1_S_FACTOR 1.125f
    #define IQ1_M_FACTOR 1.1125f
    #define EIGHTH 0.125f
    #define LEAST -FLT_MAX
    """
    const float IQ1_S_EPS, IQ1_M_EPS, IQ1_S_FACTOR, IQ1_M_FACTOR, EIGHTH, LEAST


cdef inline void rank(const float* x, int width, int* ranks) noexcept nogil:
    """Each value's place in ascending order; equal values keep theirs."""
    cdef int i, e, f, after
    for e in range(width):
        for i in range(W):
            ranks[e * W + i] = e
    for e in range(width):
        for f in range(e):
            for i in range(W):
                after = x[f * W + i] <= x[e * W + i]
                ranks[e * W + i] -= 1 - after
                ranks[f * W + i] += 1 - after


cdef inline void find_split(
    const float* x, const float* weight, const int* ranks, float* scale, int* first, int* second, int* raised
) noexcept nogil:
    """The best way to give 32 sorted values the levels: the lowest before ``first``, the highest from ``second`` on.

    Sums up to each place of the order give those of the three parts. ``raised`` is -1 where nothing was found.
    """
    cdef float sum_x[33 * W]
    cdef float sum_w[33 * W]
    cdef float low_x[2 * W]
    cdef float low_w[2 * W]
    cdef float high_x[66 * W]
    cdef float high_w[66 * W]
    cdef float[W] best
    cdef int i, e, a, b, up, better, at
    cdef float qx, q2, middle_x, middle_w, v
    for i in range(W):
        sum_x[i] = ZERO
        sum_w[i] = ZERO
        best[i] = LEAST
        first[i] = 0
        second[i] = 0
        raised[i] = -1
        for e in range(32):
            at = (ranks[e * W + i] + 1) * W + i
            sum_x[at] = weight[e * W + i] * x[e * W + i]
            sum_w[at] = weight[e * W + i]
    for e in range(1, 33):
        for i in range(W):
            sum_x[e * W + i] = sum_x[(e - 1) * W + i] + sum_x[e * W + i]
            sum_w[e * W + i] = sum_w[(e - 1) * W + i] + sum_w[e * W + i]
    for e in range(33):
        for i in range(W):
            v = sum_x[32 * W + i] - sum_x[e * W + i]
            high_x[2 * e * W + i] = v * (ONE + EIGHTH)
            high_x[(2 * e + 1) * W + i] = v * (ONE - EIGHTH)
            v = sum_w[32 * W + i] - sum_w[e * W + i]
            high_w[2 * e * W + i] = v * (ONE + EIGHTH) * (ONE + EIGHTH)
            high_w[(2 * e + 1) * W + i] = v * (ONE - EIGHTH) * (ONE - EIGHTH)
    for a in range(33):
        for i in range(W):
            low_x[i] = sum_x[a * W + i] * (EIGHTH - ONE)
            low_x[W + i] = sum_x[a * W + i] * (-EIGHTH - ONE)
            low_w[i] = sum_w[a * W + i] * (EIGHTH - ONE) * (EIGHTH - ONE)
            low_w[W + i] = sum_w[a * W + i] * (-EIGHTH - ONE) * (-EIGHTH - ONE)
        for b in range(a, 33):
            for i in range(W):
                middle_x = (sum_x[b * W + i] - sum_x[a * W + i]) * EIGHTH
                middle_w = (sum_w[b * W + i] - sum_w[a * W + i]) * EIGHTH * EIGHTH
                qx = low_x[i] + middle_x + high_x[2 * b * W + i]
                q2 = low_w[i] + middle_w + high_w[2 * b * W + i]
                better = (q2 > ZERO) & (qx * qx > best[i] * q2)
                v = qx / q2
                scale[i] = select_float(better, v, scale[i])
                best[i] = select_float(better, v * qx, best[i])
                first[i] = select_int(better, a, first[i])
                second[i] = select_int(better, b, second[i])
                raised[i] = select_int(better, 1, raised[i])
                qx = low_x[W + i] - middle_x + high_x[(2 * b + 1) * W + i]
                q2 = low_w[W + i] + middle_w + high_w[(2 * b + 1) * W + i]
                better = (q2 > ZERO) & (qx * qx > best[i] * q2)
                v = qx / q2
                scale[i] = select_float(better, v, scale[i])
                best[i] = select_float(better, v * qx, best[i])
                first[i] = select_int(better, a, first[i])
                second[i] = select_int(better, b, second[i])
                raised[i] = select_int(better, 0, raised[i])


cdef inline void find_halves_split(
    const float* x, const float* weight, const int* ranks, float* scale, int* first, int* second, int* raised
) noexcept nogil:
    """As find_split, for 16 values whose halves are raised or lowered apart: bits 1 and 2 of ``raised`` are theirs.

    What the highest level would give to all, less the sums up to both places, is what the three parts give.
    """
    cdef float[2 * 17 * W] sum_x, sum_w
    cdef float[4 * W] all_x, all_w
    cdef float[W] best
    cdef float[4] qx, q2
    cdef float up = ONE + EIGHTH, down = ONE - EIGHTH
    cdef float up_1 = down * down - EIGHTH * EIGHTH, up_2 = EIGHTH * EIGHTH - up * up
    cdef float down_1 = up * up - EIGHTH * EIGHTH, down_2 = EIGHTH * EIGHTH - down * down
    cdef int i, e, h, a, b, k, better, at
    cdef float v, p, m, w0, w1, up_x0, up_x1, down_x0, down_x1, up_w0, up_w1, down_w0, down_w1
    memset(sum_x, 0, sizeof(sum_x))
    memset(sum_w, 0, sizeof(sum_w))
    for i in range(W):
        best[i] = LEAST
        first[i] = 0
        second[i] = 0
        raised[i] = -1
        for e in range(16):
            at = (e // 8 * 17 + ranks[e * W + i] + 1) * W + i
            sum_x[at] = weight[e * W + i] * x[e * W + i]
            sum_w[at] = weight[e * W + i]
    for h in range(2):
        for e in range(17 * h + 1, 17 * h + 17):
            for i in range(W):
                sum_x[e * W + i] = sum_x[(e - 1) * W + i] + sum_x[e * W + i]
                sum_w[e * W + i] = sum_w[(e - 1) * W + i] + sum_w[e * W + i]
        for i in range(W):
            at = (17 * h + 16) * W + i
            all_x[2 * h * W + i] = sum_x[at] * up
            all_x[(2 * h + 1) * W + i] = sum_x[at] * down
            all_w[2 * h * W + i] = sum_w[at] * up * up
            all_w[(2 * h + 1) * W + i] = sum_w[at] * down * down
    for a in range(17):
        for b in range(a, 17):
            for i in range(W):
                v = sum_x[a * W + i] + sum_x[b * W + i]
                up_x0 = all_x[i] - v
                down_x0 = all_x[W + i] - v
                v = sum_x[(17 + a) * W + i] + sum_x[(17 + b) * W + i]
                up_x1 = all_x[2 * W + i] - v
                down_x1 = all_x[3 * W + i] - v
                w0 = sum_w[a * W + i]
                w1 = sum_w[b * W + i]
                up_w0 = all_w[i] + w0 * up_1 + w1 * up_2
                down_w0 = all_w[W + i] + w0 * down_1 + w1 * down_2
                w0 = sum_w[(17 + a) * W + i]
                w1 = sum_w[(17 + b) * W + i]
                up_w1 = all_w[2 * W + i] + w0 * up_1 + w1 * up_2
                down_w1 = all_w[3 * W + i] + w0 * down_1 + w1 * down_2
                for k in range(4):
                    p = (down_x0 if k & 2 else up_x0) + (down_x1 if k & 1 else up_x1)
                    m = (down_w0 if k & 2 else up_w0) + (down_w1 if k & 1 else up_w1)
                    better = (m > ZERO) & (p * p > best[i] * m)
                    v = p / m
                    scale[i] = select_float(better, v, scale[i])
                    best[i] = select_float(better, v * p, best[i])
                    first[i] = select_int(better, a, first[i])
                    second[i] = select_int(better, b, second[i])
                    raised[i] = select_int(better, 3 - k, raised[i])


cdef inline bint is_raised(int raised, int width, int group) noexcept nogil:
    """Whether a group's levels are: bit 0 for 32 values, or bit 1 for the first and bit 0 for the second half of 16."""
    return raised >> (1 - group if width == 16 else 0) & 1


cdef inline void quantize_thirds(
    const float* x, const float* weight, int width, float eps, int* code, float* scale, int* raised, int* alive
) noexcept nogil:
    """The points, scales (not negative) and shifts of W sub-blocks; where one is not ``alive``, it has no scale."""
    cdef int[32 * W] ranks
    cdef float[32 * W] rows, row_weights
    cdef float[W] largest, sum_qx, sum_q2, shift, inverse, worst
    cdef int[W] first, second, turned, number, packed
    cdef int i, e, k, l, both = 1 if width == 32 else 3, off
    cdef float v, wq
    cdef const GridCode* known
    cdef const ushort* points
    cdef const float* levels
    for i in range(W):
        largest[i] = ZERO
    for e in range(width):
        for i in range(W):
            v = fabsf(x[e * W + i])
            largest[i] = select_float(largest[i] > v, largest[i], v)
    rank(x, width, ranks)
    for i in range(W):
        scale[i] = largest[i]
    if width == 32:
        find_split(x, weight, ranks, scale, first, second, raised)
    else:
        find_halves_split(x, weight, ranks, scale, first, second, raised)
    for i in range(W):
        alive[i] = (largest[i] >= eps) & (raised[i] >= 0)
        turned[i] = scale[i] < ZERO
        raised[i] ^= select_int(turned[i], both, 0)
        scale[i] = select_float(turned[i], -scale[i], scale[i])
        inverse[i] = ONE / scale[i]
    for i in range(W):
        for e in range(width):
            rows[i * width + e] = x[e * W + i]
            row_weights[i * width + e] = weight[e * W + i]
    for i in range(W):
        alive[i] <<= 1  # bit 0: some group was not on the grid
    for k in range(width // 8):
        for i in range(W):
            shift[i] = select_float(is_raised(raised[i], width, k), EIGHTH, -EIGHTH)
            number[i] = 0
            packed[i] = 0
            worst[i] = select_float(inverse[i] < HUGE_INVERSE, ZERO, ONE)
        for e in range(8 * k + 7, 8 * k - 1, -1):
            for i in range(W):
                l = (ranks[e * W + i] >= first[i]) + (ranks[e * W + i] >= second[i])
                l = select_int(turned[i], 2 - l, l)
                number[i] = number[i] * 3 + l
                packed[i] = packed[i] << 2 | l
                v = HALF * (inverse[i] * x[e * W + i] - shift[i] + ONE)
                v = select_float(v > ZERO, v, ZERO)
                v = fabsf(select_float(v < ONE, v, ONE) - HALF * l)
                worst[i] = select_float(v > worst[i], v, worst[i])
        for i in range(W):
            known = iq1_book.codes + number[i]
            code[k * W + i] = packed[i]
            off = (known.number < 0) & alive[i] >> 1
            alive[i] |= off
            if off:
                e = i * width + 8 * k
                levels = RAISED_LEVELS if is_raised(raised[i], width, k) else LOWERED_LEVELS
                points = iq1_book.near + known.near if worst[i] < HALF * SURE else iq1_book.all + known.all
                l = known.n_near if worst[i] < HALF * SURE else known.n_all
                code[k * W + i] = nearest_point(8, points, l, rows + e, row_weights + e, scale[i], levels)
    for i in range(W):
        sum_qx[i] = ZERO
        sum_q2[i] = ZERO
    for k in range(width // 8):
        for e in range(8):
            for i in range(W):
                v = (code[k * W + i] >> 2 * e & 3) - 1
                v += select_float(is_raised(raised[i], width, k), EIGHTH, -EIGHTH)
                wq = weight[(8 * k + e) * W + i] * v
                sum_qx[i] += wq * x[(8 * k + e) * W + i]
                sum_q2[i] += wq * v
    for i in range(W):
        off = (alive[i] & 1) & (sum_qx[i] > ZERO) & (sum_q2[i] > ZERO)
        scale[i] = select_float(off, sum_qx[i] / sum_q2[i], scale[i])
        alive[i] >>= 1
        scale[i] = select_float(alive[i], scale[i], ZERO)
        raised[i] = select_int(alive[i], raised[i], both)
    for k in range(width // 8):
        for i in range(W):
            code[k * W + i] = select_int(alive[i], code[k * W + i], 0)


cdef bint iq1_s(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef int[4 * W] code
    cdef float[W] scale
    cdef int[W] raised, alive
    cdef int[8] levels
    cdef int i, k, s, number, high
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 8, n_blocks - block)
        load(values, n * 8, 32, x)
        mean_squares(values, n, 32, 2, scale)
        weigh(x, weights, n, 32, scale, ZERO, weight)
        quantize_thirds(x, weight, 32, IQ1_S_EPS, code, scale, raised, alive)
        for s in range(0, 8 * n, 8):
            ok &= put_scale(scale + s, 8, 7, IQ1_S_FACTOR, out, levels)
            for i in range(8):
                high = 0
                for k in range(4):
                    number = iq1_book.numbers[code[k * W + s + i]]
                    out[2 + 4 * i + k] = number & 255
                    high |= number >> 8 << 3 * k
                if not empty(scale + s, 8):
                    high |= levels[i] << 12 | (1 - raised[s + i]) << 15
                out[34 + 2 * i] = high & 255
                out[35 + 2 * i] = high >> 8
            out += 50
        values += 256 * n
        if weights != NULL:
            weights += 256 * n
        block += n
    return ok


cdef bint iq1_m(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef float x[16 * W]
    cdef float weight[16 * W]
    cdef int[2 * W] code
    cdef float[W] scale
    cdef int[W] raised, alive
    cdef int[16] levels
    cdef uchar[2] unused
    cdef int i, k, e, s, number, half
    cdef float q, wq, sum_qx, sum_q2, d
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 16, n_blocks - block)
        load(values, n * 16, 16, x)
        mean_squares(values, n, 16, 2, scale)
        weigh(x, weights, n, 16, scale, ZERO, weight)
        quantize_thirds(x, weight, 16, IQ1_M_EPS, code, scale, raised, alive)
        for s in range(0, 16 * n, 16):
            memset(out, 0, 56)
            put_scale(scale + s, 16, 7, ONE, unused, levels)
            d = sum_qx = sum_q2 = ZERO
            for i in range(16):
                ok &= scale[s + i] >= ZERO
                d = d if d > scale[s + i] else scale[s + i]
                for k in range(2):
                    number = iq1_book.numbers[code[k * W + s + i]]
                    out[2 * i + k] = number & 255
                    out[32 + i] |= number >> 8 << 4 * k
            if d == ZERO:
                out += 56
                continue
            d = d / <float> 15
            for i in range(16):
                half = levels[i] << 3 * (i % 4)
                out[48 + i // 4 * 2] |= half & 255
                out[49 + i // 4 * 2] |= half >> 8
                for k in range(2):
                    if not is_raised(raised[s + i], 16, k):
                        out[32 + i] |= 8 << 4 * k
                    for e in range(8):
                        q = (code[k * W + s + i] >> 2 * e & 3) - 1
                        q += EIGHTH if is_raised(raised[s + i], 16, k) else -EIGHTH
                        q *= 2 * levels[i] + 1
                        wq = weight[(8 * k + e) * W + s + i] * q
                        sum_qx += wq * x[(8 * k + e) * W + s + i]
                        sum_q2 += wq * q
            if sum_q2 > ZERO:
                d = sum_qx / sum_q2
            ok &= put_half(d * IQ1_M_FACTOR, unused)
            for i in range(4):
                out[49 + 2 * i] |= (unused[i // 2] >> 4 * (i % 2) & 15) << 4
            out += 56
        values += 256 * n
        if weights != NULL:
            weights += 256 * n
        block += n
    return ok
