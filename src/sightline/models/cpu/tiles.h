/* What both kinds of products share: how rows are cut into blocks, and which tiles there are.
 *
 * Included behind `tile`, the type of a tile's function, and TILE(rows, panels, cells), which
 * defines `tile_<rows>_by_<panels>`. */

#ifndef SIGHTLINE_TILES_H
#define SIGHTLINE_TILES_H

#include "vectors.h"

/* Rows of a block, as many as registers hold the sums of. */
#if LANES == 16
#define MOST_ROWS 12
#else
#define MOST_ROWS 6
#endif
/* Multiplications for which waking another thread takes longer than it saves. */
#define ONE_THREAD (1 << 18)
/* From so many blocks on, threads take panels as they get on. With fewer, weights come in one long
 * stream for each, which matters more. */
#define MANY_BLOCKS 5

/* Asks for weights that are soon needed: ASK(at, num_rows), `at` are those in use. Processors that
 * multiply bfloat16 (AMD's) read one stream best, and far ahead by themselves while they wait for
 * nothing else; on others (Intel's) several streams and asking give more. More rows take longer over
 * each byte, and yet they gain from further ahead. */
#ifdef __AVX512BF16__
#define WIDEST 1
#define ASK(at, num_rows) \
    if ((num_rows) >= 4) __builtin_prefetch((const char *)(at) + 4096, 0, IN_L2)
#else
#define WIDEST 3
#define ASK(at, num_rows) __builtin_prefetch((const char *)(at) + ((num_rows) < 4 ? 1024 : 3072))
#endif
#define IN_L2 2

INLINE int64_t blocks_of(int64_t num_rows) { return (num_rows + MOST_ROWS - 1) / MOST_ROWS; }

/* Blocks of rows are as even as can be: [first_row(b), first_row(b + 1)). */
INLINE int64_t first_row(int64_t num_rows, int64_t block)
{
    return block * num_rows / blocks_of(num_rows);
}

#endif

#ifdef TILE
TILE(1, 1, 1) TILE(1, 2, 2) TILE(1, 4, 4)
TILE(2, 1, 2) TILE(2, 2, 4)
TILE(3, 1, 3) TILE(3, 2, 6)
TILE(4, 1, 4)
TILE(5, 1, 5)
TILE(6, 1, 6)
#if LANES == 16
TILE(1, 8, 8) TILE(2, 4, 8)
TILE(4, 2, 8) TILE(5, 2, 10) TILE(6, 2, 12)
TILE(7, 1, 7) TILE(8, 1, 8) TILE(9, 1, 9) TILE(10, 1, 10) TILE(11, 1, 11) TILE(12, 1, 12)
#endif

/* By rows, and by the exponent of the number of panels: as many sums as registers hold, because a
 * sum waits for the one before it. */
static const tile TILES[MOST_ROWS + 1][4] = {
#if LANES == 16
    {0},
    {tile_1_by_1, tile_1_by_2, tile_1_by_4, tile_1_by_8},
    {tile_2_by_1, tile_2_by_2, tile_2_by_4},
    {tile_3_by_1, tile_3_by_2},
    {tile_4_by_1, tile_4_by_2},
    {tile_5_by_1, tile_5_by_2},
    {tile_6_by_1, tile_6_by_2},
    {tile_7_by_1}, {tile_8_by_1}, {tile_9_by_1}, {tile_10_by_1}, {tile_11_by_1}, {tile_12_by_1},
#else
    {0},
    {tile_1_by_1, tile_1_by_2, tile_1_by_4},
    {tile_2_by_1, tile_2_by_2},
    {tile_3_by_1, tile_3_by_2},
    {tile_4_by_1}, {tile_5_by_1}, {tile_6_by_1},
#endif
};

/* The widest tile for a block of so many rows and so many panels that are left. Where there are
 * several blocks, each panel is read once for all of them. */
INLINE int widest_tile(int64_t height, int64_t panels_left, int64_t num_blocks)
{
    int exponent = num_blocks > 1 ? 0 : WIDEST;
    while (exponent && (!TILES[height][exponent] || (1 << exponent) > panels_left)) exponent--;
    return exponent;
}
#endif
