/* Products of fp32 rows with bfloat16 weights in panels of 2 * LANES outputs; the half that knows
 * nothing of how a number is multiplied.
 *
 * A row's result is a sum over its inputs in their order, in one fp32 register. How many rows stand
 * beside it, how many threads share the work and in which pieces the inputs are taken changes no
 * operation of that sum, so it changes no bit.
 *
 * Inputs are taken in steps of INPUTS_OF_STEP. A step of a panel is two vectors of weights, a step
 * of a row is one `element`. Included behind these, and behind
 *
 *     WEIGHTS(p)  puts the panel p's two vectors of step k into weights_of[2 * p] and the next, and
 *                 may ask for the weights `ahead` of them and `ahead_too`;
 *     ADD(c)      adds what a cell's row and panel make of step k to acc[2 * c] and the next. */

#include <string.h>

#include "kernels.h"
#include "repeat.h"
#include "threads.h"
#include "tiles.h"
#include "vectors.h"

#define PANEL (2 * LANES)
/* What of the inputs is multiplied before the next block of rows is: the weights of a panel for so
 * many inputs stay within a core's second cache. */
#define STEPS_AT_ONCE (1024 / INPUTS_OF_STEP)
/* From a row to the next of the same piece. Were it a power of two, rows would push each other out
 * of the first cache. */
#define APART_BY (STEPS_AT_ONCE + LANES)
/* The step k of a row of a tile. */
#define STEP_OF(row, k) blocks[(row) * APART_BY + (k)]
/* bfloat16 numbers of a panel's step. */
#define STEP_WEIGHTS (PANEL * INPUTS_OF_STEP)
/* Panels whose unfinished sums lie in a thread's room at once. */
#define PANELS_AT_ONCE 8
/* In bfloat16 numbers: a cache line, and how far ahead of a lone block weights are asked for. */
#define LINE 32
#define FAR 4096

typedef struct {
    const float *rows;       /* [num_rows][num_inputs] */
    const element *blocks;   /* the same in pieces, [piece][row][APART_BY]; a lone row as it is */
    const uint16_t *weights; /* [num_panels][num_steps][STEP_WEIGHTS] */
    const float *bias;       /* [num_outputs] or NULL */
    const float *added;      /* [num_rows][added_stride] or NULL */
    float *out;              /* [num_rows][out_stride] */
    float *room;             /* per thread: [PANELS_AT_ONCE][num_rows][PANEL] */
    int64_t num_rows, num_inputs, num_panels, added_stride, out_stride;
    shares rows_taken, panels_taken;
    int64_t next; /* panel that no thread has taken yet */
    int ending;
} product;

static int64_t steps_of(int64_t num_inputs)
{
    return (num_inputs + INPUTS_OF_STEP - 1) / INPUTS_OF_STEP;
}

static int64_t num_blocks(const product *p) { return blocks_of(p->num_rows); }

typedef struct {
    float *to;
    const float *bias, *added; /* each or NULL */
    int64_t stride, added_stride;
    int ending;
} ending;

/* Brings finished sums of a tile, [num_panels][height][PANEL], to where they belong. */
APART void finish(const ending *e, const float *sums, int64_t height, int64_t num_panels)
{
    for (int64_t panel = 0; panel < num_panels; panel++)
        for (int64_t row = 0; row < height; row++, sums += PANEL) {
            floats low = load(sums), high = load(sums + LANES);
            if (e->ending == GATED) {
                store(e->to + row * e->stride + panel * LANES, silu(low) * high);
                continue;
            }
            if (e->bias) {
                low += load(e->bias + panel * PANEL);
                high += load(e->bias + panel * PANEL + LANES);
            }
            if (e->added) {
                const float *added = e->added + row * e->added_stride + panel * PANEL;
                low += load(added);
                high += load(added + LANES);
            }
            if (e->ending == SILU) low = silu(low), high = silu(high);
            if (e->ending == GELU) low = gelu(low), high = gelu(high);
            if (e->ending == QUICK_GELU) low = quick_gelu(low), high = quick_gelu(high);
            float *to = e->to + row * e->stride + panel * PANEL;
            store(to, low);
            store(to + LANES, high);
        }
}

/* A tile is R rows by P panels whose sums all stand in registers. A cell c is a row and a panel:
 * two vectors of sums. `sums` is [P][num_rows][PANEL], what earlier inputs gave if `has_sums`;
 * without an ending that is also where sums go. */
#define SUMS_OF(c) (sums + (c % P * num_rows + c / P) * PANEL)
#define CLEAR(c) acc[2 * c] = acc[2 * c + 1] = (floats){0};
#define LOAD(c) \
    acc[2 * c] = *(const floats *)SUMS_OF(c); \
    acc[2 * c + 1] = *(const floats *)(SUMS_OF(c) + LANES);
#define STORE(c) \
    *(floats *)SUMS_OF(c) = acc[2 * c]; \
    *(floats *)(SUMS_OF(c) + LANES) = acc[2 * c + 1];
#define ADD_BIAS(c) { \
    acc[2 * c] += load(end->bias + c % P * PANEL); \
    acc[2 * c + 1] += load(end->bias + c % P * PANEL + LANES); }
#define ADD_GIVEN(c) { \
    const float *added = end->added + c / P * end->added_stride + c % P * PANEL; \
    acc[2 * c] += load(added); \
    acc[2 * c + 1] += load(added + LANES); }
#define BRING(c) { \
    float *to = end->to + c / P * end->stride + c % P * PANEL; \
    store(to, acc[2 * c]); \
    store(to + LANES, acc[2 * c + 1]); }
#define KEEP(c) \
    finished[c % P * R + c / P][0] = acc[2 * c]; \
    finished[c % P * R + c / P][1] = acc[2 * c + 1];

#define TILE(num_rows_, num_panels_, CELLS) \
    static void tile_##num_rows_##_by_##num_panels_( \
        const element *blocks, const uint16_t *weights, int64_t panel_stride, int64_t depth, \
        int64_t ahead, int64_t ahead_too, float *sums, int64_t num_rows, int has_sums, \
        const ending *end) \
    { \
        enum { R = num_rows_, P = num_panels_ }; \
        floats acc[2 * CELLS], weights_of[2 * P]; \
        if (has_sums) { TIMES_##CELLS(LOAD) } else { TIMES_##CELLS(CLEAR) } \
        for (; depth > 0; depth -= STEPS_AT_ONCE) { \
            const int64_t piece = depth < STEPS_AT_ONCE ? depth : STEPS_AT_ONCE; \
            for (int64_t k = 0; k < piece; k++) { \
                TIMES_##num_panels_(WEIGHTS) \
                TIMES_##CELLS(ADD) \
            } \
            blocks += R > 1 ? R * APART_BY : STEPS_AT_ONCE; \
            weights += STEPS_AT_ONCE * STEP_WEIGHTS; \
        } \
        if (!end) { \
            TIMES_##CELLS(STORE) \
            return; \
        } \
        if (end->ending == PLAIN) { \
            if (end->bias) { TIMES_##CELLS(ADD_BIAS) } \
            if (end->added) { TIMES_##CELLS(ADD_GIVEN) } \
            TIMES_##CELLS(BRING) \
            return; \
        } \
        floats finished[CELLS][2]; \
        TIMES_##CELLS(KEEP) \
        finish(end, (const float *)finished, R, P); \
    }

typedef void (*tile)(
    const element *, const uint16_t *, int64_t, int64_t, int64_t, int64_t, float *, int64_t, int,
    const ending *);

#include "tiles.h"

/* Multiplies all blocks of rows with the panels [first, last). */
static void multiply_panels(const product *p, int64_t first, int64_t last, float *room)
{
    const int64_t num_steps = steps_of(p->num_inputs), blocks = num_blocks(p);
    const int64_t panel_stride = num_steps * STEP_WEIGHTS;
    const int64_t at_once = blocks > 1 ? STEPS_AT_ONCE : num_steps;
    const int64_t out_width = p->ending == GATED ? LANES : PANEL;
    for (int64_t chunk = first; chunk < last; chunk += PANELS_AT_ONCE) {
        const int64_t end_of_chunk = chunk + PANELS_AT_ONCE < last ? chunk + PANELS_AT_ONCE : last;
        for (int64_t k = 0; k < num_steps; k += at_once) {
            const int64_t depth = num_steps - k < at_once ? num_steps - k : at_once;
            const int is_last = k + depth == num_steps;
            for (int64_t panel = chunk, width = 1; panel < end_of_chunk; panel += width) {
                for (int64_t block = 0; block < blocks; block++) {
                    const int64_t row = first_row(p->num_rows, block);
                    const int64_t height = first_row(p->num_rows, block + 1) - row;
                    const int exponent = widest_tile(height, end_of_chunk - panel, blocks);
                    width = (int64_t)1 << exponent;
                    /* With several blocks memory would rest while the others are multiplied: the
                     * first two ask for half of the next panel each. */
                    const int64_t ahead = blocks == 1 ? FAR : panel_stride + block % 2 * LINE;
                    const int64_t ahead_too = blocks == 1 ? FAR + LINE : ahead;
                    ending end = {
                        p->out + row * p->out_stride + panel * out_width,
                        p->bias ? p->bias + panel * PANEL : NULL,
                        p->added ? p->added + row * p->added_stride + panel * PANEL : NULL,
                        p->out_stride, p->added_stride, p->ending,
                    };
                    TILES[height][exponent](
                        p->blocks + (k / STEPS_AT_ONCE * p->num_rows + row) * APART_BY,
                        p->weights + panel * panel_stride + k * STEP_WEIGHTS, panel_stride, depth,
                        ahead, ahead_too,
                        room + ((panel - chunk) * p->num_rows + row) * PANEL, p->num_rows,
                        k > 0, is_last ? &end : NULL);
                }
            }
        }
    }
}

/* LANES steps of a row, as many elements; zeros behind the last input. */
static floats load_steps(const product *p, int64_t row, int64_t step);

/* Lays a row out as tiles read it: all steps side by side, in pieces. */
static void lay_out_row(const product *p, int64_t row)
{
    for (int64_t step = 0; step < steps_of(p->num_inputs); step += LANES) {
        const int64_t piece = step / STEPS_AT_ONCE * p->num_rows + row;
        const int64_t place = p->num_rows > 1 ? piece * APART_BY : step - step % STEPS_AT_ONCE;
        store((float *)p->blocks + place + step % STEPS_AT_ONCE, load_steps(p, row, step));
    }
}

static void lay_out_share(void *data)
{
    product *p = data;
    int64_t first, last;
    while (take_own(&p->rows_taken, p->num_rows, &first, &last))
        for (int64_t row = first; row < last; row++) lay_out_row(p, row);
}

static void multiply_share(void *data)
{
    product *p = data;
    int64_t first, last;
    float *room = p->room + this_thread() * PANELS_AT_ONCE * p->num_rows * PANEL;
    if (num_blocks(p) < MANY_BLOCKS) {
        while (take_own(&p->panels_taken, p->num_panels, &first, &last))
            multiply_panels(p, first, last, room);
        return;
    }
    while (take_some(&p->next, p->num_panels, &first, &last)) multiply_panels(p, first, last, room);
}

/* Floats that laid out rows fill. */
static int64_t room_of_blocks(int64_t num_rows, int64_t num_inputs)
{
    return num_rows * ((steps_of(num_inputs) + STEPS_AT_ONCE - 1) / STEPS_AT_ONCE) * APART_BY;
}

static int64_t room_of_sums(int64_t num_rows, int num_threads)
{
    return num_threads * PANELS_AT_ONCE * num_rows * PANEL;
}

/* `p` has everything but its room; with `blocks`, rows are laid out already. */
static void run(product *p, float *room, int num_threads)
{
    const int64_t work = p->num_rows * p->num_inputs * p->num_panels * PANEL;
    num_threads = threads_for(work, ONE_THREAD, num_threads);
    p->room = room;
    if (!p->blocks) {
        p->blocks = (const element *)room;
        p->room += room_of_blocks(p->num_rows, p->num_inputs);
        /* For a few rows it is not worth waking anybody. */
        on_threads(p->num_rows > MOST_ROWS ? num_threads : 1, lay_out_share, p);
    }
    on_threads(num_threads, multiply_share, p);
}
