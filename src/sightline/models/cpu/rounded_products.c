/* Products of rows rounded to bfloat16 with bfloat16 weights, added up in fp32, on processors that
 * multiply bfloat16: twice as many numbers at once as `products.c`; see `panels.h`.
 *
 * Weights lie in panels: [panel][pair of inputs][2][LANES][2], the panel's lower LANES outputs
 * before the upper ones. An instruction adds the products of a pair of inputs to one sum. It takes
 * numbers below 2^-126 for zeros.
 */

#ifdef __AVX512BF16__

#include <stdint.h>

#include "rounded.h"

#define INPUTS_OF_STEP 2
/* Two bfloat16 numbers, the earlier one in the lower half. */
typedef int32_t element;

#define WEIGHTS(p) { \
    const uint16_t *at = weights + p * panel_stride + k * STEP_WEIGHTS; \
    if (R >= 4) { \
        __builtin_prefetch(at + ahead, 0, IN_L2); \
        __builtin_prefetch(at + ahead_too, 0, IN_L2); \
    } \
    weights_of[2 * p] = *(const floats *)at; \
    weights_of[2 * p + 1] = *(const floats *)(at + PANEL); }
#define ADD(c) { \
    const floats x = (floats)_mm512_set1_epi32(STEP_OF(c / P, k)); \
    acc[2 * c] = add_pairs(acc[2 * c], weights_of[2 * (c % P)], x); \
    acc[2 * c + 1] = add_pairs(acc[2 * c + 1], weights_of[2 * (c % P) + 1], x); }

#include "panels.h"

static floats load_steps(const product *p, int64_t row, int64_t step)
{
    const float *from = p->rows + row * p->num_inputs + 2 * step;
    const int64_t left = p->num_inputs - 2 * step;
    return (floats)side_by_side(load_some(from, left), load_some(from + LANES, left - LANES));
}

/* How many floats `multiply_rounded` needs room for, aligned to a vector. */
int64_t rounded_room(int64_t num_rows, int64_t num_inputs, int num_threads)
{
    return room_of_blocks(num_rows, num_inputs) + room_of_sums(num_rows, num_threads);
}

/* Numbers from `from` on, two in each lane, of which `left` exist; zeros in the place of the others. */
INLINE floats load_pairs(const uint16_t *from, int64_t left)
{
    const __mmask32 there = left >= 2 * LANES ? ~0u : (1u << left) - 1;
    return (floats)_mm512_maskz_loadu_epi16(there, from);
}

/* Puts bfloat16 weights [num_outputs][num_inputs] into panels; see `lay_out_weights`. */
void lay_out_rounded_weights(
    const uint16_t *weights, int64_t num_outputs, int64_t num_inputs, int gated, uint16_t *panels)
{
    const int64_t half = gated ? num_outputs / 2 : num_outputs;
    const int64_t width = gated ? LANES : PANEL;
    const int64_t num_steps = steps_of(num_inputs);
    const int64_t aparts[] = {0, gated ? half : LANES}, ends[] = {half, gated ? 2 * half : half};
    for (int64_t first = 0; first < half; first += width, panels += num_steps * STEP_WEIGHTS)
        for (int64_t step = 0; step < num_steps; step += LANES)
            for (int upper = 0; upper < 2; upper++) {
                floats square[LANES] = {0};
                const int64_t left = num_inputs - 2 * step, output = first + aparts[upper];
                for (int64_t j = 0; j < LANES && first + j < half && output + j < ends[upper]; j++) {
                    const uint16_t *from = weights + (output + j) * num_inputs + 2 * step;
                    __builtin_prefetch(from + width * num_inputs, 0, IN_L2);
                    square[j] = load_pairs(from, left);
                }
                transpose(square);
                uint16_t *to = panels + step * STEP_WEIGHTS + upper * PANEL;
                for (int64_t k = 0; k < LANES && step + k < num_steps; k++)
                    store((float *)(to + k * STEP_WEIGHTS), square[k]);
            }
}

/* As `multiply` in products.c, for panels of `lay_out_rounded_weights`. */
void multiply_rounded(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint16_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, float *room, int num_threads)
{
    product p = {
        .rows = rows, .weights = weights, .bias = bias, .added = added, .out = out,
        .num_rows = num_rows, .num_inputs = num_inputs, .num_panels = num_panels,
        .added_stride = added_stride, .ending = ending, .out_stride = out_stride,
    };
    run(&p, room, num_threads);
}

#endif
