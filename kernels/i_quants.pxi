# IQ4_XS, and the types whose groups of values are points of a grid: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S. Their
# super-blocks are of 256 values; a lane is a sub-block of 32 or 16 with a scale of its own.

cdef extern from *:
    """
    #define TWO 2.f
    #define FIFTH 0.2f
    #define QUARTER 0.25f
    #define GRID_EPS 1e-8f
    #define IQ2_S_FACTOR 0.9875f
    #define IQ3_XXS_FACTOR 1.0125f
    #define IQ3_S_FACTOR 1.033f
    /* A value this close to its level, in halves of the distance of levels, is nearest to it however it was rounded. */
    #define SURE 0.4998f
    #define HUGE_INVERSE 1e37f
    """
    const float TWO, FIFTH, QUARTER, GRID_EPS, IQ2_S_FACTOR, IQ3_XXS_FACTOR, IQ3_S_FACTOR, SURE, HUGE_INVERSE

cdef enum:
    IF_OFF, ALL_IF_OFF, ALWAYS  # which groups are put on the grid again for the final scale


cdef inline void mean_squares(
    const float* values, Py_ssize_t n, int width, float times, float* sigma
) noexcept nogil:
    """``times`` the mean square of up to W * width / 256 super-blocks, in the lanes of each."""
    cdef float[W] total
    cdef int s, e, i, per = 256 // width
    for i in range(W):
        sigma[i] = ZERO
    for s in range(n):
        total[s] = ZERO
    for e in range(256):
        for s in range(n):
            total[s] += values[s * 256 + e] * values[s * 256 + e]
    for s in range(n):
        for i in range(s * per, (s + 1) * per):
            sigma[i] = times * total[s] / <float> 256


cdef inline void weigh(
    const float* x, const float* weights, Py_ssize_t n, int width, const float* sigma, float share, float* weight
) noexcept nogil:
    """Each value's weight: from the importance matrix; without one its square, and a share of the mean square."""
    cdef int i, e
    if weights == NULL:
        for e in range(width):
            for i in range(W):
                weight[e * W + i] = x[e * W + i] * x[e * W + i]
                if share:
                    weight[e * W + i] += share * sigma[i]
        return
    load(weights, n * (256 // width), width, weight)
    for e in range(width):
        for i in range(W):
            weight[e * W + i] *= sqrtf(sigma[i] + x[e * W + i] * x[e * W + i])


cdef bint iq4_xs(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef uchar codes[32 * W]
    cdef float[W] scale, inverse
    cdef int i, e, s, l, high
    cdef float d, largest, v
    cdef uchar* place
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // 8, n_blocks - block)
        load(values, n * 8, 32, x)
        mean_squares(values, n, 32, 2, inverse)
        weigh(x, weights, n, 32, inverse, ZERO, weight)
        find_table_scale(x, weight, scale)
        for i in range(W):
            inverse[i] = ZERO
        for s in range(n):
            place = out + 136 * s
            largest = d = ZERO
            for i in range(8 * s, 8 * s + 8):
                if fabsf(scale[i]) > largest:
                    largest = fabsf(scale[i])
                    d = scale[i]
            d = -d / <float> 32
            ok &= put_half(d, place)
            memset(place + 2, 0, 6)
            v = ONE / d if d else ZERO
            high = 0
            for i in range(8):
                l = clamp_int(-32, nearest_int(v * scale[8 * s + i]), 31)
                inverse[8 * s + i] = ONE / (d * l) if d * l else ZERO
                high |= (l + 32) >> 4 << 2 * i
                place[4 + i // 2] |= ((l + 32) & 15) << 4 * (i % 2)
            place[2] = high & 255
            place[3] = high >> 8
        for e in range(32):
            for i in range(W):
                codes[e * W + i] = iq4_nl_code(inverse[i] * x[e * W + i])
        for s in range(n):
            for i in range(8):
                for e in range(16):
                    out[8 + 16 * i + e] = codes[e * W + 8 * s + i] | codes[(e + 16) * W + 8 * s + i] << 4
            out += 136
        values += 256 * n
        if weights != NULL:
            weights += 256 * n
        block += n
    return ok


cdef inline void take_signs(float* x, const float* weight, int width, bint even, uchar* signs) noexcept nogil:
    """Make x positive; a byte of signs for each 8 values, by lane.

    ``even``: a byte must have an even number of signs, so where it has not, the value that matters least is turned.
    """
    cdef float[W] least
    cdef int[W] bits, odd, place
    cdef int i, d, group, negative, at
    cdef float v
    for group in range(width // 8):
        for i in range(W):
            bits[i] = 0
            odd[i] = 0
            place[i] = 0
            least[i] = weight[8 * group * W + i] * x[8 * group * W + i] * x[8 * group * W + i]
        for d in range(8):
            at = (8 * group + d) * W
            for i in range(W):
                v = weight[at + i] * x[at + i] * x[at + i]
                place[i] = select_int(v < least[i], d, place[i])
                least[i] = select_float(v < least[i], v, least[i])
                negative = x[at + i] < ZERO
                bits[i] |= negative << d
                odd[i] ^= negative
                x[at + i] = fabsf(x[at + i])
        if even:
            for d in range(8):
                at = (8 * group + d) * W
                for i in range(W):
                    negative = odd[i] & (place[i] == d)
                    x[at + i] = select_float(negative, -x[at + i], x[at + i])
                    bits[i] ^= negative << d
        for i in range(W):
            signs[group * W + i] = bits[i] & 127 if even else bits[i]


cdef inline void find_positive_scale(const float* x, const float* weight, float* scale) noexcept nogil:
    """The scale that fits codes from 0 to 4 best to 32 values, most of them positive (make_qp_quants).

    A code below zero counts as a byte once it is stored.
    """
    cdef int code[32 * W]
    cdef float[W] largest, inverse, tried, best, error, sum_lx, sum_l2
    cdef int i, e, step, l, attempt, better, changed
    cdef float v, wx, slx, sl2, new_slx, new_sl2
    for i in range(W):
        largest[i] = ZERO
        best[i] = ZERO
    for e in range(32):
        for i in range(W):
            largest[i] = select_float(largest[i] > x[e * W + i], largest[i], x[e * W + i])
    for i in range(W):
        inverse[i] = <float> 4 / largest[i]
        scale[i] = ONE / inverse[i]
    for e in range(32):
        for i in range(W):
            v = x[e * W + i] - scale[i] * (nearest_int(inverse[i] * x[e * W + i]) & 255)
            best[i] += weight[e * W + i] * v * v
    for step in range(-4, 5):
        if step == 0:
            continue
        for i in range(W):
            tried[i] = (STEP * step + <float> 4) / largest[i]
            scale[i] = ONE / tried[i]
            error[i] = ZERO
        for e in range(32):
            for i in range(W):
                v = x[e * W + i] - scale[i] * min(4, nearest_int(tried[i] * x[e * W + i]))
                error[i] += weight[e * W + i] * v * v
        for i in range(W):
            better = error[i] < best[i]
            best[i] = select_float(better, error[i], best[i])
            inverse[i] = select_float(better, tried[i], inverse[i])
    for i in range(W):
        sum_lx[i] = ZERO
        sum_l2[i] = ZERO
    for e in range(32):
        for i in range(W):
            l = min(4, nearest_int(inverse[i] * x[e * W + i]))
            code[e * W + i] = l & 255
            sum_lx[i] += weight[e * W + i] * x[e * W + i] * l
            sum_l2[i] += weight[e * W + i] * l * l
    for attempt in range(5):
        changed = 0
        for e in range(32):
            for i in range(W):
                l = code[e * W + i]
                wx = weight[e * W + i] * x[e * W + i]
                slx = sum_lx[i] - wx * l
                sl2 = sum_l2[i] - weight[e * W + i] * l * l
                l = min(4, nearest_int(x[e * W + i] * sl2 / slx))
                new_slx = slx + wx * l
                new_sl2 = sl2 + weight[e * W + i] * l * l
                better = (slx > ZERO) & (sl2 > ZERO) & (l != code[e * W + i])
                better &= new_slx * new_slx * sum_l2[i] > sum_lx[i] * sum_lx[i] * new_sl2
                code[e * W + i] = select_int(better, l & 255, code[e * W + i])
                sum_lx[i] = select_float(better, new_slx, sum_lx[i])
                sum_l2[i] = select_float(better, new_sl2, sum_l2[i])
                changed |= better
        if not changed:
            break
    for i in range(W):
        scale[i] = select_float(sum_l2[i] > ZERO, sum_lx[i] / sum_l2[i], ZERO)


cdef inline void put_on_grid(
    const Codebook* book, int digits, int width, const float* x, const float* rows, const float* row_weights,
    const float* inverse, const float* scale, const int* wanted, int* code, int* off_grid
) noexcept nogil:
    """The code of each group: what its values round to if that is a point, else the point nearest to them.

    ``wanted`` and ``off_grid`` have a bit for each group of a lane: those to look at, and those that were no point.
    """
    cdef int radix = 3 if digits == 8 else 8, bits = 2 if digits == 8 else 3
    cdef unsigned int[8 * W] pending
    cdef int[8 * W] number
    cdef int[W] packed, digits_number
    cdef float margin[8 * W]
    cdef float[W] worst
    cdef int i, k, d, l, n = 0, missing
    cdef unsigned int at, lane, place
    cdef float r, top = radix - 1
    cdef const GridCode* known
    cdef const ushort* points
    cdef const float* levels = THREE_LEVELS if digits == 8 else EIGHT_LEVELS
    for i in range(W):
        off_grid[i] = 0
    for k in range(width // digits):
        for i in range(W):
            digits_number[i] = 0
            packed[i] = 0
            worst[i] = select_float(inverse[i] < HUGE_INVERSE, ZERO, ONE)
        for d in range(digits * k + digits - 1, digits * k - 1, -1):
            for i in range(W):
                r = HALF * (inverse[i] * x[d * W + i] - ONE)
                l = clamp_int(0, nearest_int(r), radix - 1)
                digits_number[i] = digits_number[i] * radix + l
                packed[i] = packed[i] << bits | l
                r = select_float(r > ZERO, r, ZERO)
                r = fabsf(select_float(r < top, r, top) - l)
                worst[i] = select_float(r > worst[i], r, worst[i])
        for i in range(W):
            code[k * W + i] = packed[i]
            number[k * W + i] = digits_number[i]
            margin[k * W + i] = worst[i]
        for i in range(W):
            missing = (book.codes[digits_number[i]].number < 0) & wanted[i] >> k
            off_grid[i] |= missing << k
            pending[n] = k * W + i
            n += missing
    for l in range(n):
        at = pending[l]
        lane = at % W
        place = lane * width + at // W * digits
        known = book.codes + number[at]
        points = book.near + known.near if margin[at] < SURE else book.all + known.all
        missing = known.n_near if margin[at] < SURE else known.n_all
        code[at] = nearest_point(digits, points, missing, rows + place, row_weights + place, scale[lane], levels)


cdef inline void fit(
    int digits, int width, const float* weight, const float* weighted, const int* code, float* sum_qx, float* sum_q2
) noexcept nogil:
    """Sums of weight times level times value, and times level squared, in the order of the values."""
    cdef int bits = 2 if digits == 8 else 3
    cdef int i, d, k
    cdef float q, wq
    for i in range(W):
        sum_qx[i] = ZERO
        sum_q2[i] = ZERO
    for k in range(width // digits):
        for d in range(digits):
            for i in range(W):
                q = 2 * (code[k * W + i] >> bits * d & (1 << bits) - 1) + 1
                wq = weight[(k * digits + d) * W + i] * q
                sum_qx[i] += weighted[(k * digits + d) * W + i] * q
                sum_q2[i] += wq * q


cdef inline void find_grid_scale(
    const Codebook* book, int digits, int width, const float* x, const float* weight, float eps, int n_steps,
    float step, int again, int* code, float* scale, int* alive
) noexcept nogil:
    """The scale and points that fit best, with ``n_steps`` tries to either side, where a lane is ``alive``: its values
    are not too small for a scale. Else both are 0. A scale may come out negative: then all signs are to be turned.
    """
    cdef float weighted[32 * W]
    cdef float rows[32 * W]
    cdef float row_weights[32 * W]
    cdef int[8 * W] tried
    cdef float[W] largest, divisor, inverse, this_scale, best, sum_qx, sum_q2
    cdef int[W] off_grid, kept_off
    cdef int i, e, k, attempt, better, groups = width // digits
    cdef int every = (1 << groups) - 1
    cdef float v, top = 5 if digits == 8 else 15
    for i in range(W):
        largest[i] = x[i]
        best[i] = ZERO
        kept_off[i] = every if again == ALL_IF_OFF else 0
    for e in range(1, width):
        for i in range(W):
            largest[i] = select_float(largest[i] > x[e * W + i], largest[i], x[e * W + i])
    for i in range(W):
        for e in range(width):
            rows[i * width + e] = x[e * W + i]
    for e in range(width):
        for i in range(W):
            weighted[e * W + i] = sqrtf(weight[e * W + i])
    for i in range(W):
        for e in range(width):
            row_weights[i * width + e] = weighted[e * W + i]
    for e in range(width):
        for i in range(W):
            weighted[e * W + i] = weight[e * W + i] * x[e * W + i]
    if again == ALWAYS:
        find_positive_scale(x, weight, scale)
        for i in range(W):
            divisor[i] = scale[i] * <float> 3
            alive[i] = select_int((largest[i] >= eps) & (divisor[i] > ZERO), every, 0)
    else:
        for i in range(W):
            scale[i] = largest[i] / top
            divisor[i] = largest[i]
            alive[i] = select_int((largest[i] >= eps) & (largest[i] != ZERO), every, 0)
    for i in range(groups * W):
        code[i] = 0
    for attempt in range(-n_steps, n_steps + 1):
        for i in range(W):
            inverse[i] = (top + attempt * step) / divisor[i]
            this_scale[i] = ONE / inverse[i]
        put_on_grid(book, digits, width, x, rows, row_weights, inverse, this_scale, alive, tried, off_grid)
        fit(digits, width, weight, weighted, tried, sum_qx, sum_q2)
        for i in range(W):
            better = (sum_q2[i] > ZERO) & (sum_qx[i] * sum_qx[i] > best[i] * sum_q2[i])
            v = sum_qx[i] / sum_q2[i]
            scale[i] = select_float(better, v, scale[i])
            best[i] = select_float(better, v * sum_qx[i], best[i])
            kept_off[i] = select_int(better, off_grid[i], kept_off[i])
            off_grid[i] = better
        for k in range(groups):
            for i in range(W):
                code[k * W + i] = select_int(off_grid[i], tried[k * W + i], code[k * W + i])
    for i in range(W):
        if again == ALWAYS or again == ALL_IF_OFF and kept_off[i]:
            kept_off[i] = every
        kept_off[i] = select_int(scale[i] > ZERO, kept_off[i] & alive[i], 0)
        inverse[i] = ONE / scale[i]
    put_on_grid(book, digits, width, x, rows, row_weights, inverse, scale, kept_off, tried, off_grid)
    for k in range(groups):
        for i in range(W):
            code[k * W + i] = select_int(kept_off[i] >> k & 1, tried[k * W + i], code[k * W + i])
    fit(digits, width, weight, weighted, code, sum_qx, sum_q2)
    for i in range(W):
        better = (kept_off[i] != 0) & (sum_q2[i] > ZERO)
        scale[i] = select_float(better, sum_qx[i] / sum_q2[i], scale[i])
        scale[i] = select_float(alive[i], scale[i], ZERO)
    for k in range(groups):
        for i in range(W):
            code[k * W + i] = select_int(alive[i], code[k * W + i], 0)


cdef inline bint put_scale(
    const float* scale, int n, int highest, float factor, uchar* out, int* levels
) noexcept nogil:
    """The super-block's half, and codes from 0 to ``highest`` for its n scales."""
    cdef float largest = ZERO, d, inverse
    cdef int i
    cdef bint ok = True
    for i in range(n):
        ok &= scale[i] >= ZERO
        largest = largest if largest > scale[i] else scale[i]
        levels[i] = 0
    if largest == ZERO:
        return put_half(ZERO, out)
    d = largest / <float> (2 * highest + 1)
    inverse = ONE / d
    for i in range(n):
        levels[i] = clamp_int(0, nearest_int(HALF * (inverse * scale[i] - ONE)), highest)
    return put_half(d * factor, out) & ok


cdef inline bint empty(const float* scale, int n) noexcept nogil:
    """Whether all scales are 0."""
    cdef int i
    for i in range(n):
        if scale[i] != ZERO:
            return False
    return True


# Write a super-block's codes, signs and levels of scales behind its half. Its sub-blocks are the first lanes.
ctypedef void (*Put)(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil


cdef inline bint quantize_groups(
    const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights, const Codebook* book, int digits,
    int width, float times, float share, bint even, float eps, int n_steps, float step, int again, float factor,
    Put put, int size,
) noexcept nogil:
    """Quantize super-blocks of groups.

    Weights take ``times`` the mean square of their super-block, and, without an importance matrix, ``share`` of that.
    """
    cdef float x[32 * W]
    cdef float weight[32 * W]
    cdef int[8 * W] code
    cdef uchar[4 * W] signs
    cdef float[W] scale
    cdef int[W] alive
    cdef int[16] levels
    cdef int i, k, s, per = 256 // width
    cdef Py_ssize_t block = 0, n
    cdef bint ok = True
    while block < n_blocks:
        n = min(W // per, n_blocks - block)
        load(values, n * per, width, x)
        mean_squares(values, n, width, times, scale)
        weigh(x, weights, n, width, scale, share, weight)
        take_signs(x, weight, width, even, signs)
        find_grid_scale(book, digits, width, x, weight, eps, n_steps, step, again, code, scale, alive)
        for k in range(width // 8):
            for i in range(W):
                signs[k * W + i] ^= select_int(scale[i] < ZERO, 127 if even else 255, 0)
                signs[k * W + i] &= select_int(alive[i], 255, 0)
        for i in range(W):
            scale[i] = fabsf(scale[i])
        for k in range(n):
            s = k * per
            memset(out, 0, size)
            ok &= put_scale(scale + s, per, 15, factor, out, levels)
            put(code + s, signs + s, levels, scale + s, alive + s, out)
            out += size
        values += 256 * n
        if weights != NULL:
            weights += 256 * n
        block += n
    return ok


cdef inline void put_signs_and_level(const uchar* signs, int level, uchar* out) noexcept nogil:
    """Seven signs for each of 4 groups, whose eighth makes their number even, and the level of the scale."""
    cdef unsigned int word = signs[0] | signs[W] << 7 | signs[2 * W] << 14 | signs[3 * W] << 21
    word |= <unsigned int> level << 28
    out[0] = word & 255
    out[1] = word >> 8 & 255
    out[2] = word >> 16 & 255
    out[3] = word >> 24


cdef void put_iq2_xxs(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil:
    cdef int i, k
    if empty(scale, 8):
        return
    for i in range(8):
        for k in range(4):
            out[2 + 8 * i + k] = <uchar> iq2_xxs_book.numbers[code[k * W + i]]
        put_signs_and_level(signs + i, levels[i], out + 6 + 8 * i)


cdef void put_iq2_xs(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil:
    cdef int i, k, number
    if empty(scale, 16):
        return
    for i in range(16):
        for k in range(2):
            number = iq2_xs_book.numbers[code[k * W + i]] | signs[k * W + i] << 9
            out[2 + 4 * i + 2 * k] = number & 255
            out[3 + 4 * i + 2 * k] = number >> 8
        out[66 + i // 2] |= levels[i] << 4 * (i % 2)


cdef void put_iq2_s(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil:
    cdef int i, k, number
    for i in range(16):
        for k in range(2):
            number = iq2_s_book.numbers[code[k * W + i]]
            out[2 + 2 * i + k] = number & 255
            out[34 + 2 * i + k] = signs[k * W + i]
            out[66 + i // 2] |= number >> 8 << 2 * (2 * i + k & 3)
        out[74 + i // 2] |= levels[i] << 4 * (i % 2)


cdef void put_iq3_xxs(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil:
    cdef int i, k
    if empty(scale, 8):
        return
    for i in range(8):
        for k in range(8):
            out[2 + 8 * i + k] = <uchar> iq3_xxs_book.numbers[code[k * W + i]]
        put_signs_and_level(signs + i, levels[i], out + 66 + 4 * i)


cdef void put_iq3_s(
    const int* code, const uchar* signs, const int* levels, const float* scale, const int* alive, uchar* out
) noexcept nogil:
    cdef int i, k, number, at = 0
    for i in range(8):
        out[106 + i // 2] |= levels[i] << 4 * (i % 2)
        if alive[i]:  # zeros leave no gap: what follows takes their place, as the reference has it
            for k in range(8):
                number = iq3_s_book.numbers[code[k * W + i]]
                out[2 + 8 * at + k] = number & 255
                out[66 + i] |= number >> 8 << k
            for k in range(4):
                out[74 + 4 * at + k] = signs[k * W + i]
            at += 1


cdef bint iq2_xxs(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return quantize_groups(
        values, out, n_blocks, weights, &iq2_xxs_book, 8, 32, ONE, ZERO, True, GROUP_MAX_EPS, 6, STEP, ALWAYS, ONE,
        put_iq2_xxs, 66,
    )


cdef bint iq2_xs(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return quantize_groups(
        values, out, n_blocks, weights, &iq2_xs_book, 8, 16, ONE, ZERO, True, GROUP_MAX_EPS, 9, STEP, IF_OFF, ONE,
        put_iq2_xs, 74,
    )


cdef bint iq2_s(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return quantize_groups(
        values, out, n_blocks, weights, &iq2_s_book, 8, 16, TWO, QUARTER, False, GRID_EPS, 9, STEP, IF_OFF,
        IQ2_S_FACTOR, put_iq2_s, 82,
    )


cdef bint iq3_xxs(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return quantize_groups(
        values, out, n_blocks, weights, &iq3_xxs_book, 4, 32, TWO, ZERO, True, GRID_EPS, 15, FIFTH, IF_OFF,
        IQ3_XXS_FACTOR, put_iq3_xxs, 98,
    )


cdef bint iq3_s(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil:
    return quantize_groups(
        values, out, n_blocks, weights, &iq3_s_book, 4, 32, TWO, ZERO, False, ZERO, 9, FIFTH, ALL_IF_OFF, IQ3_S_FACTOR,
        put_iq3_s, 110,
    )
