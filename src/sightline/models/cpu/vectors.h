/* Vectors of LANES floats, 8 (AVX2) or 16 (AVX-512): every source is compiled once for each. */

#ifndef SIGHTLINE_VECTORS_H
#define SIGHTLINE_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#ifndef LANES
#error "LANES is the number of floats in a vector: 8 or 16"
#endif

typedef float floats __attribute__((vector_size(LANES * 4)));
typedef int32_t integers __attribute__((vector_size(LANES * 4)));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));
typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
/* The same where memory is not aligned to vectors. */
typedef float loose_floats __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint16_t loose_halves __attribute__((vector_size(LANES * 2), aligned(2)));

#define INLINE static inline __attribute__((always_inline))
/* For what is done once for many sums: copies of it in every tile take long to compile. */
#define APART static __attribute__((noinline))

/* Lanes of two vectors, numbered from 0 to 2 * LANES - 1. GCC has Clang's function from 12 on. */
#if defined(__clang__) || __GNUC__ >= 12
#define lanes_of(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define lanes_of(a, b, ...) __builtin_shuffle(a, b, (integers){__VA_ARGS__})
#endif

INLINE floats load(const float *from) { return (floats) * (const loose_floats *)from; }
INLINE void store(float *to, floats x) { *(loose_floats *)to = (loose_floats)x; }
INLINE floats all(float x) { return x - (floats){0}; }

INLINE floats choose(integers where, floats yes, floats no)
{
    return (floats)((where & (integers)yes) | (~where & (integers)no));
}

INLINE floats larger(floats a, floats b) { return choose(a > b, a, b); }

/* Exchanges rows and columns of LANES x LANES: in step s, numbers trade places with those s to the
 * right and s above. */
#define LOWER(s, i) ((i) & (s) ? LANES + (i) - (s) : (i))
#define UPPER(s, i) ((i) & (s) ? LANES + (i) : (i) + (s))
#define EACH_8(F, s, i) \
    F(s, i), F(s, i + 1), F(s, i + 2), F(s, i + 3), F(s, i + 4), F(s, i + 5), F(s, i + 6), \
        F(s, i + 7)
#if LANES == 16
#define EACH_LANE(F, s) EACH_8(F, s, 0), EACH_8(F, s, 8)
#else
#define EACH_LANE(F, s) EACH_8(F, s, 0)
#endif
#define EXCHANGE(s) \
    for (int i = 0; i < LANES; i++) \
        if (!(i & s)) { \
            const floats low = m[i], high = m[i + s]; \
            m[i] = lanes_of(low, high, EACH_LANE(LOWER, s)); \
            m[i + s] = lanes_of(low, high, EACH_LANE(UPPER, s)); \
        }

INLINE void transpose(floats *m)
{
    EXCHANGE(1)
    EXCHANGE(2)
    EXCHANGE(4)
#if LANES == 16
    EXCHANGE(8)
#endif
}

/* bfloat16 is the upper half of a float. */
INLINE floats load_bfloat16(const uint16_t *from)
{
    const halves upper = (halves) * (const loose_halves *)from;
    return (floats)(__builtin_convertvector(upper, words) << 16);
}

/* Rounds to the nearest, to even where two are as near; NaN stays NaN. */
INLINE void store_bfloat16(uint16_t *to, floats x)
{
    const words bits = (words)x;
    const words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const words is_number = (words)(x == x);
    const words kept = (is_number & rounded) | (~is_number & 0x7fc0);
    *(loose_halves *)to = (loose_halves)__builtin_convertvector(kept, halves);
}

/* The sum of all lanes, in one order. */
INLINE float sum_of(floats x)
{
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* exp(x) = 2^n exp(r) with n = round(x / ln 2): Cody and Waite's reduction, Cephes' polynomial.
 * Beyond what floats hold, that of the last number within. */
INLINE floats exponential(floats x)
{
    const float rounding = 12582912.0f; /* 1.5 * 2^23: adding it leaves a whole number below */
    x = choose(x > 88.0f, all(88.0f), x);
    x = choose(x < -87.0f, all(-87.0f), x);
    const floats shifted = x * 1.44269504088896341f + rounding;
    const floats n = shifted - rounding;
    floats r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    const integers power = (integers)shifted << 23; /* the bits of `rounding` are shifted out */
    return (floats)((integers)y + power);
}

INLINE floats silu(floats x) { return x / (1.0f + exponential(-x)); }
INLINE floats quick_gelu(floats x) { return x / (1.0f + exponential(x * -1.702f)); }

/* x times the share of a normal distribution below x, which is exp(-g(t)) / 2 for a negative x, with
 * t = |x| / sqrt(2) and g(t) = -ln(erfc(t)). g(t) / t is a polynomial, fitted to 2e-6 of the result
 * for t up to 4.25, where the share is 1e-9. */
INLINE floats gelu(floats x)
{
    floats size = (floats)((words)x & 0x7fffffff) * 0.70710678f;
    size = choose(size > 16.0f, all(16.0f), size);
    const floats t = choose(size > 4.25f, all(4.25f), size);
    floats g = t * -2.1750902e-6f + 3.8220747e-5f;
    g = g * t - 2.6479809e-4f;
    g = g * t + 7.5594656e-4f;
    g = g * t + 1.1386829e-3f;
    g = g * t - 2.0223554e-2f;
    g = g * t + 1.0326101e-1f;
    g = g * t + 6.3651514e-1f;
    g = g * t + 1.1283867f;
    /* Further out it falls on, so that it is nothing beside large numbers too, down to 1e-33: what
     * is smaller than that some processors are slow with. */
    const floats tail = exponential(-(g * size)) * 0.5f;
    return x * choose(x < 0.0f, tail, 1.0f - tail);
}

#endif
