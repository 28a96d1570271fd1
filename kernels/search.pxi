# Searches for a block's scale, a block in each lane, and for a super-block's scale of scales.

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
    """
    float iq4_nl_value(float x) noexcept
    int iq4_nl_code(float x) noexcept


cdef inline void find_scale(
    const float* x, const float* weight, int width, int nmax, float* largest, float* scale, float* inverse
) noexcept nogil:
    """The scale that fits codes from -nmax to nmax - 1 best (make_qx_quants, type 1).

    ``largest`` gets each lane's largest magnitude, ``scale`` its scale, 0 where that magnitude is too small for one, and
    ``inverse`` what the codes of the best try were made with.
    """
    cdef float[W] amax, signed_max, best, tried, sum_lx, sum_l2, found, found_inverse
    cdef int i, e, step, better
    cdef float v, q, wq, factor
    for i in range(W):
        amax[i] = ZERO
        signed_max[i] = ZERO
    for e in range(width):
        for i in range(W):
            v = fabsf(x[e * W + i])
            better = v > amax[i]
            amax[i] = select_float(better, v, amax[i])
            signed_max[i] = select_float(better, x[e * W + i], signed_max[i])
    for step in range(-10, 10):  # the first is the plain scale; the step at 0 would repeat it
        if step == 0:
            continue
        factor = -<float> nmax if step == -10 else -(nmax + STEP * step)
        for i in range(W):
            tried[i] = factor / signed_max[i]
            sum_lx[i] = ZERO
            sum_l2[i] = ZERO
        for e in range(width):
            for i in range(W):
                # never wild where the lane has a scale: its values are at least GROUP_MAX_EPS
                q = nearest_within(-nmax, tried[i] * x[e * W + i], nmax - 1)
                wq = weight[e * W + i] * q
                sum_lx[i] += weight[e * W + i] * x[e * W + i] * q
                sum_l2[i] += wq * q
        if step == -10:
            for i in range(W):
                found[i] = select_float(sum_l2[i] != ZERO, sum_lx[i] / sum_l2[i], ZERO)
                best[i] = found[i] * sum_lx[i]
                found_inverse[i] = tried[i]
        else:
            for i in range(W):
                better = (sum_l2[i] > ZERO) & (sum_lx[i] * sum_lx[i] > best[i] * sum_l2[i])
                v = sum_lx[i] / sum_l2[i]
                found[i] = select_float(better, v, found[i])
                best[i] = select_float(better, v * sum_lx[i], best[i])
                found_inverse[i] = select_float(better, tried[i], found_inverse[i])
    for i in range(W):
        largest[i] = amax[i]
        scale[i] = select_float(amax[i] < GROUP_MAX_EPS, ZERO, found[i])
        inverse[i] = found_inverse[i]


cdef inline int code_of(float value, float inverse, int nmax, float largest) noexcept nogil:
    """The code that the best try of find_scale gave a value, from 0 on."""
    return 0 if largest < GROUP_MAX_EPS else clamp_int(-nmax, nearest_int(inverse * value), nmax - 1) + nmax


cdef inline void find_scale_and_minimum(
    const float* x, const float* weight, int width, int nmax, float rmin, float rdelta, int n_steps, bint absolute,
    bint weighted, float* scale, float* minimum, float* sum_weight, float* inverse, float* base, int* first
) noexcept nogil:
    """The scale and minimum that fit codes from 0 to nmax best (make_qkx2_quants, or make_qkx3_quants if weighted).

    ``minimum`` is positive where values reach below zero, ``sum_weight`` a lane's sum of weights. ``inverse`` and
    ``base`` are what the codes of the best try were made with; ``first`` is 1 where that was the one before all steps,
    and 2 where a lane is flat: it has no scale, and codes of 0.
    """
    cdef float[W] low, high, sum_x, best, tried, sum_l, sum_l2, sum_xl, try_scale, try_low, error
    cdef float[W] sum_w, found, best_inverse, best_low
    cdef float level[32 * W]
    cdef int[W] from_start
    cdef int i, e, step, l, better
    cdef float v, wl, det, a, b, factor
    for i in range(W):
        low[i] = x[i]
        high[i] = x[i]
        sum_w[i] = weight[i]
        sum_x[i] = weight[i] * x[i]
    for e in range(1, width):
        for i in range(W):
            v = x[e * W + i]
            low[i] = select_float(v < low[i], v, low[i])
            high[i] = select_float(v > high[i], v, high[i])
            sum_w[i] += weight[e * W + i]
            sum_x[i] += weight[e * W + i] * v
    for i in range(W):
        low[i] = select_float(low[i] > ZERO, ZERO, low[i])
        from_start[i] = select_int(high[i] <= low[i], 2, 1)
        tried[i] = nmax / (high[i] - low[i])
        found[i] = ONE / tried[i]
        best[i] = ZERO
        best_inverse[i] = tried[i]
        best_low[i] = low[i]
        minimum[i] = -low[i]
    for e in range(width):
        for i in range(W):
            l = clamp_int(0, nearest_int(tried[i] * (x[e * W + i] - low[i])), nmax)
            v = found[i] * l + low[i] - x[e * W + i]
            v = fabsf(v) if absolute else v * v
            best[i] += weight[e * W + i] * v
    for step in range(n_steps + 1):
        factor = rmin + rdelta * step + nmax
        for i in range(W):
            tried[i] = factor / (high[i] - low[i])
            sum_l[i] = ZERO
            sum_l2[i] = ZERO
            sum_xl[i] = ZERO
        for e in range(width):
            for i in range(W):
                v = tried[i] * (x[e * W + i] - low[i])
                if weighted:
                    l = select_int(v > ZERO, nearest_int(select_float(v < nmax, v, nmax)), 0)
                else:
                    l = clamp_int(0, nearest_int(v), nmax)
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
        for e in range(width):
            for i in range(W):
                v = try_scale[i] * level[e * W + i] + try_low[i] - x[e * W + i]
                v = fabsf(v) if absolute else v * v
                error[i] += weight[e * W + i] * v
        for i in range(W):
            better = (sum_l2[i] > ZERO) & (error[i] < best[i]) & (from_start[i] != 2)
            best[i] = select_float(better, error[i], best[i])
            found[i] = select_float(better, try_scale[i], found[i])
            best_inverse[i] = select_float(better, tried[i], best_inverse[i])
            best_low[i] = select_float(better, low[i], best_low[i])
            from_start[i] = select_int(better, 0, from_start[i])
            low[i] = select_float(better, try_low[i], low[i])
    for i in range(W):
        scale[i] = select_float(from_start[i] == 2, ZERO, found[i])
        minimum[i] = select_float(from_start[i] == 2, minimum[i], -low[i])
        sum_weight[i] = sum_w[i]
        inverse[i] = best_inverse[i]
        base[i] = best_low[i]
        first[i] = from_start[i]


cdef inline int level_of(float value, float inverse, float base, int nmax, int first, bint weighted) noexcept nogil:
    """The code that the best try of find_scale_and_minimum gave a value."""
    cdef float v = inverse * (value - base)
    if first == 2:
        return 0
    if weighted and not first:
        return nearest_int(v if v < nmax else nmax) if v > ZERO else 0
    return clamp_int(0, nearest_int(v), nmax)


cdef float scale_of_scales(int n, int nmax, const float* x, uchar* codes, const float* weight) noexcept nogil:
    """The scale that fits codes from 0 to nmax best to what is not negative (make_qp_quants)."""
    cdef float largest = ZERO, inverse, tried, scale, best = ZERO, error, sum_lx = ZERO, sum_l2 = ZERO, slx, sl2, diff
    cdef int i, step, l, attempt, changed
    for i in range(n):
        largest = x[i] if x[i] > largest else largest
    if largest < GROUP_MAX_EPS:
        memset(codes, 0, n)
        return ZERO
    inverse = nmax / largest
    scale = ONE / inverse
    for i in range(n):
        codes[i] = <uchar> nearest_int(inverse * x[i])
        diff = x[i] - scale * codes[i]
        best += weight[i] * diff * diff
    for step in range(-4, 5):
        if step == 0:
            continue
        tried = (STEP * step + nmax) / largest
        scale = ONE / tried
        error = ZERO
        for i in range(n):
            l = min(nmax, nearest_int(tried * x[i]))
            diff = x[i] - scale * l
            error += weight[i] * diff * diff
        if error < best:
            best = error
            inverse = tried
    for i in range(n):
        l = min(nmax, nearest_int(inverse * x[i]))
        codes[i] = <uchar> l
        sum_lx += weight[i] * x[i] * l
        sum_l2 += weight[i] * l * l
    for attempt in range(5):
        changed = 0
        for i in range(n):
            slx = sum_lx - weight[i] * x[i] * codes[i]
            sl2 = sum_l2 - weight[i] * codes[i] * codes[i]
            if slx > ZERO and sl2 > ZERO:
                l = min(nmax, nearest_int(x[i] * sl2 / slx))
                if l != codes[i]:
                    slx += weight[i] * x[i] * l
                    sl2 += weight[i] * l * l
                    if slx * slx * sum_l2 > sum_lx * sum_lx * sl2:
                        codes[i] = <uchar> l
                        sum_lx = slx
                        sum_l2 = sl2
                        changed += 1
        if not changed:
            break
    return sum_lx / sum_l2 if sum_l2 > ZERO else ZERO


cdef float signed_scale_of_scales(int n, int nmax, const float* x, uchar* codes, const float* weight) noexcept nogil:
    """The scale that fits codes from -nmax to nmax - 1, written from 0 on, best (make_qx_quants, type 1)."""
    cdef float amax = ZERO, signed_max = ZERO, inverse, best = ZERO, scale = ZERO, sum_lx, sum_l2
    cdef int i, step, l
    for i in range(n):
        if fabsf(x[i]) > amax:
            amax = fabsf(x[i])
            signed_max = x[i]
    if amax < GROUP_MAX_EPS:
        memset(codes, 0, n)
        return ZERO
    for step in range(-10, 10):
        if step == 0:
            continue
        inverse = (-<float> nmax if step == -10 else -(nmax + STEP * step)) / signed_max
        sum_lx = ZERO
        sum_l2 = ZERO
        for i in range(n):
            l = clamp_int(-nmax, nearest_int(inverse * x[i]), nmax - 1)
            sum_lx += weight[i] * x[i] * l
            sum_l2 += weight[i] * l * l
        if step == -10:
            scale = sum_lx / sum_l2 if sum_l2 != ZERO else ZERO
        elif sum_l2 > ZERO and sum_lx * sum_lx > best * sum_l2:
            scale = sum_lx / sum_l2
        else:
            continue
        best = scale * sum_lx
        for i in range(n):
            codes[i] = clamp_int(-nmax, nearest_int(inverse * x[i]), nmax - 1) + nmax
    return scale


cdef inline void find_table_scale(const float* x, const float* weight, float* scale) noexcept nogil:
    """The scale that fits the 16 levels of IQ4_NL best, with 7 tries to either side (quantize_row_iq4_nl_impl)."""
    cdef float[W] amax, largest, best, inverse, sum_qx, sum_q2
    cdef int i, e, attempt, better
    cdef float v, q, wq
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
    for i in range(W):
        scale[i] = select_float(amax[i] < GROUP_MAX_EPS, ZERO, scale[i])
