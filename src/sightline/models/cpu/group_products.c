/* Products of fp32 rows with int4 weights, by whole numbers in groups of 32 inputs.
 *
 * A row is rounded to 16 bits (`whole_rows.h`). Within a group its bytes are multiplied with the
 * weights' numbers, 0 to 15: that sum is whole, and an fp32 number holds it. So all that is rounded
 * is the sum over groups of
 *
 *     scale * (sum of row * number) + (zero - 8 * scale) * (sum of row)
 *
 * in the order of the groups, whatever the company and the number of threads.
 *
 * Weights lie in panels of LANES outputs: [panel][group], and of a group first
 * [8 inputs][LANES][4]: the byte i holds input i in its lower half and input 4 + i in its upper
 * half; then [LANES][2]: scale and zero in bfloat16.
 */

#ifdef __AVX512VNNI__

#include <string.h>

#include "repeat.h"
#include "whole_rows.h"

#define PARTS 4 /* of a group, eight inputs each */
#define PART_BYTES (4 * LANES)
#define GROUP_BYTES ((PARTS + 1) * PART_BYTES)

/* As in whole_products.c: a cell is a row and a panel. */
#define CLEAR(c) sums[c] = (floats){0};
#define BEGIN(c) acc[2 * c] = (integers){0}; acc[2 * c + 1] = (integers){0};
#define LOAD(i) { \
    const uint8_t *at = weights + i * stride + part * PART_BYTES; \
    ASK(at, R); \
    const words both = *(const words *)at; \
    early[i] = (integers)(both & 0x0f0f0f0f); \
    late[i] = (integers)(both >> 4 & 0x0f0f0f0f); }
#define ADD(c) { \
    const int32_t *bytes = blocks + (part * 2 * R + c / P) * 2; \
    acc[2 * c] = add_products(acc[2 * c], early[c % P], bytes[0]); \
    acc[2 * c + 1] = add_products(acc[2 * c + 1], early[c % P], bytes[1]); \
    acc[2 * c] = add_products(acc[2 * c], late[c % P], bytes[2 * R]); \
    acc[2 * c + 1] = add_products(acc[2 * c + 1], late[c % P], bytes[2 * R + 1]); }
#define SCALE(i) { \
    const words both = *(const words *)(weights + i * stride + PARTS * PART_BYTES); \
    scales[i] = (floats)(both << 16); \
    zeros[i] = (floats)(both & 0xffff0000) - 8.0f * scales[i]; }
#define FOLD(c) \
    sums[c] += __builtin_convertvector(acc[2 * c] + (acc[2 * c + 1] << 8), floats) * scales[c % P]; \
    sums[c] += groups[c / P * count + group] * zeros[c % P];
#define FINISH(c) \
    put(p, row + c / P, panel + c % P, sums[c] * p->w.factors[row + c / P]);
#define TILE(num_rows_, num_panels_, CELLS) \
    static void tile_##num_rows_##_by_##num_panels_( \
        const product *p, const int32_t *blocks, int64_t row, int64_t panel) \
    { \
        enum { R = num_rows_, P = num_panels_ }; \
        const int64_t count = p->w.num_inputs / GROUP, stride = count * GROUP_BYTES; \
        const uint8_t *weights = p->weights + panel * stride; \
        const float *groups = p->w.groups + row * count; \
        integers acc[2 * CELLS], early[P], late[P]; \
        floats sums[CELLS], scales[P], zeros[P]; \
        TIMES_##CELLS(CLEAR) \
        for (int64_t group = 0; group < count; group++) { \
            TIMES_##CELLS(BEGIN) \
            for (int part = 0; part < PARTS; part++) { \
                TIMES_##num_panels_(LOAD) TIMES_##CELLS(ADD) \
            } \
            TIMES_##num_panels_(SCALE) TIMES_##CELLS(FOLD) \
            weights += GROUP_BYTES; \
            blocks += GROUP / 4 * R * 2; \
        } \
        TIMES_##CELLS(FINISH) \
    }

#include "whole_panels.h"

/* How many four-byte numbers `multiply_groups` needs room for. */
int64_t groups_room(int64_t num_rows, int64_t num_inputs)
{
    return num_rows * (num_inputs / 4 * 2 + num_inputs / GROUP + 1);
}

/* Four numbers, the first in the lowest half byte, in a byte each. */
INLINE uint32_t spread(uint32_t numbers)
{
    numbers = (numbers | numbers << 8) & 0x00ff00ff;
    return (numbers | numbers << 4) & 0x0f0f0f0f;
}

/* Puts int4 weights into panels: `numbers` [num_outputs][num_inputs / 2] with two neighbours in a
 * byte, `scales` [num_outputs][groups][2]. Outputs that are missing in the last panel become zeros. */
void lay_out_group_weights(
    const uint8_t *numbers, const uint16_t *scales, int64_t num_outputs, int64_t num_inputs,
    uint8_t *panels)
{
    const int64_t num_groups = num_inputs / GROUP;
    for (int64_t first = 0; first < num_outputs; first += LANES)
        for (int64_t group = 0; group < num_groups; group++, panels += GROUP_BYTES)
            for (int64_t j = 0; j < LANES; j++) {
                uint32_t eights[PARTS] = {0}, scale = 0;
                const int64_t at = (first + j) * num_groups + group;
                if (first + j < num_outputs) {
                    memcpy(eights, numbers + at * GROUP / 2, sizeof eights);
                    memcpy(&scale, scales + at * 2, sizeof scale);
                    __builtin_prefetch(numbers + (at + LANES * num_groups) * GROUP / 2, 0, IN_L2);
                }
                uint32_t *to = (uint32_t *)panels + j;
                for (int part = 0; part < PARTS; part++)
                    to[part * LANES] =
                        spread(eights[part] & 0xffff) | spread(eights[part] >> 16) << 4;
                to[PARTS * LANES] = scale;
            }
}

/* As `multiply_whole` in whole_products.c, for panels of `lay_out_group_weights`. */
void multiply_groups(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint8_t *weights,
    int64_t num_panels, const float *bias, const float *added, int64_t added_stride, int ending,
    float *out, int64_t out_stride, int32_t *room, int num_threads)
{
    const int64_t num_groups = num_inputs / GROUP;
    product p = {
        .w = {
            .rows = rows, .num_rows = num_rows, .num_inputs = num_inputs, .groups = (float *)room,
            .factors = (float *)room + num_rows * num_groups,
            .blocks = room + num_rows * (num_groups + 1),
        },
        .weights = weights, .bias = bias, .added = added, .out = out, .num_panels = num_panels,
        .added_stride = added_stride, .out_stride = out_stride, .ending = ending,
    };
    run(&p, num_threads);
}

#endif
