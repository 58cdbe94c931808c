/* Attention of new rows to the keys and values of their sequences, where those lie in the pool.
 *
 * Every query is computed by itself: its scores are sums over a head's numbers in their order, its
 * weights are added up lane by lane and the lanes in their order, its result is a sum over the
 * slots in theirs. What is computed beside it, in how many threads, how its prompt was cut and in
 * which blocks its sequence lies changes none of these, so it changes no bit.
 *
 * A sequence's slot s lies in block table[s / block_size], at s % block_size. A pool's layer is
 * [block][slot][group][head_dim], in fp32 or bfloat16.
 */

#include <stdlib.h>

#include "kernels.h"
#include "repeat.h"
#include "threads.h"
#include "vectors.h"

/* Products of queries and keys for which waking another thread takes longer than it saves. */
#define ONE_THREAD (1 << 15)
/* Queries that one piece of work takes, beyond which scores would leave the second cache. */
#define QUERIES 64
/* Slots whose values are added to the sums of all queries before the next ones are read. */
#define SLOTS 64

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t lanes_up(int64_t count) { return ceil_of(count, LANES) * LANES; }
/* From one query's scores to the next one's: an odd number of vectors, or those of many queries
 * would fall into the same few places of a cache. */
static int64_t score_stride(int64_t slots) { return (ceil_of(slots, LANES) | 1) * LANES; }

/* Lane i of the result is lane i + 1 of an even one, i - 1 of an odd one. */
#define SWAP_2(i) (i) ^ 1, ((i) + 1) ^ 1
#define SWAP_8(i) SWAP_2(i), SWAP_2(i + 2), SWAP_2(i + 4), SWAP_2(i + 6)
#if LANES == 16
#define SWAPPED SWAP_8(0), SWAP_8(8)
#else
#define SWAPPED SWAP_8(0)
#endif

/* Turns one head, and multiplies it with `scale` and what the row has of its own. */
static void turn(const attention *a, int64_t row, const float *from, float scale, float *to)
{
    const int64_t width = a->head_dim, half = width / 2;
    for (int64_t d = 0; d < width; d += LANES) {
        floats x = load(from + d);
        if (a->cosines) {
            floats partner;
            if (a->partners_are_neighbours)
                partner = lanes_of(x, x, SWAPPED);
            else if (half % LANES == 0)
                partner = load(from + (d < half ? d + half : d - half));
            else
                for (int i = 0; i < LANES; i++) partner[i] = from[(d + i + half) % width];
            x = x * load(a->cosines + row * width + d)
                + partner * load(a->sines + row * width + d);
        }
        store(to + d, x * scale);
    }
}

/* Puts the keys and values of a row into its slot. */
static void store_row(const attention *a, int64_t row, float *turned)
{
    const int64_t width = a->head_dim;
    for (int64_t group = 0; group < a->num_groups; group++) {
        const int64_t place = (a->new_slots[row] * a->num_groups + group) * width;
        const float *value = a->value + row * a->value_stride + group * width;
        turn(a, row, a->key + row * a->key_stride + group * width, 1.0f, turned);
        for (int64_t d = 0; d < width; d += LANES) {
            if (a->is_bfloat16) {
                store_bfloat16((uint16_t *)a->keys + place + d, load(turned + d));
                store_bfloat16((uint16_t *)a->values + place + d, load(value + d));
            } else {
                store((float *)a->keys + place + d, load(turned + d));
                store((float *)a->values + place + d, load(value + d));
            }
        }
    }
}

typedef struct {
    const attention *a;
    shares rows_taken;
} storing;

static void store_share(void *data)
{
    storing *s = data;
    const attention *a = s->a;
    int64_t first, last;
    while (take_own(&s->rows_taken, a->num_rows, &first, &last))
        for (int64_t row = first; row < last; row++)
            store_row(a, row, a->room + this_thread() * a->room_per_thread);
}

INLINE floats load_slot(const void *slots, int is_bfloat16, int64_t at)
{
    return is_bfloat16 ? load_bfloat16((const uint16_t *)slots + at)
                       : load((const float *)slots + at);
}

static int64_t place_of(const attention *a, const segment *s, int64_t slot, int64_t group)
{
    const int64_t block = s->table[slot / a->block_size];
    return ((block * a->block_size + slot % a->block_size) * a->num_groups + group) * a->head_dim;
}

/* Keys of LANES slots from `slot` on, `[head_dim][LANES]`; those that do not exist are zeros. */
static void read_keys(
    const attention *a, const segment *s, int64_t group, int64_t slot, int64_t end, float *to)
{
    int64_t places[LANES];
    const int64_t count = least(LANES, end - slot);
    for (int64_t i = 0; i < count; i++) places[i] = place_of(a, s, slot + i, group);
    for (int64_t d = 0; d < a->head_dim; d += LANES) {
        floats m[LANES];
        for (int64_t i = 0; i < LANES; i++)
            m[i] = i < count ? load_slot(a->keys, a->is_bfloat16, places[i] + d) : (floats){0};
        transpose(m);
        for (int64_t i = 0; i < LANES; i++) store(to + (d + i) * LANES, m[i]);
    }
}

/* Scores of N queries `[N][head_dim]` for the keys of LANES slots. */
#define CLEAR(i) sums[i] = (floats){0};
#define ADD_SCORE(n) sums[n] += all(queries[n * width + d]) * key;
#define STORE_SCORE(n) store(scores + n * stride, sums[n]);
#define SCORES(N) \
    static void scores_of_##N( \
        const float *queries, const float *keys, int64_t width, float *scores, int64_t stride) \
    { \
        floats sums[N]; \
        TIMES_##N(CLEAR) \
        for (int64_t d = 0; d < width; d++) { \
            const floats key = load(keys + d * LANES); \
            TIMES_##N(ADD_SCORE) \
        } \
        TIMES_##N(STORE_SCORE) \
    }
SCORES(1) SCORES(2) SCORES(3) SCORES(4) SCORES(5) SCORES(6) SCORES(7) SCORES(8)

/* By the number of queries. */
#define MOST_SCORED 8
static void (*const SCORES_OF[])(const float *, const float *, int64_t, float *, int64_t) = {
    0, scores_of_1, scores_of_2, scores_of_3, scores_of_4, scores_of_5, scores_of_6, scores_of_7,
    scores_of_8,
};

/* Makes weights of the scores of one query, which sees `length` slots; returns 1 / their sum.
 * Behind them, up to `padded`, stand zeros. */
static float weigh(float *scores, int64_t length, int64_t padded)
{
    integers lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    const floats lowest = all(-__builtin_inff());
    floats highest = lowest;
    for (int64_t s = 0; s < length; s += LANES) {
        const integers is_seen = lane < (int32_t)least(length - s, LANES);
        highest = larger(choose(is_seen, load(scores + s), lowest), highest);
    }
    float top = highest[0];
    for (int i = 1; i < LANES; i++) top = highest[i] > top ? highest[i] : top;
    floats sums = {0};
    for (int64_t s = 0; s < length; s += LANES) {
        const integers is_seen = lane < (int32_t)least(length - s, LANES);
        const floats x = load(scores + s) - top;
        /* A score that is not a number must not become a weight like any other. */
        const floats weight = choose(x == x, exponential(x), x);
        const floats seen = choose(is_seen, weight, (floats){0});
        sums += seen;
        store(scores + s, seen);
    }
    for (int64_t s = lanes_up(length); s < padded; s += LANES) store(scores + s, (floats){0});
    return 1.0f / sum_of(sums);
}

/* Values of the slots [first, last), fp32: `[slot][head_dim]`. */
static void read_values(
    const attention *a, const segment *s, int64_t group, int64_t first, int64_t last, float *to)
{
    for (int64_t slot = first; slot < last;) {
        const int64_t end = least(last, (slot / a->block_size + 1) * a->block_size);
        int64_t at = place_of(a, s, slot, group);
        for (; slot < end; slot++, at += a->num_groups * a->head_dim, to += a->head_dim)
            for (int64_t d = 0; d < a->head_dim; d += LANES)
                store(to + d, load_slot(a->values, a->is_bfloat16, at + d));
    }
}

/* Adds values of `count` slots, `[slot][width]`, with the weights of N queries to the sums of each
 * so far, V vectors of them. */
#define LOAD_VALUE(v) value[v] = load(values + slot * width + v * LANES);
#define LOAD_SUM(i) sums[i] = load(to[i / COLUMNS] + d + i % COLUMNS * LANES);
#define ADD_VALUE(i) sums[i] += all(weights[i / COLUMNS * stride + slot]) * value[i % COLUMNS];
#define STORE_SUM(i) store(to[i / COLUMNS] + d + i % COLUMNS * LANES, sums[i]);
#define VALUES(N, V, CELLS) \
    static void values_of_##N##_##V( \
        const float *values, int64_t width, int64_t count, const float *weights, int64_t stride, \
        int has_sums, float *const *to, int64_t d) \
    { \
        enum { COLUMNS = V }; \
        floats sums[CELLS], value[V]; \
        if (has_sums) { TIMES_##CELLS(LOAD_SUM) } else { TIMES_##CELLS(CLEAR) } \
        for (int64_t slot = 0; slot < count; slot++) { \
            TIMES_##V(LOAD_VALUE) \
            TIMES_##CELLS(ADD_VALUE) \
        } \
        TIMES_##CELLS(STORE_SUM) \
    }
VALUES(1, 1, 1) VALUES(2, 1, 2) VALUES(3, 1, 3) VALUES(4, 1, 4)
VALUES(1, 2, 2) VALUES(2, 2, 4) VALUES(3, 2, 6) VALUES(4, 2, 8)
#if LANES == 16
VALUES(1, 4, 4) VALUES(2, 4, 8) VALUES(3, 4, 12) VALUES(4, 4, 16)
#endif

/* By the number of queries, and the exponent of the number of vectors. */
#define MOST_SUMMED 4
static void (*const VALUES_OF[][3])(
    const float *, int64_t, int64_t, const float *, int64_t, int, float *const *, int64_t) = {
#if LANES == 16
    {0},
    {values_of_1_1, values_of_1_2, values_of_1_4},
    {values_of_2_1, values_of_2_2, values_of_2_4},
    {values_of_3_1, values_of_3_2, values_of_3_4},
    {values_of_4_1, values_of_4_2, values_of_4_4},
#else
    {0},
    {values_of_1_1, values_of_1_2},
    {values_of_2_1, values_of_2_2},
    {values_of_3_1, values_of_3_2},
    {values_of_4_1, values_of_4_2},
#endif
};

/* Queries of a piece of work, in the order row, head. */
typedef struct {
    const segment *s;
    int64_t group, first_row, num_rows, first_head, num_heads;
} piece;

static void attend_piece(const attention *a, const piece *p, float *room)
{
    const segment *s = p->s;
    const int64_t width = a->head_dim, count = p->num_rows * p->num_heads;
    const int64_t end = s->num_cached + p->first_row + p->num_rows;
    const int64_t stride = score_stride(end);
    float *queries = room, *keys = queries + QUERIES * width;
    float *values = keys + LANES * width, *scores = values + SLOTS * width;
    float *to[QUERIES], shares[QUERIES];
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = s->first_row + p->first_row + i / p->num_heads;
        const int64_t head = p->first_head + i % p->num_heads;
        const float scale = a->scale * (a->query_scales ? a->query_scales[row] : 1.0f);
        turn(a, row, a->query + row * a->query_stride + head * width, scale, queries + i * width);
        to[i] = a->out + (row * a->num_heads + head) * width;
    }
    for (int64_t slot = 0; slot < end; slot += LANES) {
        read_keys(a, s, p->group, slot, end, keys);
        for (int64_t i = 0, taken; i < count; i += taken) {
            taken = least(count - i, MOST_SCORED);
            SCORES_OF[taken](queries + i * width, keys, width, scores + i * stride + slot, stride);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t length = s->num_cached + p->first_row + i / p->num_heads + 1;
        shares[i] = weigh(scores + i * stride, length, stride);
    }
    for (int64_t slot = 0; slot < end; slot += SLOTS) {
        read_values(a, s, p->group, slot, least(end, slot + SLOTS), values);
        for (int64_t i = 0, taken; i < count; i += taken) {
            taken = least(count - i, MOST_SUMMED);
            const int64_t length =
                s->num_cached + p->first_row + (i + taken - 1) / p->num_heads + 1;
            const int64_t seen = least(SLOTS, length - slot);
            for (int64_t d = 0; d < width && seen > 0;) {
                int exponent = LANES == 16 ? 2 : 1;
                while (d + (LANES << exponent) > width) exponent--;
                VALUES_OF[taken][exponent](
                    values + d, width, seen, scores + i * stride + slot, stride, slot > 0, to + i, d);
                d += LANES << exponent;
            }
        }
    }
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < width; d += LANES) store(to[i] + d, load(to[i] + d) * shares[i]);
}

/* Finds piece number `number` of the work; 0 if there are not so many. */
static int find_piece(const attention *a, int64_t number, piece *p)
{
    const int64_t per_group = a->num_heads / a->num_groups;
    const int64_t cuts = ceil_of(per_group, a->heads_at_once);
    for (int64_t i = 0; i < a->num_segments; i++) {
        const segment *s = a->segments + i;
        const int64_t chunks = ceil_of(s->num_new, a->rows_at_once);
        const int64_t pieces = chunks * a->num_groups * cuts;
        if (number >= pieces) {
            number -= pieces;
            continue;
        }
        p->s = s;
        /* The last rows first: they have the most to read. */
        p->first_row = (chunks - 1 - number / (a->num_groups * cuts)) * a->rows_at_once;
        p->num_rows = least(a->rows_at_once, s->num_new - p->first_row);
        p->group = number / cuts % a->num_groups;
        p->first_head = p->group * per_group + number % cuts * a->heads_at_once;
        p->num_heads = least(a->heads_at_once, (p->group + 1) * per_group - p->first_head);
        return 1;
    }
    return 0;
}

static void attend_share(void *data)
{
    attention *a = data;
    float *room = a->room + this_thread() * a->room_per_thread;
    piece p;
    while (find_piece(a, __atomic_fetch_add(&a->next, 1, __ATOMIC_RELAXED), &p))
        attend_piece(a, &p, room);
}

int64_t head_multiple(void) { return LANES; }

/* How many floats each thread needs room for, with sequences of up to so many slots. */
int64_t attention_room(int64_t head_dim, int64_t most_slots)
{
    return (QUERIES + LANES + SLOTS) * head_dim + QUERIES * score_stride(most_slots);
}

/* Stores the rows' keys and values, then lets every row attend to its sequence up to itself. */
void attend(attention *a, int num_threads)
{
    if (!a->num_segments) return;
    int64_t num_pairs = 0;
    for (const segment *s = a->segments; s < a->segments + a->num_segments; s++)
        num_pairs += s->num_new * (s->num_cached + s->num_new);
    num_threads = threads_for(num_pairs * a->head_dim, ONE_THREAD, num_threads);
    const int64_t per_group = a->num_heads / a->num_groups;
    a->next = 0;
    a->heads_at_once = least(per_group, QUERIES);
    /* Few sequences leave threads without work unless heads are told apart. */
    const int64_t wanted = ceil_of(num_threads, a->num_segments * a->num_groups);
    if (a->num_rows == a->num_segments && wanted > 1)
        a->heads_at_once = least(ceil_of(per_group, wanted), QUERIES);
    a->rows_at_once = QUERIES / a->heads_at_once;
    storing s = {a, {{0}}};
    on_threads(a->num_rows > 16 ? num_threads : 1, store_share, &s);
    on_threads(num_threads, attend_share, a);
}
