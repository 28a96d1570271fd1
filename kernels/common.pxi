# What all kernels share. A kernel works on W blocks at once, one in each lane: element e of lane i lies at [e * W + i],
# and every loop over lanes is one that the compiler turns into vector instructions. Sums run over elements in order,
# lane by lane, and nothing is contracted or reassociated: the bytes are those of llama.cpp's scalar reference
# (ggml/src/ggml-quants.c) on every instruction set. Constants are cast to float: Cython writes them as doubles.

from libc.math cimport fabsf, sqrtf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

ctypedef unsigned char uchar
ctypedef unsigned short ushort
# ``weights`` is what an importance matrix says of each value, or NULL. With weights the blocks are those of one row.
ctypedef bint (*Kernel)(const float* values, uchar* out, Py_ssize_t n_blocks, const float* weights) noexcept nogil

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    static inline int32_t float_bits(float x) { int32_t i; memcpy(&i, &x, sizeof(i)); return i; }
    static inline float bits_float(int32_t i) { float x; memcpy(&x, &i, sizeof(x)); return x; }
    static inline float select_float(int c, float a, float b) { return c ? a : b; }
    static inline int select_int(int c, int a, int b) { return c ? a : b; }
    static inline int clamp_int(int low, int x, int high) { return x < low ? low : x > high ? high : x; }
    /* Nearest integer, ties to even, by the bits of x + 1.5 * 2^23; beyond 2^22 it wraps, as the reference does. */
    static inline int nearest_int(float x) { return (float_bits(x + 12582912.f) & 0x007fffff) - 0x00400000; }
    /* The same as a float, for |x| < LARGEST_ROUNDED. */
    static inline float rounded(float x) { return x + 12582912.f - 12582912.f; }
    static inline float clamped(float low, float x, float high) {
        x = x > low ? x : low;
        return x < high ? x : high;
    }
    /* The nearest integer of a range, for |x| < LARGEST_ROUNDED; SSE2 has no minimum and maximum of integers. */
    static inline float nearest_within(int low, float x, int high) {
    #if defined(__SSE2__) && !defined(__SSE4_1__)
        return rounded(clamped((float) low, x, (float) high));
    #else
        return (float) clamp_int(low, nearest_int(x), high);
    #endif
    }
    /* Ties away from zero, for |x| < 2^23. */
    static inline int round_away(float x) { return (int) (x + bits_float(0x3effffff | (float_bits(x) & 0x80000000))); }
    /* IEEE half precision, ties to even, overflow to infinity. */
    static inline uint16_t to_half(float x) {
        uint32_t bits = (uint32_t) float_bits(x), sign = bits & 0x80000000u;
        bits ^= sign;
        uint32_t small = (uint32_t) float_bits(bits_float((int32_t) bits) + 0.5f) - 0x3f000000u;
        uint32_t normal = (bits + 0xc8000fffu + ((bits >> 13) & 1u)) >> 13;
        uint32_t large = bits > 0x7f800000u ? 0x7e00u : 0x7c00u;
        return (uint16_t) ((bits >= 0x47800000u ? large : bits < 0x38800000u ? small : normal) | sign >> 16);
    }
    static inline float from_half(uint16_t half) {
        uint32_t bits = (uint32_t) (half & 0x7fff) << 13, exponent = bits & 0x0f800000u;
        uint32_t normal = bits + 0x38000000u + (exponent == 0x0f800000u ? 0x38000000u : 0u);
        float small = bits_float((int32_t) (bits + 0x38800000u)) - bits_float(0x38800000);
        uint32_t magnitude = exponent == 0 ? (uint32_t) float_bits(small) : normal;
        return bits_float((int32_t) (magnitude | (uint32_t) (half & 0x8000) << 16));
    }
    #define LARGEST_ROUNDED 4194304.f
    #define GROUP_MAX_EPS 1e-15f
    #define ZERO 0.f
    #define HALF 0.5f
    #define ONE 1.f
    #define STEP 0.1f
    #define TWENTIETH 0.05f
    #define SIXTEENTH 0.0625f
    #define NINE_TENTHS 0.9f
    """
    int float_bits(float x) noexcept
    float bits_float(int bits) noexcept
    float select_float(int condition, float a, float b) noexcept
    int select_int(int condition, int a, int b) noexcept
    int clamp_int(int low, int x, int high) noexcept
    int nearest_int(float x) noexcept
    float nearest_within(int low, float x, int high) noexcept
    int round_away(float x) noexcept
    ushort to_half(float x) noexcept
    float from_half(ushort half) noexcept
    const float LARGEST_ROUNDED, GROUP_MAX_EPS, ZERO, HALF, ONE, STEP, TWENTIETH, SIXTEENTH, NINE_TENTHS


cdef inline bint put_half(float value, uchar* out) noexcept nogil:
    """Write a half; False where it is not finite."""
    cdef ushort half = to_half(value)
    out[0] = half & 0xff
    out[1] = half >> 8
    return (half & 0x7c00) != 0x7c00


cdef inline void load(const float* values, Py_ssize_t n, int width, float* x, int lanes=W) noexcept nogil:
    """Put up to ``lanes`` blocks of ``width`` values into lanes; lanes without a block hold zeros."""
    cdef int i, e
    for i in range(lanes):
        if i < n:
            for e in range(width):
                x[e * lanes + i] = values[i * width + e]
        else:
            for e in range(width):
                x[e * lanes + i] = ZERO
