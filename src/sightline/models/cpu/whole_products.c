/* Products of fp32 rows with int8 weights, by whole numbers.
 *
 * A row is rounded to 16 bits, scaled by its largest number, and its lower and upper bytes are
 * multiplied with the weights apart. Both sums are whole and fit 32 bits, so they are exact: no
 * order, company or number of threads can change them. Rounding a row costs 3e-5 of it beside the
 * 9e-3 that int8 weights cost.
 *
 * Needs the processor's products of four bytes (VNNI), of which one factor is unsigned: weights are
 * stored with 128 added, and 128 times the sum of a row's bytes is taken off again.
 *
 * Weights lie in panels of LANES outputs: [panel][four inputs][LANES][4], inputs filled up to
 * whole fours with zeros of the rows.
 */

#ifdef __AVX512VNNI__

#include <immintrin.h>

#include "kernels.h"
#include "repeat.h"
#include "threads.h"
#include "tiles.h"
#include "vectors.h"

#define HIGHEST 32512.0f /* 127 * 256: the upper byte stays within -127 to 127 */

typedef struct {
    const float *rows;      /* [num_rows][num_inputs] */
    int32_t *blocks;        /* [block][four inputs][row][lower, upper]: four bytes each */
    float *factors;         /* [num_rows]: what a unit of a row's whole numbers is worth */
    int32_t *lower, *upper; /* [num_rows]: 128 times the sums of a row's bytes */
    const uint8_t *weights;
    const float *scales;    /* [num_panels * LANES] */
    const float *bias, *added; /* see products.c */
    float *out;
    int64_t num_rows, num_inputs, num_panels, added_stride, out_stride;
    shares blocks_taken, panels_taken;
    int64_t next; /* panel that no thread has taken yet */
    int ending;
} product;

static int64_t fours(const product *p) { return (p->num_inputs + 3) / 4; }
static int64_t num_blocks(const product *p) { return blocks_of(p->num_rows); }

/* Sixteen inputs from `i` on, with zeros behind the last. */
INLINE floats load_inputs(const product *p, const float *from, int64_t i)
{
    const int64_t left = p->num_inputs - i;
    return left >= LANES ? load(from + i)
                         : (floats)_mm512_maskz_loadu_ps((__mmask16)((1 << left) - 1), from + i);
}

/* Rounds a row and puts its bytes where tiles read them: `to` is [four inputs][height][2]. */
static void round_row(const product *p, int64_t row, int64_t height, int32_t *to)
{
    const float *from = p->rows + row * p->num_inputs;
    floats tops = {0}, zeros = {0};
    for (int64_t i = 0; i < p->num_inputs; i += LANES) {
        const floats x = load_inputs(p, from, i);
        tops = larger((floats)((words)x & 0x7fffffff), tops);
        zeros += x * 0.0f; /* NaN where a number is not finite */
    }
    float top = 0.0f;
    for (int i = 0; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
    const float not_finite = sum_of(zeros);
    /* Below, the factor would not be finite; such rows are as good as zeros. */
    const float factor = top > 1e-30f && not_finite == 0.0f ? HIGHEST / top : 0.0f;
    integers lower_sums = {0}, upper_sums = {0};
    for (int64_t i = 0; i < p->num_inputs; i += LANES) {
        const integers whole =
            (integers)_mm512_cvtps_epi32((__m512)(load_inputs(p, from, i) * factor));
        /* What is not finite has become the lowest whole number, of which both bytes are zero. */
        const integers low = whole << 24 >> 24, high = (whole - low) << 16 >> 24;
        const __m128i lower = _mm512_cvtepi32_epi8((__m512i)low);
        const __m128i upper = _mm512_cvtepi32_epi8((__m512i)high);
        lower_sums += low;
        upper_sums += high;
        int32_t both[2][LANES / 4];
        _mm_storeu_si128((__m128i *)both[0], lower);
        _mm_storeu_si128((__m128i *)both[1], upper);
        const int64_t four = i / 4, end = fours(p) - four < LANES / 4 ? fours(p) - four : LANES / 4;
        for (int64_t f = 0; f < end; f++) {
            to[(four + f) * height * 2] = both[0][f];
            to[(four + f) * height * 2 + 1] = both[1][f];
        }
    }
    p->factors[row] = top / HIGHEST + not_finite;
    p->lower[row] = 128 * _mm512_reduce_add_epi32((__m512i)lower_sums);
    p->upper[row] = 128 * _mm512_reduce_add_epi32((__m512i)upper_sums);
}

static void lay_out(const product *p, int64_t block)
{
    const int64_t row = first_row(p->num_rows, block);
    const int64_t height = first_row(p->num_rows, block + 1) - row;
    int32_t *to = p->blocks + row * fours(p) * 2;
    for (int64_t r = 0; r < height; r++) round_row(p, row + r, height, to + 2 * r);
}

INLINE integers add_products(integers sums, integers weights, int32_t bytes)
{
    return (integers)_mm512_dpbusd_epi32(
        (__m512i)sums, (__m512i)weights, _mm512_set1_epi32(bytes));
}

APART void finish(
    const product *p, int64_t row, int64_t panel, integers lower, integers upper)
{
    const floats low = __builtin_convertvector(lower - p->lower[row], floats);
    const floats high = __builtin_convertvector(upper - p->upper[row], floats);
    floats out = (low + high * 256.0f) * load(p->scales + panel * LANES) * p->factors[row];
    if (p->bias) out += load(p->bias + panel * LANES);
    if (p->added) out += load(p->added + row * p->added_stride + panel * LANES);
    if (p->ending == SILU) out = silu(out);
    if (p->ending == GELU) out = gelu(out);
    if (p->ending == QUICK_GELU) out = quick_gelu(out);
    store(p->out + row * p->out_stride + panel * LANES, out);
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
        const int64_t count = fours(p), stride = count * 4 * LANES; \
        const uint8_t *weights = p->weights + panel * stride; \
        integers acc[2 * CELLS], four_of[P]; \
        TIMES_##CELLS(CLEAR) \
        for (int64_t four = 0; four < count; four++) { \
            TIMES_##num_panels_(LOAD) TIMES_##CELLS(ADD) \
        } \
        TIMES_##CELLS(FINISH) \
    }

typedef void (*tile)(const product *, const int32_t *, int64_t, int64_t);

#include "tiles.h"

static void multiply_panels(const product *p, int64_t first, int64_t last)
{
    const int64_t blocks = num_blocks(p);
    for (int64_t panel = first, width = 1; panel < last; panel += width)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t row = first_row(p->num_rows, block);
            const int64_t height = first_row(p->num_rows, block + 1) - row;
            const int exponent = widest_tile(height, last - panel, blocks);
            width = (int64_t)1 << exponent;
            TILES[height][exponent](p, p->blocks + row * fours(p) * 2, row, panel);
        }
}

static void lay_out_share(void *data)
{
    product *p = data;
    int64_t first, last;
    while (take_own(&p->blocks_taken, num_blocks(p), &first, &last))
        for (int64_t block = first; block < last; block++) lay_out(p, block);
}

static void multiply_share(void *data)
{
    product *p = data;
    int64_t first, last;
    if (num_blocks(p) < MANY_BLOCKS) {
        while (take_own(&p->panels_taken, p->num_panels, &first, &last))
            multiply_panels(p, first, last);
        return;
    }
    while (take_some(&p->next, p->num_panels, &first, &last)) multiply_panels(p, first, last);
}

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
        .rows = rows, .weights = weights, .scales = scales, .bias = bias, .added = added,
        .out = out, .num_rows = num_rows, .num_inputs = num_inputs, .num_panels = num_panels,
        .added_stride = added_stride, .out_stride = out_stride, .ending = ending, .lower = room,
        .upper = room + num_rows, .factors = (float *)room + 2 * num_rows,
        .blocks = room + 3 * num_rows,
    };
    num_threads = threads_for(num_rows * num_inputs * num_panels * LANES, ONE_THREAD, num_threads);
    on_threads(num_rows > MOST_ROWS ? num_threads : 1, lay_out_share, &p);
    on_threads(num_threads, multiply_share, &p);
}

#endif
