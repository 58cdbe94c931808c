/* Products of fp32 rows with int8 weights, by whole numbers.
 *
 * A row is rounded to 16 bits (`whole_rows.h`), and its lower and upper bytes are multiplied with
 * the weights apart. Both sums are whole and fit 32 bits, so they are exact: no order, company or
 * number of threads can change them. Rounding a row costs 3e-5 of it beside the 9e-3 that int8
 * weights cost.
 *
 * Needs the processor's products of four bytes (VNNI), of which one factor is unsigned: weights are
 * stored with 128 added, and 128 times the sum of a row's bytes is taken off again.
 *
 * Weights lie in panels of LANES outputs: [panel][four inputs][LANES][4], inputs filled up to
 * whole fours with zeros of the rows.
 */

#ifdef __AVX512VNNI__

#include "kernels.h"
#include "repeat.h"
#include "whole_rows.h"

APART void finish(
    const product *p, int64_t row, int64_t panel, integers lower, integers upper)
{
    const floats low = __builtin_convertvector(lower - p->w.lower[row], floats);
    const floats high = __builtin_convertvector(upper - p->w.upper[row], floats);
    const floats out = (low + high * 256.0f) * load(p->scales + panel * LANES) * p->w.factors[row];
    put(p, row, panel, out);
}

/* As in products.c: a cell is a row and a panel, two vectors of sums. */
#define CLEAR(c) acc[2 * c] = acc[2 * c + 1] = (integers){0};
#define FINISH(c) finish(p, row + c / P, panel + c % P, acc[2 * c], acc[2 * c + 1]);
#define LOAD(i) { \
    const uint8_t *at = weights + i * stride + four * 4 * LANES; \
    ASK(at, R); \
    four_of[i] = *(const integers *)at; }
#define ADD(c) { \
    const int32_t *bytes = blocks + (four * R + c / P) * 2; \
    acc[2 * c] = add_products(acc[2 * c], four_of[c % P], bytes[0]); \
    acc[2 * c + 1] = add_products(acc[2 * c + 1], four_of[c % P], bytes[1]); }
#define TILE(num_rows_, num_panels_, CELLS) \
    static void tile_##num_rows_##_by_##num_panels_( \
        const product *p, const int32_t *blocks, int64_t row, int64_t panel) \
    { \
        enum { R = num_rows_, P = num_panels_ }; \
        const int64_t count = fours(&p->w), stride = count * 4 * LANES; \
        const uint8_t *weights = p->weights + panel * stride; \
        integers acc[2 * CELLS], four_of[P]; \
        TIMES_##CELLS(CLEAR) \
        for (int64_t four = 0; four < count; four++) { \
            TIMES_##num_panels_(LOAD) TIMES_##CELLS(ADD) \
        } \
        TIMES_##CELLS(FINISH) \
    }

#include "whole_panels.h"

/* How many four-byte numbers `multiply_whole` needs room for. */
int64_t whole_room(int64_t num_rows, int64_t num_inputs)
{
    return num_rows * ((num_inputs + 3) / 4 * 2 + 3);
}

/* Weights from `from` on, four in each lane, of which `left` exist; zeros in the place of others. */
INLINE floats load_fours(const int8_t *from, int64_t left)
{
    const __mmask64 there = left >= 4 * LANES ? ~0ull : (1ull << left) - 1;
    const __m512i weights = _mm512_maskz_loadu_epi8(there, from);
    return (floats)_mm512_xor_si512(weights, _mm512_set1_epi8(-128)); /* adds 128 */
}

/* Puts int8 weights [num_outputs][num_inputs] into panels; what is missing becomes zeros. See
 * `lay_out_weights`. */
void lay_out_whole_weights(
    const int8_t *weights, int64_t num_outputs, int64_t num_inputs, uint8_t *panels)
{
    const int64_t num_fours = (num_inputs + 3) / 4;
    for (int64_t first = 0; first < num_outputs; first += LANES, panels += num_fours * 4 * LANES)
        for (int64_t four = 0; four < num_fours; four += LANES) {
            floats square[LANES];
            for (int64_t j = 0; j < LANES; j++) {
                const int8_t *from = weights + (first + j) * num_inputs + 4 * four;
                __builtin_prefetch(from + LANES * num_inputs, 0, IN_L2);
                const int64_t left = first + j < num_outputs ? num_inputs - 4 * four : 0;
                square[j] = load_fours(from, left);
            }
            transpose(square);
            for (int64_t k = 0; k < LANES && four + k < num_fours; k++)
                store((float *)(panels + (four + k) * 4 * LANES), square[k]);
        }
}

/* Multiplies rows [num_rows][num_inputs] with panels and `scales` [num_panels * LANES]; see
 * `multiply` in products.c for the others. A row with a number that is not finite becomes NaN. */
void multiply_whole(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint8_t *weights,
    int64_t num_panels, const float *scales, const float *bias, const float *added,
    int64_t added_stride, int ending, float *out, int64_t out_stride, int32_t *room,
    int num_threads)
{
    product p = {
        .w = {
            .rows = rows, .num_rows = num_rows, .num_inputs = num_inputs, .lower = room,
            .upper = room + num_rows, .factors = (float *)room + 2 * num_rows,
            .blocks = room + 3 * num_rows,
        },
        .weights = weights, .scales = scales, .bias = bias, .added = added, .out = out,
        .num_panels = num_panels, .added_stride = added_stride, .out_stride = out_stride,
        .ending = ending,
    };
    run(&p, num_threads);
}

#endif
