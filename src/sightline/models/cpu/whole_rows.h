/* Rows rounded to 16 bits, for products by whole numbers; see `whole_products.c` and
 * `group_products.c`.
 *
 * A row is scaled by its largest number and rounded. Its lower and upper bytes lie apart, both
 * signed: a number is lower + 256 * upper. */

#ifndef SIGHTLINE_WHOLE_ROWS_H
#define SIGHTLINE_WHOLE_ROWS_H

#include <immintrin.h>

#include "kernels.h"
#include "threads.h"
#include "tiles.h"
#include "vectors.h"

#define HIGHEST 32512.0f /* 127 * 256: the upper byte stays within -127 to 127 */
/* Inputs of a group of int4 weights: two vectors of a row. */
#define GROUP 32

typedef struct {
    const float *rows;      /* [num_rows][num_inputs] */
    int32_t *blocks;        /* [block][four inputs][row][lower, upper]: four bytes each */
    float *factors;         /* [num_rows]: what a unit of a row's whole numbers is worth */
    int32_t *lower, *upper; /* [num_rows]: 128 times the sums of a row's bytes; or NULL */
    float *groups;          /* [num_rows][group]: sums of its whole numbers; or NULL */
    int64_t num_rows, num_inputs;
    shares taken;
} whole_rows;

typedef struct {
    whole_rows w;
    const uint8_t *weights;
    const float *scales;       /* of int8 weights: [num_panels * LANES] */
    const float *bias, *added; /* see products.c */
    float *out;
    int64_t num_panels, added_stride, out_stride;
    shares panels_taken;
    int64_t next; /* panel that no thread has taken yet */
    int ending;
} product;

static int64_t fours(const whole_rows *w) { return (w->num_inputs + 3) / 4; }

/* Sixteen inputs from `i` on, with zeros behind the last. */
INLINE floats load_inputs(const whole_rows *w, const float *from, int64_t i)
{
    const int64_t left = w->num_inputs - i;
    return left >= LANES ? load(from + i)
                         : (floats)_mm512_maskz_loadu_ps((__mmask16)((1 << left) - 1), from + i);
}

/* Rounds a row and puts its bytes where tiles read them: `to` is [four inputs][height][2]. */
static void round_row(const whole_rows *w, int64_t row, int64_t height, int32_t *to)
{
    const float *from = w->rows + row * w->num_inputs;
    floats tops = {0}, zeros = {0};
    for (int64_t i = 0; i < w->num_inputs; i += LANES) {
        const floats x = load_inputs(w, from, i);
        tops = larger((floats)((words)x & 0x7fffffff), tops);
        zeros += x * 0.0f; /* NaN where a number is not finite */
    }
    float top = 0.0f;
    for (int i = 0; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
    const float not_finite = sum_of(zeros);
    /* Below, the factor would not be finite; such rows are as good as zeros. */
    const float factor = top > 1e-30f && not_finite == 0.0f ? HIGHEST / top : 0.0f;
    integers lower_sums = {0}, upper_sums = {0}, of_group = {0};
    for (int64_t i = 0; i < w->num_inputs; i += LANES) {
        const integers whole =
            (integers)_mm512_cvtps_epi32((__m512)(load_inputs(w, from, i) * factor));
        /* What is not finite has become the lowest whole number, of which both bytes are zero. */
        const integers low = whole << 24 >> 24, high = (whole - low) << 16 >> 24;
        const __m128i lower = _mm512_cvtepi32_epi8((__m512i)low);
        const __m128i upper = _mm512_cvtepi32_epi8((__m512i)high);
        lower_sums += low;
        upper_sums += high;
        if (w->groups) {
            of_group = i % GROUP ? of_group + low + (high << 8) : low + (high << 8);
            if (i % GROUP)
                w->groups[(row * w->num_inputs + i) / GROUP] =
                    (float)_mm512_reduce_add_epi32((__m512i)of_group);
        }
        int32_t both[2][LANES / 4];
        _mm_storeu_si128((__m128i *)both[0], lower);
        _mm_storeu_si128((__m128i *)both[1], upper);
        const int64_t four = i / 4, end = fours(w) - four < LANES / 4 ? fours(w) - four : LANES / 4;
        for (int64_t f = 0; f < end; f++) {
            to[(four + f) * height * 2] = both[0][f];
            to[(four + f) * height * 2 + 1] = both[1][f];
        }
    }
    w->factors[row] = top / HIGHEST + not_finite;
    if (!w->lower) return;
    w->lower[row] = 128 * _mm512_reduce_add_epi32((__m512i)lower_sums);
    w->upper[row] = 128 * _mm512_reduce_add_epi32((__m512i)upper_sums);
}

static void lay_out_block(const whole_rows *w, int64_t block)
{
    const int64_t row = first_row(w->num_rows, block);
    const int64_t height = first_row(w->num_rows, block + 1) - row;
    int32_t *to = w->blocks + row * fours(w) * 2;
    for (int64_t r = 0; r < height; r++) round_row(w, row + r, height, to + 2 * r);
}

static void lay_out_share(void *data)
{
    whole_rows *w = data;
    int64_t first, last;
    while (take_own(&w->taken, blocks_of(w->num_rows), &first, &last))
        for (int64_t block = first; block < last; block++) lay_out_block(w, block);
}

INLINE integers add_products(integers sums, integers weights, int32_t bytes)
{
    return (integers)_mm512_dpbusd_epi32(
        (__m512i)sums, (__m512i)weights, _mm512_set1_epi32(bytes));
}

/* Brings a row's finished sums of a panel to where they belong. */
APART void put(const product *p, int64_t row, int64_t panel, floats out)
{
    if (p->bias) out += load(p->bias + panel * LANES);
    if (p->added) out += load(p->added + row * p->added_stride + panel * LANES);
    if (p->ending == SILU) out = silu(out);
    if (p->ending == GELU) out = gelu(out);
    if (p->ending == QUICK_GELU) out = quick_gelu(out);
    store(p->out + row * p->out_stride + panel * LANES, out);
}

#endif
