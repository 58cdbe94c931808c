/* Attention among all rows of a picture, on processors that multiply bfloat16.
 *
 * Queries, keys, values and weights are rounded to bfloat16 and all sums are fp32, as in torch's
 * attention for bfloat16 rows. GROUP queries are taken at once and each has a lane: their scores
 * become weights where they stand, without sums across lanes and without being turned around. Of
 * very many keys some are taken at a time, and what earlier ones gave is scaled down when a later
 * score is higher. Every query is computed by itself, so its bits are the same in any company.
 */

#ifdef __AVX512BF16__

#include "kernels.h"
#include "repeat.h"
#include "rounded.h"
#include "threads.h"
#include "vectors.h"

#define GROUP (2 * LANES)
/* Rows of a tile, of which all sums stand in registers: keys, or numbers of the values' width. */
#define MOST_OF_TILE 12
/* From one key to the next, in pairs: the widest heads, and not a power of two, or keys would push
 * each other out of the first cache. */
#define MOST_WIDTH 256
#define KEY_APART (MOST_WIDTH / 2 + LANES)
/* Keys whose scores are held at once: whole tiles and pairs that stay within the second cache. */
#define KEYS_AT_ONCE 1536
#define LOG2_E 1.44269504f
/* So many pieces of work for each thread, or the last ones to finish would be waited for. */
#define PIECES 4

typedef struct {
    /* [num_items][num_rows][num_heads][head_dim] each, `*_strides` apart: items, rows, heads. */
    const float *query, *key, *value;
    int64_t query_strides[3], key_strides[3], value_strides[3];
    float *out; /* [num_items][num_rows][num_heads * head_dim] */
    float *room;
    int64_t num_items, num_rows, num_heads, head_dim; /* head_dim is even, at most MOST_WIDTH */
    float scale;
    int64_t room_per_thread, num_parts, next;
} picture;

/* What a thread works on. A pair is two numbers rounded to bfloat16. */
typedef struct {
    int32_t *keys;    /* [key][KEY_APART]: the pairs of a key; zeros behind the last key */
    int32_t *values;  /* [pair of keys][values_apart]: numbers of two keys */
    int32_t *queries; /* [pair of numbers][GROUP] */
    float *scores;    /* [key][GROUP] */
    int32_t *weights; /* [pair of keys][GROUP] */
    float *results;   /* [number][GROUP] */
    int64_t values_apart;
} desk;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t up_to(int64_t count, int64_t part) { return ceil_of(count, part) * part; }

/* Lays a desk out in `room`, or nowhere; returns how many numbers of four bytes it takes. */
static int64_t furnish(desk *d, float *room, int64_t num_rows, int64_t head_dim)
{
    const int64_t keys = up_to(num_rows, MOST_OF_TILE), width = up_to(head_dim, LANES);
    const int64_t at_once = least(keys, KEYS_AT_ONCE);
    int64_t size = 0;
    *d = (desk){.values_apart = width};
#define PLACE(what, count) d->what = (void *)(room + size), size += up_to(count, LANES)
    PLACE(keys, keys * KEY_APART);
    PLACE(values, ceil_of(num_rows, 2) * width);
    PLACE(queries, width * GROUP);
    PLACE(scores, at_once * GROUP);
    PLACE(weights, ceil_of(at_once, 2) * GROUP);
    PLACE(results, width * GROUP);
#undef PLACE
    return size;
}

static void lay_out_keys(const picture *p, const float *key, int32_t *keys)
{
    for (int64_t row = 0; row < up_to(p->num_rows, MOST_OF_TILE); row++) {
        const float *from = key + row * p->key_strides[1];
        for (int64_t n = 0; n < p->head_dim; n += GROUP) {
            const int64_t left = row < p->num_rows ? p->head_dim - n : 0;
            const floats lower = load_some(from + n, left);
            const floats upper = load_some(from + n + LANES, left - LANES);
            store((float *)keys + row * KEY_APART + n / 2, (floats)side_by_side(lower, upper));
        }
    }
}

static void lay_out_values(const picture *p, const float *value, const desk *d)
{
    for (int64_t row = 0; row < p->num_rows; row += 2) {
        const float *from = value + row * p->value_strides[1];
        for (int64_t n = 0; n < p->head_dim; n += LANES) {
            const int64_t left = p->head_dim - n;
            const floats earlier = load_some(from + n, left);
            const floats later =
                load_some(from + p->value_strides[1] + n, row + 1 < p->num_rows ? left : 0);
            float *to = (float *)d->values + row / 2 * d->values_apart + n;
            store(to, (floats)in_pairs(earlier, later));
        }
    }
}

/* `count` queries, with zeros behind them. */
static void lay_out_queries(const picture *p, const float *query, int64_t count, int32_t *queries)
{
    for (int64_t half = 0; half < GROUP; half += LANES)
        for (int64_t n = 0; n < p->head_dim; n += GROUP) {
            floats m[LANES];
            for (int64_t i = 0; i < LANES; i++) {
                const int64_t left = half + i < count ? p->head_dim - n : 0;
                const float *from = query + (half + i) * p->query_strides[1] + n;
                const floats lower = load_some(from, left) * p->scale;
                const floats upper = load_some(from + LANES, left - LANES) * p->scale;
                m[i] = (floats)side_by_side(lower, upper);
            }
            transpose(m);
            for (int64_t i = 0; i < LANES; i++)
                store((float *)queries + (n / 2 + i) * GROUP + half, m[i]);
        }
}

/* The second argument where one is not a number. */
INLINE floats largest(floats some, floats others)
{
    return (floats)_mm512_max_ps((__m512)some, (__m512)others);
}

#define CLEAR(r) acc[2 * r] = acc[2 * r + 1] = (floats){0};
#define LOAD(r) \
    acc[2 * r] = load(sums + r * GROUP); \
    acc[2 * r + 1] = load(sums + r * GROUP + LANES);
#define STORE(r) \
    store(sums + r * GROUP, acc[2 * r]); \
    store(sums + r * GROUP + LANES, acc[2 * r + 1]);
#define ADD(r, pair) { \
    const floats x = (floats)_mm512_set1_epi32(pair); \
    acc[2 * r] = add_pairs(acc[2 * r], low, x); \
    acc[2 * r + 1] = add_pairs(acc[2 * r + 1], high, x); }
#define ADD_KEY(r) ADD(r, keys[r * KEY_APART + k])
#define ADD_VALUE(r) ADD(r, values[r])
#define HIGHEST(r) \
    highest[0] = largest(acc[2 * r], highest[0]); \
    highest[1] = largest(acc[2 * r + 1], highest[1]);

/* Scores [12][GROUP] of a tile of keys, and the highest of each query. */
static void score_tile(
    const int32_t *keys, const int32_t *queries, int64_t num_pairs, float *sums, floats *highest)
{
    floats acc[2 * MOST_OF_TILE];
    TIMES_12(CLEAR)
    for (int64_t k = 0; k < num_pairs; k++) {
        const floats low = load((const float *)queries + k * GROUP);
        const floats high = load((const float *)queries + k * GROUP + LANES);
        TIMES_12(ADD_KEY)
    }
    TIMES_12(STORE)
    TIMES_12(HIGHEST)
}

/* Adds to results [rows][GROUP] what pairs of weights make of a tile of the values' numbers. */
#define VALUE_TILE(rows) \
    static void value_tile_##rows( \
        const int32_t *values, int64_t apart, const int32_t *weights, int64_t num_pairs, \
        float *sums, int has_sums) \
    { \
        floats acc[2 * rows]; \
        if (has_sums) { TIMES_##rows(LOAD) } else { TIMES_##rows(CLEAR) } \
        for (int64_t k = 0; k < num_pairs; k++, values += apart) { \
            const floats low = load((const float *)weights + k * GROUP); \
            const floats high = load((const float *)weights + k * GROUP + LANES); \
            TIMES_##rows(ADD_VALUE) \
        } \
        TIMES_##rows(STORE) \
    }
VALUE_TILE(2) VALUE_TILE(4) VALUE_TILE(6) VALUE_TILE(8) VALUE_TILE(10) VALUE_TILE(12)

typedef void (*value_tile)(const int32_t *, int64_t, const int32_t *, int64_t, float *, int);

/* By half of their rows: a head's width is even. */
static const value_tile VALUE_TILES[MOST_OF_TILE / 2 + 1] = {
    NULL, value_tile_2, value_tile_4, value_tile_6, value_tile_8, value_tile_10, value_tile_12,
};

/* 2^x but for 3e-6 of it, in half of the operations of `exponential`: it is rounded to eight bits
 * next. 2^x is 2^n 2^f with n = round(x), and 2^f a polynomial for |f| <= 1/2. What is not a number
 * stays so. */
INLINE floats power_of_two(floats exponent)
{
    const __m512 x = (__m512)largest(all(-200.0f), exponent);
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const floats f = (floats)_mm512_sub_ps(x, n);
    floats y = f * 9.58285e-3f + 5.590643e-2f;
    y = y * f + 2.4024099e-1f;
    y = y * f + 6.9312419e-1f;
    y = y * f + 1.0f;
    return (floats)_mm512_scalef_ps((__m512)y, n);
}

/* Makes weights of the scores of `count` keys, in pairs; adds them to `sums`. */
static void weigh(const desk *d, int64_t count, const floats *tops, floats *sums)
{
    for (int64_t key = 0; key < count; key += 2)
        for (int64_t i = 0; i < 2; i++) {
            const float *scores = d->scores + key * GROUP + i * LANES;
            const floats earlier = power_of_two(load(scores) * LOG2_E - tops[i]);
            floats later = {0};
            if (key + 1 < count) later = power_of_two(load(scores + GROUP) * LOG2_E - tops[i]);
            float *to = (float *)d->weights + key / 2 * GROUP + i * LANES;
            sums[i] += earlier + later;
            store(to, (floats)in_pairs(earlier, later));
        }
}

/* The scores of keys [first, last), and the highest of each query, in powers of two. */
static void score(const picture *p, const desk *d, int64_t first, int64_t last, floats *tops)
{
    const float lowest = -__builtin_inff();
    floats highest[2] = {all(lowest), all(lowest)}, ignored[2] = {{0}, {0}};
    for (int64_t key = first; key < last; key += MOST_OF_TILE) {
        float *scores = d->scores + (key - first) * GROUP;
        const int is_full = last - key >= MOST_OF_TILE;
        score_tile(
            d->keys + key * KEY_APART, d->queries, p->head_dim / 2, scores,
            is_full ? highest : ignored);
        for (int64_t i = 0; !is_full && i < 2 * (last - key); i++)
            highest[i % 2] = largest(load(scores + i * LANES), highest[i % 2]);
    }
    for (int i = 0; i < 2; i++) tops[i] = largest(highest[i] * LOG2_E, tops[i]);
}

/* What `count` queries from `query` on make of all values. */
static void attend_group(
    const picture *p, const desk *d, const float *query, int64_t count, float *out)
{
    const int64_t width = p->head_dim, num_tiles = ceil_of(width / 2, MOST_OF_TILE / 2);
    const float lowest = -__builtin_inff();
    floats tops[2] = {all(lowest), all(lowest)}, sums[2] = {{0}, {0}};
    lay_out_queries(p, query, count, d->queries);
    for (int64_t first = 0; first < p->num_rows; first += KEYS_AT_ONCE) {
        const int64_t last = least(p->num_rows, first + KEYS_AT_ONCE);
        const floats before[2] = {tops[0], tops[1]};
        score(p, d, first, last, tops);
        for (int64_t i = 0; first > 0 && i < 2; i++) {
            const floats factor = power_of_two(before[i] - tops[i]);
            sums[i] *= factor;
            for (int64_t n = 0; n < width; n++) {
                float *result = d->results + n * GROUP + i * LANES;
                store(result, load(result) * factor);
            }
        }
        weigh(d, last - first, tops, sums);
        for (int64_t tile = 0; tile < num_tiles; tile++) {
            const int64_t from = tile * (width / 2) / num_tiles;
            const int64_t to = (tile + 1) * (width / 2) / num_tiles;
            VALUE_TILES[to - from](
                d->values + first / 2 * d->values_apart + 2 * from, d->values_apart, d->weights,
                ceil_of(last - first, 2), d->results + 2 * from * GROUP, first > 0);
        }
    }
    for (int64_t half = 0; half < count; half += LANES)
        for (int64_t n = 0; n < width; n += LANES) {
            floats m[LANES];
            for (int64_t i = 0; i < LANES; i++)
                m[i] = load(d->results + (n + i) * GROUP + half) / sums[half / LANES];
            transpose(m);
            for (int64_t i = 0; i < least(LANES, count - half); i++)
                store_some(out + (half + i) * p->num_heads * width + n, width - n, m[i]);
        }
}

static void attend_share(void *data)
{
    picture *p = data;
    desk d;
    furnish(&d, p->room + this_thread() * p->room_per_thread, p->num_rows, p->head_dim);
    const int64_t num_groups = ceil_of(p->num_rows, GROUP);
    const int64_t num_pieces = p->num_items * p->num_heads * p->num_parts;
    int64_t number, laid_out = -1;
    while ((number = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < num_pieces) {
        const int64_t head_of_all = number / p->num_parts, part = number % p->num_parts;
        const int64_t item = head_of_all / p->num_heads, head = head_of_all % p->num_heads;
#define HEAD_OF(what) p->what + item * p->what##_strides[0] + head * p->what##_strides[2]
        const float *query = HEAD_OF(query);
        if (laid_out != head_of_all) {
            lay_out_keys(p, HEAD_OF(key), d.keys);
            lay_out_values(p, HEAD_OF(value), &d);
            laid_out = head_of_all;
        }
#undef HEAD_OF
        float *out = p->out + (item * p->num_rows * p->num_heads + head) * p->head_dim;
        const int64_t end = (part + 1) * num_groups / p->num_parts;
        for (int64_t group = part * num_groups / p->num_parts; group < end; group++) {
            const int64_t row = group * GROUP;
            attend_group(
                p, &d, query + row * p->query_strides[1], least(GROUP, p->num_rows - row),
                out + row * p->num_heads * p->head_dim);
        }
    }
}

/* The widest heads that `attend_to_all` takes. */
int64_t most_picture_width(void) { return MOST_WIDTH; }

/* How many floats each thread needs room for, whole vectors. */
int64_t picture_room(int64_t num_rows, int64_t head_dim)
{
    desk d;
    return furnish(&d, NULL, num_rows, head_dim);
}

void attend_to_all(picture *p, int num_threads)
{
    const int64_t heads = p->num_items * p->num_heads;
    const int64_t most_parts = ceil_of(p->num_rows, GROUP);
    p->num_parts = num_threads == 1 ? 1 : least(most_parts, ceil_of(PIECES * num_threads, heads));
    p->next = 0;
    on_threads(num_threads, attend_share, p);
}

#endif
