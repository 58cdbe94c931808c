/* Products of fp32 rows with weights of two bytes, at the speed at which memory gives the weights.
 *
 * A row's result is a sum over its inputs in their order, in one fp32 register, one fused
 * multiply-add at a time. How many rows stand beside it, how many threads share the work and in
 * which pieces the inputs are taken changes no operation of that sum, so it changes no bit.
 *
 * Weights lie in panels of 2 * LANES outputs: [panel][input][LANES pairs]. A pair is the weight of
 * output j in the lower two bytes and that of output LANES + j in the upper two. bfloat16 is the
 * upper half of a float, so a shift makes floats of one half and a mask of the other.
 */

#include "kernels.h"
#include "repeat.h"
#include "threads.h"
#include "tiles.h"
#include "vectors.h"

#define PANEL (2 * LANES)

/* What of the inputs is multiplied before the next block of rows is: the weights of a panel for so
 * many inputs stay within a core's second cache. */
#define INPUTS_AT_ONCE 1024
/* Panels whose unfinished sums lie in a thread's room at once. */
#define PANELS_AT_ONCE 8

typedef struct {
    const float *rows;          /* [num_rows][num_inputs] */
    const float *blocks;        /* the same, see `lay_out` */
    const uint16_t *weights;    /* [num_panels][num_inputs][PANEL] */
    const float *added;         /* [num_rows][added_stride] or, with added_stride 0, [num_outputs] */
    float *out;                 /* [num_rows][out_stride] */
    float *room;                /* per thread: [PANELS_AT_ONCE][num_rows][PANEL] */
    int64_t num_rows, num_inputs, num_panels, added_stride, out_stride;
    int ending;
} product;

static int64_t num_blocks(const product *p) { return blocks_of(p->num_rows); }

typedef struct {
    float *to;
    const float *added; /* or NULL */
    int64_t stride, added_stride;
    int ending;
} ending;

/* Brings finished sums of a row and a panel to where they belong. */
APART void finish(
    const ending *e, int64_t row, int64_t panel, floats low, floats high)
{
    if (e->ending == GATED) {
        store(e->to + row * e->stride + panel * LANES, silu(low) * high);
        return;
    }
    if (e->added) {
        const float *added = e->added + row * e->added_stride + panel * PANEL;
        low += load(added);
        high += load(added + LANES);
    }
    if (e->ending == SILU) low = silu(low), high = silu(high);
    if (e->ending == GELU) low = gelu(low), high = gelu(high);
    float *to = e->to + row * e->stride + panel * PANEL;
    store(to, low);
    store(to + LANES, high);
}

/* A tile is R rows by P panels whose sums all stand in registers. A cell c is a row and a panel:
 * two vectors of sums. `blocks` is [depth][R]; `sums` is [P][num_rows][PANEL], what earlier inputs
 * gave and this tile adds to, or NULL; without an ending that is also where sums go. */
#define SUMS_OF(c) (sums + (c % P * num_rows + c / P) * PANEL)
#define CLEAR(c) acc[2 * c] = acc[2 * c + 1] = (floats){0};
#define LOAD(c) \
    acc[2 * c] = *(const floats *)SUMS_OF(c); \
    acc[2 * c + 1] = *(const floats *)(SUMS_OF(c) + LANES);
#define STORE(c) \
    *(floats *)SUMS_OF(c) = acc[2 * c]; \
    *(floats *)(SUMS_OF(c) + LANES) = acc[2 * c + 1];
#define FINISH(c) finish(end, c / P, c % P, acc[2 * c], acc[2 * c + 1]);
#define WIDEN(p) { \
    const uint16_t *at = weights + p * panel_stride + k * PANEL; \
    __builtin_prefetch((const char *)at + AHEAD(R)); \
    words both = *(const words *)at; \
    wide[2 * p] = (floats)(both << 16); \
    wide[2 * p + 1] = (floats)(both & 0xffff0000u); }
#define ADD(c) { \
    floats x = all(blocks[k * R + c / P]); \
    acc[2 * c] += x * wide[2 * (c % P)]; \
    acc[2 * c + 1] += x * wide[2 * (c % P) + 1]; }

#define TILE(num_rows_, num_panels_, CELLS) \
    static void tile_##num_rows_##_by_##num_panels_( \
        const float *blocks, const uint16_t *weights, int64_t panel_stride, int64_t depth, \
        float *sums, int64_t num_rows, int has_sums, const ending *end) \
    { \
        enum { R = num_rows_, P = num_panels_ }; \
        floats acc[2 * CELLS], wide[2 * P]; \
        if (has_sums) { TIMES_##CELLS(LOAD) } else { TIMES_##CELLS(CLEAR) } \
        for (int64_t k = 0; k < depth; k++) { TIMES_##num_panels_(WIDEN) TIMES_##CELLS(ADD) } \
        if (end) { TIMES_##CELLS(FINISH) } else { TIMES_##CELLS(STORE) } \
    }

typedef void (*tile)(
    const float *, const uint16_t *, int64_t, int64_t, float *, int64_t, int, const ending *);

#include "tiles.h"

/* Multiplies all blocks of rows with the panels [first, last). */
static void multiply_panels(const product *p, int64_t first, int64_t last, float *room)
{
    const int64_t panel_stride = p->num_inputs * PANEL, blocks = num_blocks(p);
    const int64_t step = blocks > 1 ? INPUTS_AT_ONCE : p->num_inputs;
    const int64_t out_width = p->ending == GATED ? LANES : PANEL;
    for (int64_t chunk = first; chunk < last; chunk += PANELS_AT_ONCE) {
        const int64_t end_of_chunk = chunk + PANELS_AT_ONCE < last ? chunk + PANELS_AT_ONCE : last;
        for (int64_t k = 0; k < p->num_inputs; k += step) {
            const int64_t depth = p->num_inputs - k < step ? p->num_inputs - k : step;
            const int is_last = k + depth == p->num_inputs;
            for (int64_t panel = chunk, width = 1; panel < end_of_chunk; panel += width) {
                for (int64_t block = 0; block < blocks; block++) {
                    const int64_t row = first_row(p->num_rows, block);
                    const int64_t height = first_row(p->num_rows, block + 1) - row;
                    const int exponent = widest_tile(height, end_of_chunk - panel, blocks);
                    width = (int64_t)1 << exponent;
                    ending end = {
                        p->out + row * p->out_stride + panel * out_width,
                        p->added ? p->added + row * p->added_stride + panel * PANEL : NULL,
                        p->out_stride, p->added_stride, p->ending,
                    };
                    TILES[height][exponent](
                        p->blocks + k * p->num_rows + row * depth,
                        p->weights + panel * panel_stride + k * PANEL, panel_stride, depth,
                        room + ((panel - chunk) * p->num_rows + row) * PANEL, p->num_rows,
                        k > 0, is_last ? &end : NULL);
                }
            }
        }
    }
}

/* Lays blocks of rows out as tiles read them: [piece of inputs][block][input][row]. */
static void lay_out(const product *p, int64_t block, float *to)
{
    const int64_t step = num_blocks(p) > 1 ? INPUTS_AT_ONCE : p->num_inputs;
    const int64_t row = first_row(p->num_rows, block), height = first_row(p->num_rows, block + 1) - row;
    for (int64_t k = 0; k < p->num_inputs; k += step) {
        const int64_t depth = p->num_inputs - k < step ? p->num_inputs - k : step;
        float *at = to + k * p->num_rows + row * depth;
        for (int64_t r = 0; r < height; r++) {
            const float *from = p->rows + (row + r) * p->num_inputs + k;
            for (int64_t i = 0; i < depth; i++) at[i * height + r] = from[i];
        }
    }
}

static void lay_out_share(void *data)
{
    const product *p = data;
    int64_t first, last;
    share_of(num_blocks(p), &first, &last);
    for (int64_t block = first; block < last; block++) lay_out(p, block, (float *)p->blocks);
}

static void multiply_share(void *data)
{
    const product *p = data;
    int64_t first, last;
    share_of(p->num_panels, &first, &last);
    float *room = p->room + this_thread() * PANELS_AT_ONCE * p->num_rows * PANEL;
    multiply_panels(p, first, last, room);
}

/* How many outputs a panel has. */
int64_t panel_width(void) { return PANEL; }

/* How many floats `multiply` needs room for, aligned to a vector. */
int64_t room_needed(int64_t num_rows, int64_t num_inputs, int num_threads)
{
    const int64_t blocks = num_rows > 1 ? num_rows * num_inputs : 0;
    return (blocks + LANES - 1) / LANES * LANES + num_threads * PANELS_AT_ONCE * num_rows * PANEL;
}

/* Puts bfloat16 weights [num_outputs][num_inputs] into panels [num_panels][num_inputs][PANEL].
 *
 * With `gated`, a panel pairs LANES outputs of the first half with those of the second half.
 * Outputs that are missing in the last panel become zeros. */
void lay_out_weights(
    const uint16_t *weights, int64_t num_outputs, int64_t num_inputs, int gated, uint16_t *panels)
{
    const int64_t half = gated ? num_outputs / 2 : num_outputs;
    const int64_t width = gated ? LANES : PANEL;
    const int64_t apart = gated ? half : LANES;
    for (int64_t first = 0; first < half; first += width, panels += num_inputs * PANEL)
        for (int64_t j = 0; j < LANES; j++) {
            const int has_low = first + j < half;
            const int has_high = gated ? has_low : first + j + apart < half;
            const uint16_t *low = weights + (first + j) * num_inputs;
            const uint16_t *high = low + apart * num_inputs;
            for (int64_t k = 0; k < num_inputs; k++) {
                panels[k * PANEL + 2 * j] = has_low ? low[k] : 0;
                panels[k * PANEL + 2 * j + 1] = has_high ? high[k] : 0;
            }
        }
}

/* Multiplies rows [num_rows][num_inputs] with panels, adds `added` (a row for every row, or one for
 * all, or NULL) and writes num_panels * PANEL numbers to each row of `out`, [num_rows][out_stride],
 * or silu or gelu of them; with `ending` GATED, silu of a panel's lower half times its upper half,
 * num_panels * LANES numbers.
 *
 * `room` holds `room_needed` floats. */
void multiply(
    const float *rows, int64_t num_rows, int64_t num_inputs, const uint16_t *weights,
    int64_t num_panels, const float *added, int64_t added_stride, int ending, float *out,
    int64_t out_stride, float *room, int num_threads)
{
    product p = {
        .rows = rows, .blocks = num_rows > 1 ? room : rows, .weights = weights, .added = added,
        .out = out, .num_rows = num_rows, .num_inputs = num_inputs, .num_panels = num_panels,
        .added_stride = added_stride, .ending = ending, .out_stride = out_stride,
    };
    const int64_t blocks = num_rows > 1 ? num_rows * num_inputs : 0;
    p.room = room + (blocks + LANES - 1) / LANES * LANES;
    num_threads = threads_for(num_rows * num_inputs * num_panels * PANEL, ONE_THREAD, num_threads);
    /* For a few rows it is not worth waking anybody. */
    if (num_rows > 1) on_threads(num_rows > MOST_ROWS ? num_threads : 1, lay_out_share, &p);
    on_threads(num_threads, multiply_share, &p);
}
