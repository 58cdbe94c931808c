/* Products of fp32 rows with weights of two bytes, at the speed at which memory gives the weights:
 * one fused multiply-add at a time, see `panels.h`.
 *
 * Weights lie in panels: [panel][input][LANES pairs]. A pair is the weight of output j in the lower
 * two bytes and that of output LANES + j in the upper two. bfloat16 is the upper half of a float, so
 * a shift makes floats of one half and a mask of the other.
 */

#define INPUTS_OF_STEP 1
typedef float element;

#define WEIGHTS(p) { \
    const uint16_t *at = weights + p * panel_stride + k * STEP_WEIGHTS; \
    ASK(at, R); \
    words both = *(const words *)at; \
    weights_of[2 * p] = (floats)(both << 16); \
    weights_of[2 * p + 1] = (floats)(both & 0xffff0000u); }
#define ADD(c) { \
    floats x = all(STEP_OF(c / P, k)); \
    acc[2 * c] += x * weights_of[2 * (c % P)]; \
    acc[2 * c + 1] += x * weights_of[2 * (c % P) + 1]; }

#include "panels.h"

static floats load_steps(const product *p, int64_t row, int64_t step)
{
    const float *from = p->rows + row * p->num_inputs + step;
    const int64_t left = p->num_inputs - step;
    if (left >= LANES) return load(from);
    floats some = {0};
    memcpy(&some, from, left * sizeof(float));
    return some;
}

/* How many outputs a panel has. */
int64_t panel_width(void) { return PANEL; }

/* How many floats `multiply` needs room for, aligned to a vector. */
int64_t room_needed(int64_t num_rows, int64_t num_inputs, int num_threads)
{
    const int64_t blocks = num_rows > 1 ? room_of_blocks(num_rows, num_inputs) : 0;
    return blocks + room_of_sums(num_rows, num_threads);
}

/* LANES numbers from `from` on, of which `left` exist; zeros in the place of the others. */
static words load_words(const uint16_t *from, int64_t left)
{
    halves some = {0};
    if (left >= LANES) return __builtin_convertvector(*(const loose_halves *)from, words);
    memcpy(&some, from, left * sizeof(uint16_t));
    return __builtin_convertvector(some, words);
}

/* Puts bfloat16 weights [num_outputs][num_inputs] into panels [num_panels][num_inputs][PANEL].
 *
 * With `gated`, a panel pairs LANES outputs of the first half with those of the second half.
 * Outputs that are missing in the last panel become zeros. They are turned in squares, and what the
 * next panel reads is asked for meanwhile: ten times as fast as number by number. */
void lay_out_weights(
    const uint16_t *weights, int64_t num_outputs, int64_t num_inputs, int gated, uint16_t *panels)
{
    const int64_t half = gated ? num_outputs / 2 : num_outputs;
    const int64_t width = gated ? LANES : PANEL;
    const int64_t apart = gated ? half : LANES;
    for (int64_t first = 0; first < half; first += width, panels += num_inputs * PANEL)
        for (int64_t k = 0; k < num_inputs; k += LANES) {
            floats square[LANES] = {0};
            const int64_t left = num_inputs - k;
            for (int64_t j = 0; j < LANES && first + j < half; j++) {
                const uint16_t *low = weights + (first + j) * num_inputs + k;
                const uint16_t *high = low + apart * num_inputs;
                __builtin_prefetch(low + width * num_inputs, 0, IN_L2);
                __builtin_prefetch(high + width * num_inputs, 0, IN_L2);
                words both = load_words(low, left);
                if (gated || first + j + apart < half) both |= load_words(high, left) << 16;
                square[j] = (floats)both;
            }
            transpose(square);
            for (int64_t i = 0; i < LANES && i < left; i++)
                store((float *)(panels + (k + i) * PANEL), square[i]);
        }
}

/* Multiplies rows [num_rows][num_inputs] with panels, adds `bias` to every row and to each its row
 * of `added`, where these are not NULL, and writes num_panels * PANEL numbers to each row of `out`, [num_rows][out_stride],
 * or silu or gelu of them; with `ending` GATED, silu of a panel's lower half times its upper half,
 * num_panels * LANES numbers.
 *
 * `room` holds `room_needed` floats. */
void multiply(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint16_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, float *room, int num_threads)
{
    product p = {
        .rows = rows, .blocks = num_rows > 1 ? NULL : rows, .weights = weights, .bias = bias,
        .added = added, .out = out, .num_rows = num_rows, .num_inputs = num_inputs,
        .num_panels = num_panels, .added_stride = added_stride, .ending = ending,
        .out_stride = out_stride,
    };
    run(&p, room, num_threads);
}
