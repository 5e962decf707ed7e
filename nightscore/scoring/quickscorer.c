/* Sums the leaf values of a compiled forest (forest.py) over blocks of rows, bit for bit as LightGBM does.
 *
 * QuickScorer (Lucchese et al., SIGIR 2015): every inner node that sends a row past its smaller subtree strikes that
 * subtree's leaves from the row's set; the first leaf that is left is where the row ends. As in RapidScorer (Ye et
 * al., KDD 2018) a set is kept in bytes, 8 leaves each, and one instruction strikes a byte of 16, 32 or 64 rows.
 * Values are first coded: the code of a number is how many of its feature's thresholds lie below it, which is exact
 * for doubles, and a node's test then compares bytes. Leaf values are added in the order of trees, in double.
 *
 * Nothing is allocated; all bounds are the caller's arrays, whose sizes kernel.py has checked. Whatever the codes of a
 * row are, its walk ends at a leaf of the tree: a node's test is the same in every byte that it strikes, and the leaf
 * where all these tests lead is never struck.
 *
 * Added here: what all instruction sets share. Not here: those of x86 (quickscorer_x86.h), how a forest is compiled and
 * checked (forest.py), who may be scored so (engine.py).
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86 1
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the compiled forest and the rows' leaves are read as little-endian"
#endif

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 256 /* rows whose codes stay in the first-level cache together */
#define LINE 64   /* the alignment of codes */

/* Codes are kept with the highest bit flipped, so that signed comparisons order them as unsigned ones would. */
#define BIAS 0x80u
/* LightGBM takes what is not above for zero, whatever a tree asks. */
#define ZERO 1e-35f

typedef struct {
    int32_t feature; /* which of the caller's columns */
    int32_t first;   /* of its thresholds, or of its table of classes */
    int32_t count;   /* thresholds with those that fill up: 16 or 256; or entries of the table */
    int32_t above;   /* slot of the codes, or -1; of a category: slot of its class's byte in a set */
    int32_t below;   /* slot of 255 - code, or -1; of a category: slot of the bit in its byte */
    uint8_t is_category;
    uint8_t nan_code;  /* the code of NaN */
    uint8_t zero_code; /* the code of zero */
    uint8_t unused;
} Column;

typedef struct {
    uint32_t slot;
    uint32_t threshold; /* a biased byte, four times over */
    uint32_t strike;    /* leaves of the byte that are struck where the code is above, four times over */
} Number;

typedef struct {
    uint32_t slot; /* byte of the class in the set; its bit is in the next slot */
    uint32_t set;  /* index of 16 bytes: classes for which the leaves are struck */
    uint32_t strike;
} Category;

typedef struct {
    uint32_t numbers_end, categories_end; /* each begins where the one before ends */
} Group;                                  /* the strikes of one byte of a tree's leaves */

typedef struct {
    int32_t first_group, bytes; /* groups in the order of their bytes, the last byte first */
    int64_t first_leaf;
} Tree;

typedef struct {
    const Column *columns;
    const double *thresholds; /* of each column in ascending order */
    const uint8_t *classes;   /* category -> class, 0 for those that no tree knows */
    const Number *numbers;
    const Category *categories;
    const uint8_t *sets;
    const Group *groups;
    const Tree *trees;
    const double *leaves;
    int32_t n_columns, n_slots, n_trees, n_outputs;
} Forest;

_Static_assert(sizeof(Column) == 24 && sizeof(Number) == 12 && sizeof(Category) == 12, "as in forest.py");
_Static_assert(sizeof(Group) == 8 && sizeof(Tree) == 16, "as in forest.py");

/* How many of the ascending thresholds lie below each value. `count` is 16 or 256, infinity stands behind the last. */
typedef void (*Count)(const double *thresholds, int count, const double *values, int rows, uint8_t *codes);
typedef void (*Code)(const Forest *, const double *const *columns, int64_t start, int rows, uint8_t *tile);
typedef void (*Walk)(const Forest *, const Tree *, const uint8_t *tile, double *sums);

INLINE void count_below(const double *thresholds, int count, const double *values, int rows, uint8_t *codes) {
    for (int row = 0; row < rows; row++) {
        double value = values[row];
        uint32_t below = 0;
        if (count == 256) {
            below += (uint32_t)(thresholds[127] < value) << 7;
            below += (uint32_t)(thresholds[below + 63] < value) << 6;
            below += (uint32_t)(thresholds[below + 31] < value) << 5;
            below += (uint32_t)(thresholds[below + 15] < value) << 4;
        }
        below += (uint32_t)(thresholds[below + 7] < value) << 3;
        below += (uint32_t)(thresholds[below + 3] < value) << 2;
        below += (uint32_t)(thresholds[below + 1] < value) << 1;
        below += (uint32_t)(thresholds[below] < value);
        codes[row] = (uint8_t)below;
    }
}

INLINE void code_numbers(
    const Forest *forest, const Column *column, const double *values, int rows, Count count, uint8_t *tile) {
    uint8_t codes[BLOCK];
    count(forest->thresholds + column->first, column->count, values, rows, codes);
    uint8_t nan_code = column->nan_code, zero_code = column->zero_code;
    for (int row = 0; row < rows; row++) {
        uint8_t code = fabs(values[row]) <= ZERO ? zero_code : codes[row];
        codes[row] = values[row] != values[row] ? nan_code : code;
    }
    if (column->above >= 0)
        for (int row = 0; row < rows; row++) tile[column->above * BLOCK + row] = codes[row] ^ BIAS;
    if (column->below >= 0)
        for (int row = 0; row < rows; row++) tile[column->below * BLOCK + row] = (uint8_t)(255 - codes[row]) ^ BIAS;
}

INLINE void code_categories(
    const Forest *forest, const Column *column, const double *values, int rows, uint8_t *tile) {
    const uint8_t *classes = forest->classes + column->first;
    for (int row = 0; row < rows; row++) {
        double value = values[row];
        /* Truncated towards zero, as LightGBM casts it; NaN and what no int holds fail the comparison. */
        int known = value > -1.0 && value < (double)column->count;
        uint8_t found = known ? classes[(int)value] : 0;
        tile[column->above * BLOCK + row] = found >> 3;
        tile[column->below * BLOCK + row] = (uint8_t)(1u << (found & 7));
    }
}

INLINE void code_block(
    const Forest *forest, const double *const *columns, int64_t start, int rows, Count count, uint8_t *tile) {
    for (int at = 0; at < forest->n_columns; at++) {
        const Column *column = forest->columns + at;
        const double *values = columns[column->feature] + start;
        if (column->is_category)
            code_categories(forest, column, values, rows, tile);
        else
            code_numbers(forest, column, values, rows, count, tile);
    }
}

static void code_portable(
    const Forest *forest, const double *const *columns, int64_t start, int rows, uint8_t *tile) {
    code_block(forest, columns, start, rows, count_below, tile);
}

/* The place of a row's leaf is one byte where a tree has no more than 256 leaves: then 8 rows are read at once. */
INLINE void add_leaves(const Forest *forest, const Tree *tree, const uint8_t *byte, const uint8_t *bit, double *sums) {
    const double *leaves = forest->leaves + tree->first_leaf;
    if (tree->bytes > 32) {
        for (int row = 0; row < BLOCK; row++) sums[row] += leaves[8 * byte[row] + bit[row]];
        return;
    }
    for (int row = 0; row < BLOCK; row += 8) {
        uint64_t bytes, bits;
        memcpy(&bytes, byte + row, 8);
        memcpy(&bits, bit + row, 8);
        uint64_t places = bytes << 3 | bits;
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) sums[row + j] += leaves[places >> 8 * j & 255];
    }
}

typedef uint8_t Bytes __attribute__((vector_size(16), aligned(16), may_alias));
typedef int8_t Signed __attribute__((vector_size(16), aligned(16), may_alias));

INLINE Bytes look_up(Bytes set, Bytes places) {
#if defined(__aarch64__)
    return (Bytes)vqtbl1q_u8((uint8x16_t)set, (uint8x16_t)places);
#elif defined(__GNUC__) && !defined(__clang__)
    return __builtin_shuffle(set, places);
#else
    Bytes found;
    for (int lane = 0; lane < 16; lane++) found[lane] = set[places[lane]];
    return found;
#endif
}

INLINE void strike_16(const Forest *forest, const Group *group, const uint8_t *tile, Bytes *left) {
    for (int j = 0; j < 4; j++) left[j] = (Bytes)((Bytes){0} == (Bytes){0});
    for (uint32_t one = group[0].numbers_end; one < group[1].numbers_end; one++) {
        const Number *number = forest->numbers + one;
        const Signed *codes = (const Signed *)(tile + (size_t)number->slot * BLOCK);
        Signed threshold = (Signed){0} + (int8_t)number->threshold;
        Bytes strike = (Bytes){0} + (uint8_t)number->strike;
        for (int j = 0; j < 4; j++) left[j] &= ~((Bytes)(codes[j] > threshold) & strike);
    }
    for (uint32_t one = group[0].categories_end; one < group[1].categories_end; one++) {
        const Category *category = forest->categories + one;
        const Bytes *places = (const Bytes *)(tile + (size_t)category->slot * BLOCK), *bits = places + BLOCK / 16;
        Bytes set, strike = (Bytes){0} + (uint8_t)category->strike;
        memcpy(&set, forest->sets + (size_t)16 * category->set, 16);
        for (int j = 0; j < 4; j++) left[j] &= ~((Bytes)((look_up(set, places[j]) & bits[j]) != 0) & strike);
    }
}

INLINE void walk_16(const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK], bit_of[BLOCK];
    const Group *groups = forest->groups + tree->first_group;
    for (int part = 0; part < BLOCK; part += 64) {
        Bytes left[4], first[4] = {{0}}, byte[4] = {{0}};
        for (int at = 0; at < tree->bytes; at++) {
            strike_16(forest, groups + at, tile + part, left);
            Bytes place = (Bytes){0} + (uint8_t)(tree->bytes - 1 - at);
            for (int j = 0; j < 4; j++) {
                Bytes some = (Bytes)(left[j] != 0);
                byte[j] = (place & some) | (byte[j] & ~some);
                first[j] = (left[j] & some) | (first[j] & ~some);
            }
        }
        for (int j = 0; j < 4; j++) {
            Bytes low = first[j] & -first[j];
            Bytes bit = (Bytes)((low & 0xf0) != 0) & 4;
            bit |= ((Bytes)((low & 0xcc) != 0) & 2) | ((Bytes)((low & 0xaa) != 0) & 1);
            memcpy(bit_of + part + 16 * j, &bit, 16);
            memcpy(byte_of + part + 16 * j, byte + j, 16);
        }
    }
    add_leaves(forest, tree, byte_of, bit_of, sums);
}

static void walk_portable(const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    walk_16(forest, tree, tile, sums);
}

#ifdef HAS_X86
#include "quickscorer_x86.h"
#endif

static const struct {
    Code code;
    Walk walk;
} instruction_sets[] = {
    {code_portable, walk_portable},
#ifdef HAS_X86
    {code_portable, walk_ssse3}, {code_avx2, walk_avx2}, {code_avx512, walk_avx512},
#endif
};

#ifndef SOURCE_SHA256
#define SOURCE_SHA256 ""
#endif

/* The hash of the source that this library was built of. */
const char *nightscore_source(void) { return SOURCE_SHA256; }

/* The best instruction set of this processor: 0 portable, 1 SSSE3, 2 AVX2, 3 AVX-512. */
int32_t nightscore_best_instructions(void) {
#ifdef HAS_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("ssse3")) return 0;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("popcnt")) return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? 3 : 2;
#else
    return 0;
#endif
}

/* Bytes that the codes of a block need; threads have small stacks on some systems, so the caller gives them. */
int64_t nightscore_room(int32_t slots) { return (int64_t)slots * BLOCK + LINE; }

/* Add the leaves of trees [from, to) to `sums`, (rows, outputs) in row order, for rows [start, start + rows). */
int32_t nightscore_add_trees(
    const Forest *forest, const double *const *columns, int64_t start, int64_t rows, int32_t from, int32_t to,
    int32_t instructions, uint8_t *room, double *sums) {
    if (instructions < 0 || instructions > nightscore_best_instructions()) return 1;
    uint8_t *tile = room + (LINE - (uintptr_t)room % LINE) % LINE;
    double block[BLOCK];
    int outputs = forest->n_outputs;
    memset(tile, 0, (size_t)forest->n_slots * BLOCK);
    for (int64_t at = 0; at < rows; at += BLOCK) {
        int height = rows - at < BLOCK ? (int)(rows - at) : BLOCK;
        instruction_sets[instructions].code(forest, columns, start + at, height, tile);
        for (int output = 0; output < outputs; output++) {
            double *target = sums + at * outputs + output;
            for (int row = 0; row < BLOCK; row++) block[row] = row < height ? target[(int64_t)row * outputs] : 0.0;
            for (int tree = from + (output - from % outputs + outputs) % outputs; tree < to; tree += outputs)
                instruction_sets[instructions].walk(forest, forest->trees + tree, tile, block);
            for (int row = 0; row < height; row++) target[(int64_t)row * outputs] = block[row];
        }
    }
    return 0;
}

/* What LightGBM's objectives make of a sum, in place: 1 the logistic function of slope * x, 2 exp, 3 softmax. */
int32_t nightscore_transform(int32_t kind, double slope, int64_t rows, int32_t outputs, double *values) {
    int64_t count = rows * outputs;
    if (kind == 1)
        for (int64_t at = 0; at < count; at++) values[at] = 1.0f / (1.0f + exp(-slope * values[at]));
    else if (kind == 2)
        for (int64_t at = 0; at < count; at++) values[at] = exp(values[at]);
    else if (kind == 3)
        for (double *row = values; row < values + count; row += outputs) {
            double largest = row[0], total = 0.0;
            for (int one = 1; one < outputs; one++) largest = row[one] > largest ? row[one] : largest;
            for (int one = 0; one < outputs; one++) total += row[one] = exp(row[one] - largest);
            for (int one = 0; one < outputs; one++) row[one] /= total;
        }
    else if (kind != 0)
        return 1;
    return 0;
}
