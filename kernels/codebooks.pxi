# The codebooks of the i-quants. A code has a digit for each value of a group: 8 digits of 3 levels, or 4 of 8. Only
# some codes, the points of a grid, can be written. For each other code the points nearest to it are listed, as
# llama.cpp's iq2xs_init_impl and iq3xs_init_impl list them: those at its smallest few distances, by distance, then by
# number.
#
# Most of them can never win. Where each digit is the level nearest to its value, a point that differs from the code
# wherever another point does, as far or farther, is no better than that one, also when summed in float arithmetic,
# which is monotonic; and it comes later in the list. Without such points a fifth to a half of the list remains:
# ``near``. ``all`` is needed only where a value lies so close to the middle of two levels that rounding might have
# chosen the farther one.

from libc.stdlib cimport realloc

cdef extern from * nogil:
    """
    #include <float.h>
    #if defined(__AVX2__)
    #include <immintrin.h>
    #endif
    /* The levels of a digit, repeated: tables that are indexed by the low bits of a digit's place in a code. */
    #define FOUR_TIMES(...) {__VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__}
    #define TWICE(...) {__VA_ARGS__, __VA_ARGS__}
    static const float THREE_LEVELS[16] = FOUR_TIMES(1.f, 3.f, 5.f, 7.f);
    static const float EIGHT_LEVELS[16] = TWICE(1.f, 3.f, 5.f, 7.f, 9.f, 11.f, 13.f, 15.f);
    static const float RAISED_LEVELS[16] = FOUR_TIMES(-0.875f, 0.125f, 1.125f, 2.125f);
    static const float LOWERED_LEVELS[16] = FOUR_TIMES(-1.125f, -0.125f, 0.875f, 1.875f);

    /* The first of ``n`` points that is nearest to x, weighed, when the levels are times ``scale``. A point has 2 bits
       for each of 8 digits, or 3 for each of 4. ``points`` are filled up to a multiple of 16 with the first one. */
    #define SEARCH(name) static inline __attribute__((always_inline)) int name( \
        int digits, const uint16_t *points, int n, \
        const float *x, const float *weight, float scale, const float *levels)
    #if defined(__AVX512F__)
    static inline __m512 choose_512(__m512 terms, __m512i codes, int digits) {
        return digits == 8 ? _mm512_permutevar_ps(terms, codes) : _mm512_permutexvar_ps(codes, terms);
    }
    SEARCH(nearest_of_16) {
        const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(levels));
        __m512 terms[8];
        for (int d = 0; d < digits; ++d) {
            const __m512 distance = _mm512_sub_ps(scaled, _mm512_set1_ps(x[d]));
            terms[d] = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(weight[d]), distance), distance);
        }
        int found = points[0];
        float best = FLT_MAX;
        for (int at = 0; at < n; at += 16) {
            __m512i codes = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (points + at)));
            __m512 sum = choose_512(terms[0], codes, digits);
            for (int d = 1; d < digits; ++d) {
                codes = digits == 8 ? _mm512_srli_epi32(codes, 2) : _mm512_srli_epi32(codes, 3);
                sum = _mm512_add_ps(sum, choose_512(terms[d], codes, digits));
            }
            if (_mm512_cmp_ps_mask(sum, _mm512_set1_ps(best), _CMP_LT_OQ)) {
                best = _mm512_reduce_min_ps(sum);
                const unsigned equal = _mm512_cmp_ps_mask(sum, _mm512_set1_ps(best), _CMP_EQ_OQ);
                found = points[at + __builtin_ctz(equal | 0x10000)];
            }
        }
        return found;
    }
    #endif
    #if defined(__AVX2__)
    static inline __m256 choose_256(__m256 terms, __m256i codes, int digits) {
        return digits == 8 ? _mm256_permutevar_ps(terms, codes) : _mm256_permutevar8x32_ps(terms, codes);
    }
    SEARCH(nearest_of_8) {
        const __m256 scaled = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(levels));
        __m256 terms[8];
        for (int d = 0; d < digits; ++d) {
            const __m256 distance = _mm256_sub_ps(scaled, _mm256_set1_ps(x[d]));
            terms[d] = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(weight[d]), distance), distance);
        }
        int found = points[0];
        float best = FLT_MAX;
        for (int at = 0; at < n; at += 8) {
            __m256i codes = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) (points + at)));
            __m256 sum = choose_256(terms[0], codes, digits);
            for (int d = 1; d < digits; ++d) {
                codes = digits == 8 ? _mm256_srli_epi32(codes, 2) : _mm256_srli_epi32(codes, 3);
                sum = _mm256_add_ps(sum, choose_256(terms[d], codes, digits));
            }
            if (_mm256_movemask_ps(_mm256_cmp_ps(sum, _mm256_set1_ps(best), _CMP_LT_OQ))) {
                __m256 least = _mm256_min_ps(sum, _mm256_permute2f128_ps(sum, sum, 1));
                least = _mm256_min_ps(least, _mm256_permute_ps(least, 0x4e));
                least = _mm256_min_ps(least, _mm256_permute_ps(least, 0xb1));
                best = _mm256_cvtss_f32(least);
                const unsigned equal = (unsigned) _mm256_movemask_ps(_mm256_cmp_ps(sum, least, _CMP_EQ_OQ));
                found = points[at + __builtin_ctz(equal | 0x100)];
            }
        }
        return found;
    }
    #endif
    SEARCH(nearest_point) {
    #if defined(__AVX512F__)
        if (digits == 8) return nearest_of_16(8, points, n, x, weight, scale, levels);
        return nearest_of_8(4, points, n, x, weight, scale, levels);
    #elif defined(__AVX2__)
        return nearest_of_8(digits, points, n, x, weight, scale, levels);
    #else
        const int bits = digits == 8 ? 2 : 3, mask = (1 << bits) - 1;
        float terms[8][8];
        for (int d = 0; d < digits; ++d)
            for (int l = 0; l <= mask; ++l) {
                const float distance = scale * levels[l] - x[d];
                terms[d][l] = weight[d] * distance * distance;
            }
        int found = points[0];
        float best = FLT_MAX;
        for (int at = 0; at < n; ++at) {
            int code = points[at];
            float sum = terms[0][code & mask];
            for (int d = 1; d < digits; ++d) {
                code >>= bits;
                sum += terms[d][code & mask];
            }
            if (sum < best) {
                best = sum;
                found = points[at];
            }
        }
        return found;
    #endif
    }
    """
    const float *THREE_LEVELS
    const float *EIGHT_LEVELS
    const float *RAISED_LEVELS
    const float *LOWERED_LEVELS
    int nearest_point(
        int digits, const ushort* points, int n, const float* x, const float* weight, float scale, const float* levels
    ) noexcept

cdef struct GridCode:
    int number  # of the point that the code is; -1 if it is none
    int near, all  # where its lists begin
    ushort n_near, n_all

cdef struct Codebook:
    GridCode* codes  # by the digits as a number; NULL as long as the codebook is not built
    ushort* numbers  # of points, by the digits as bits
    ushort* near
    ushort* all

cdef enum:
    LIST = 2048  # points in a list, at most: all there are

cdef Codebook iq2_xxs_book, iq2_xs_book, iq2_s_book, iq3_xxs_book, iq3_s_book, iq1_book


cdef int append(ushort** pool, int* size, const ushort* points, int n) except -1:
    """Put a list at the end of a pool, filled up; where it begins."""
    cdef int at = size[0], i, filled = (n + 15) & ~15
    cdef ushort* place = <ushort*> realloc(pool[0], (at + filled) * sizeof(ushort))
    if place == NULL:
        raise MemoryError
    pool[0] = place
    size[0] = at + filled
    for i in range(filled):
        place[at + i] = points[i] if i < n else points[0]
    return at


cdef int build(Codebook* book, const uchar[:, ::1] points, int n_distances) except -1:
    """List each code's nearest points; ``points`` are the digits of each."""
    cdef int n_points = points.shape[0], digits = points.shape[1]
    cdef int radix = 3 if digits == 8 else 8, bits = 2 if digits == 8 else 3
    cdef int n_codes = radix ** digits, code, number, d, i, j, k, step, nearest, last, farther
    cdef int n_all, n_near, all_size = 0, near_size = 0
    cdef uchar[8] digit
    cdef uchar transposed[8 * LIST]
    cdef short distance[LIST]
    cdef ushort packed[LIST]
    cdef ushort every[LIST]
    cdef ushort near[LIST]
    cdef GridCode* codes = <GridCode*> malloc(n_codes * sizeof(GridCode))
    book.numbers = <ushort*> malloc((1 << digits * bits) * sizeof(ushort))
    book.near = book.all = NULL
    if codes == NULL or book.numbers == NULL:
        raise MemoryError
    for code in range(n_codes):
        codes[code] = GridCode(-1, 0, 0, 0, 0)
    for i in range(n_points):
        number = packed[i] = 0
        for d in reversed(range(digits)):
            transposed[d * LIST + i] = points[i, d]
            number = number * radix + points[i, d]
            packed[i] = packed[i] << bits | points[i, d]
        codes[number].number = i
        book.numbers[packed[i]] = i
    for code in range(n_codes):
        if codes[code].number >= 0:
            continue
        number = code
        for d in range(digits):
            digit[d] = number % radix
            number //= radix
        memset(distance, 0, sizeof(distance))
        for d in range(digits):
            for i in range(n_points):
                step = transposed[d * LIST + i] - digit[d]
                distance[i] += step * step
        n_all = n_near = 0
        last = -1
        for k in range(n_distances):
            nearest = 0x7fff
            for i in range(n_points):
                nearest = min(nearest, 0x7fff if distance[i] <= last else distance[i])
            last = nearest
            for i in range(n_points):
                if distance[i] != last:
                    continue
                every[n_all] = packed[i]
                n_all += 1
                farther = 0
                for j in range(n_near):
                    farther = 1
                    for d in range(digits):
                        step = near[j] >> bits * d & (1 << bits) - 1
                        if step != digit[d] and not (
                            digit[d] < step <= transposed[d * LIST + i] or transposed[d * LIST + i] <= step < digit[d]
                        ):
                            farther = 0
                            break
                    if farther:
                        break
                if not farther:
                    near[n_near] = packed[i]
                    n_near += 1
        codes[code] = GridCode(
            -1, append(&book.near, &near_size, near, n_near), append(&book.all, &all_size, every, n_all), n_near, n_all
        )
    book.codes = codes
    return 0


def build_codebook(int target):
    """Build what the kernel of a type needs, once. The points are those that gguf-py reads such blocks with."""
    name, distances = {
        IQ2_XXS: ("IQ2_XXS", 2), IQ2_XS: ("IQ2_XS", 2), IQ2_S: ("IQ2_S", 1), IQ3_XXS: ("IQ3_XXS", 2),
        IQ3_S: ("IQ3_S", 3), IQ1_S: ("IQ1_S", 3), IQ1_M: ("IQ1_S", 3),
    }[target]
    cdef Codebook* book = codebook_of(target)
    if book.codes != NULL:
        return
    import numpy
    from gguf import quants

    grid = getattr(quants, name)
    grid.init_grid()
    points = numpy.searchsorted(grid.grid_map, grid.grid.reshape(grid.grid_shape)).astype(numpy.uint8)
    if book.codes == NULL:  # no other thread runs from here on
        build(book, points, distances)


cdef Codebook* codebook_of(int target):
    if target == IQ2_XXS:
        return &iq2_xxs_book
    if target == IQ2_XS:
        return &iq2_xs_book
    if target == IQ2_S:
        return &iq2_s_book
    if target == IQ3_XXS:
        return &iq3_xxs_book
    if target == IQ3_S:
        return &iq3_s_book
    return &iq1_book


NEEDS_WEIGHTS = frozenset((IQ2_XXS, IQ2_XS, IQ1_S))
CODEBOOKS = NEEDS_WEIGHTS | {IQ2_S, IQ3_XXS, IQ3_S, IQ1_M}
