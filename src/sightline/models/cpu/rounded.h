/* Numbers that are rounded to bfloat16, in pairs; for processors that multiply bfloat16. */

#ifndef SIGHTLINE_ROUNDED_H
#define SIGHTLINE_ROUNDED_H

#include <immintrin.h>

#include "vectors.h"

/* The first `left` lanes, or all. */
INLINE __mmask16 lanes_left(int64_t left)
{
    return left >= LANES ? 0xffff : left > 0 ? (__mmask16)((1 << left) - 1) : 0;
}

/* LANES numbers from `from` on, of which `left` exist; zeros in the place of the others. */
INLINE floats load_some(const float *from, int64_t left)
{
    return (floats)_mm512_maskz_loadu_ps(lanes_left(left), from);
}

INLINE void store_some(float *to, int64_t left, floats x)
{
    _mm512_mask_storeu_ps(to, lanes_left(left), (__m512)x);
}

/* Numbers side by side, two of them in each lane: those of `lower`, then those of `upper`. */
INLINE integers side_by_side(floats lower, floats upper)
{
    return (integers)_mm512_cvtne2ps_pbh((__m512)upper, (__m512)lower);
}

/* Two of them in each lane: one of `earlier` and below it, in the upper half, one of `later`. */
INLINE integers in_pairs(floats earlier, floats later)
{
    const __m512i in_turn = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0);
    return (integers)_mm512_permutexvar_epi16(in_turn, (__m512i)side_by_side(earlier, later));
}

/* Adds the products of the pairs of each lane. */
INLINE floats add_pairs(floats sums, floats some, floats others)
{
    return (floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)some, (__m512bh)others);
}

#endif
