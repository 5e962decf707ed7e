/* Sums the leaf values of a compiled forest (forest.py) over blocks of rows, bit for bit as LightGBM does.
 *
 * QuickScorer (Lucchese et al., SIGIR 2015): every inner node that sends a row past its smaller subtree strikes that
 * subtree's leaves from the row's set; the first leaf that is left is where the row ends. As in RapidScorer (Ye et
 * al., KDD 2018) a set is kept in bytes, 8 leaves each, and one instruction strikes a byte of 16, 32 or 64 rows.
 * Values are first coded: the code of a number is how many of its feature's thresholds lie below it, which is exact
 * for doubles, and a node's test then compares bytes. Leaf values are added in the order of trees, in double.
 *
 * Added here: another instruction set. Not here: how a forest is compiled and checked (forest.py), or who may be
 * scored so (engine.py). Nothing is allocated; all bounds are the caller's arrays, whose sizes it has checked.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86 1
#endif

#define BLOCK 256 /* rows whose codes stay in the first-level cache together */
#define MAX_SLOTS 4096

/* Codes are kept with the highest bit flipped, so that signed comparisons order them as unsigned ones would. */
#define BIAS 0x80u

typedef struct {
    int32_t feature;    /* which of the caller's columns */
    int32_t first;      /* of its thresholds, or of its table of classes */
    int32_t count;      /* thresholds with those that fill up: 32 or 256; or entries of the table */
    int32_t above;      /* slot of the codes, or -1 */
    int32_t below;      /* slot of 255 - code, or -1; of a category: slot of the bit in its byte */
    uint8_t is_category;
    uint8_t nan_code;   /* the code of NaN */
    uint8_t zero_is_missing;
    uint8_t zero_code;  /* the code of |x| <= 1e-35 where zero is missing */
} Column;

typedef struct {
    uint32_t slot;
    uint32_t threshold; /* a biased byte, four times over */
    uint32_t strike;    /* leaves of the byte that are struck where the code is above, four times over */
} Number;

typedef struct {
    uint32_t slot;      /* byte of the class in the set; its bit is in the next slot */
    uint32_t set;       /* index of 16 bytes: classes for which the leaves are struck */
    uint32_t strike;
} Category;

typedef struct {
    uint32_t numbers_end, categories_end; /* each begins where the one before ends */
} Group; /* the strikes of one byte of a tree's leaves */

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

/* How many of the ascending thresholds lie below each value. `padded` is 32 or 256, infinity stands behind the last. */
static void count_below(const double *thresholds, int padded, const double *values, int rows, uint8_t *codes) {
    for (int row = 0; row < rows; row++) {
        double value = values[row];
        uint32_t below = 0;
        if (padded == 256) {
            below += (uint32_t)(thresholds[below + 127] < value) << 7;
            below += (uint32_t)(thresholds[below + 63] < value) << 6;
            below += (uint32_t)(thresholds[below + 31] < value) << 5;
        }
        below += (uint32_t)(thresholds[below + 15] < value) << 4;
        below += (uint32_t)(thresholds[below + 7] < value) << 3;
        below += (uint32_t)(thresholds[below + 3] < value) << 2;
        below += (uint32_t)(thresholds[below + 1] < value) << 1;
        below += (uint32_t)(thresholds[below] < value);
        codes[row] = (uint8_t)below;
    }
}

#ifdef HAS_X86

__attribute__((target("avx512f,avx512bw,avx512dq,popcnt"))) static inline uint32_t below_32(
    const double *thresholds, __m512d value) {
    uint32_t low = _mm512_cmp_pd_mask(_mm512_loadu_pd(thresholds), value, _CMP_LT_OQ);
    uint32_t second = _mm512_cmp_pd_mask(_mm512_loadu_pd(thresholds + 8), value, _CMP_LT_OQ);
    uint32_t third = _mm512_cmp_pd_mask(_mm512_loadu_pd(thresholds + 16), value, _CMP_LT_OQ);
    uint32_t high = _mm512_cmp_pd_mask(_mm512_loadu_pd(thresholds + 24), value, _CMP_LT_OQ);
    return (uint32_t)__builtin_popcount(low | second << 8 | third << 16 | high << 24);
}

__attribute__((target("avx512f,avx512bw,avx512dq,popcnt"))) static void count_below_avx512(
    const double *thresholds, int padded, const double *values, int rows, uint8_t *codes) {
    __m512i every_32nd = _mm512_setr_epi64(31, 63, 95, 127, 159, 191, 223, 255);
    __m512d pivots = padded == 256 ? _mm512_i64gather_pd(every_32nd, thresholds, 8) : _mm512_set1_pd(INFINITY);
    for (int row = 0; row < rows; row++) {
        __m512d value = _mm512_set1_pd(values[row]);
        uint32_t before = 32 * (uint32_t)__builtin_popcount(_mm512_cmp_pd_mask(pivots, value, _CMP_LT_OQ));
        codes[row] = (uint8_t)(before + below_32(thresholds + before, value));
    }
}

#endif

typedef void (*Count)(const double *, int, const double *, int, uint8_t *);

static void code_numbers(
    const Forest *forest, const Column *column, const double *values, int rows, Count count, uint8_t *tile) {
    uint8_t codes[BLOCK];
    count(forest->thresholds + column->first, column->count, values, rows, codes);
    for (int row = 0; row < rows; row++) codes[row] = values[row] != values[row] ? column->nan_code : codes[row];
    if (column->zero_is_missing)
        for (int row = 0; row < rows; row++)
            codes[row] = fabs(values[row]) <= 1e-35f ? column->zero_code : codes[row];
    if (column->above >= 0)
        for (int row = 0; row < rows; row++) tile[column->above * BLOCK + row] = codes[row] ^ BIAS;
    if (column->below >= 0)
        for (int row = 0; row < rows; row++) tile[column->below * BLOCK + row] = (uint8_t)(255 - codes[row]) ^ BIAS;
}

static void code_categories(const Forest *forest, const Column *column, const double *values, int rows, uint8_t *tile) {
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

static void code_block(
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

static void add_leaves(const Forest *forest, const Tree *tree, const uint8_t *byte, const uint8_t *bit, double *sums) {
    const double *leaves = forest->leaves + tree->first_leaf;
    for (int row = 0; row < BLOCK; row++) sums[row] += leaves[8 * byte[row] + bit[row]];
}

typedef uint8_t Bytes __attribute__((vector_size(16), aligned(16)));
typedef int8_t Signed __attribute__((vector_size(16), aligned(16)));

static inline __attribute__((always_inline)) Bytes look_up(Bytes set, Bytes places) {
#if defined(__GNUC__) && !defined(__clang__)
    return __builtin_shuffle(set, places);
#else
    Bytes found;
    for (int lane = 0; lane < 16; lane++) found[lane] = set[places[lane]];
    return found;
#endif
}

static inline __attribute__((always_inline)) void walk_16(
    const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK] __attribute__((aligned(16))), bit_of[BLOCK] __attribute__((aligned(16)));
    const Group *groups = forest->groups + tree->first_group;
    for (int part = 0; part < BLOCK; part += 64) {
        Bytes first[4] = {{0}}, byte[4] = {{0}};
        for (int at = 0; at < tree->bytes; at++) {
            Bytes left[4];
            for (int j = 0; j < 4; j++) left[j] = (Bytes){0} == (Bytes){0};
            for (uint32_t one = groups[at].numbers_end; one < groups[at + 1].numbers_end; one++) {
                const Number *number = forest->numbers + one;
                const Signed *codes = (const Signed *)(tile + (size_t)number->slot * BLOCK + part);
                Signed threshold = (Signed){0} + (int8_t)number->threshold;
                Bytes strike = (Bytes){0} + (uint8_t)number->strike;
                for (int j = 0; j < 4; j++) left[j] &= ~((Bytes)(codes[j] > threshold) & strike);
            }
            for (uint32_t one = groups[at].categories_end; one < groups[at + 1].categories_end; one++) {
                const Category *category = forest->categories + one;
                const Bytes *places = (const Bytes *)(tile + (size_t)category->slot * BLOCK + part);
                const Bytes *bits = places + BLOCK / 16;
                Bytes set, strike = (Bytes){0} + (uint8_t)category->strike;
                memcpy(&set, forest->sets + (size_t)16 * category->set, 16);
                for (int j = 0; j < 4; j++)
                    left[j] &= ~((Bytes)((look_up(set, places[j]) & bits[j]) != 0) & strike);
            }
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

/* The place of the lowest bit of a byte: that of the lower half's lowest, or else of the upper half's. */
#define LOWER_BIT 8, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0
#define UPPER_BIT 8, 4, 5, 4, 6, 4, 5, 4, 7, 4, 5, 4, 6, 4, 5, 4

__attribute__((target("ssse3"))) static void walk_ssse3(
    const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    walk_16(forest, tree, tile, sums);
}

__attribute__((target("avx2"))) static void walk_avx2(
    const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK] __attribute__((aligned(64))), bit_of[BLOCK] __attribute__((aligned(64)));
    const Group *groups = forest->groups + tree->first_group;
    const __m256i lower = _mm256_setr_epi8(LOWER_BIT, LOWER_BIT), upper = _mm256_setr_epi8(UPPER_BIT, UPPER_BIT);
    const __m256i half = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
    for (int part = 0; part < BLOCK; part += 128) {
        __m256i first[4], byte[4];
        for (int j = 0; j < 4; j++) first[j] = byte[j] = none;
        for (int at = 0; at < tree->bytes; at++) {
            __m256i left[4];
            for (int j = 0; j < 4; j++) left[j] = _mm256_set1_epi8(-1);
            const Number *number = forest->numbers + groups[at].numbers_end;
            const Number *numbers_end = forest->numbers + groups[at + 1].numbers_end;
            for (; number < numbers_end; number++) {
                const __m256i *codes = (const __m256i *)(tile + (size_t)number->slot * BLOCK + part);
                __m256i threshold = _mm256_set1_epi32((int)number->threshold);
                __m256i strike = _mm256_set1_epi32((int)number->strike);
                for (int j = 0; j < 4; j++) {
                    __m256i above = _mm256_cmpgt_epi8(_mm256_load_si256(codes + j), threshold);
                    left[j] = _mm256_andnot_si256(_mm256_and_si256(above, strike), left[j]);
                }
            }
            const Category *category = forest->categories + groups[at].categories_end;
            const Category *categories_end = forest->categories + groups[at + 1].categories_end;
            for (; category < categories_end; category++) {
                const __m256i *places = (const __m256i *)(tile + (size_t)category->slot * BLOCK + part);
                const __m256i *bits = places + BLOCK / 32;
                const __m128i *sets = (const __m128i *)(forest->sets + (size_t)16 * category->set);
                __m256i set = _mm256_broadcastsi128_si256(_mm_loadu_si128(sets));
                __m256i strike = _mm256_set1_epi32((int)category->strike);
                for (int j = 0; j < 4; j++) {
                    __m256i bit = _mm256_load_si256(bits + j);
                    __m256i found = _mm256_and_si256(_mm256_shuffle_epi8(set, _mm256_load_si256(places + j)), bit);
                    __m256i member = _mm256_cmpeq_epi8(found, bit);
                    left[j] = _mm256_andnot_si256(_mm256_and_si256(member, strike), left[j]);
                }
            }
            __m256i place = _mm256_set1_epi8((char)(tree->bytes - 1 - at));
            for (int j = 0; j < 4; j++) {
                __m256i empty = _mm256_cmpeq_epi8(left[j], none);
                byte[j] = _mm256_blendv_epi8(place, byte[j], empty);
                first[j] = _mm256_blendv_epi8(left[j], first[j], empty);
            }
        }
        for (int j = 0; j < 4; j++) {
            __m256i low = _mm256_shuffle_epi8(lower, _mm256_and_si256(first[j], half));
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(first[j], 4), half);
            __m256i bit = _mm256_min_epu8(low, _mm256_shuffle_epi8(upper, high));
            _mm256_store_si256((__m256i *)(bit_of + part) + j, bit);
            _mm256_store_si256((__m256i *)(byte_of + part) + j, byte[j]);
        }
    }
    add_leaves(forest, tree, byte_of, bit_of, sums);
}

__attribute__((target("avx512f,avx512bw"))) static void walk_avx512(
    const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK] __attribute__((aligned(64))), bit_of[BLOCK] __attribute__((aligned(64)));
    const Group *groups = forest->groups + tree->first_group;
    const __m512i lower = _mm512_broadcast_i32x4(_mm_setr_epi8(LOWER_BIT));
    const __m512i upper = _mm512_broadcast_i32x4(_mm_setr_epi8(UPPER_BIT));
    const __m512i half = _mm512_set1_epi8(15);
    __m512i first[4], byte[4];
    for (int j = 0; j < 4; j++) first[j] = byte[j] = _mm512_setzero_si512();
    for (int at = 0; at < tree->bytes; at++) {
        __m512i left[4];
        for (int j = 0; j < 4; j++) left[j] = _mm512_set1_epi8(-1);
        const Number *number = forest->numbers + groups[at].numbers_end;
        const Number *numbers_end = forest->numbers + groups[at + 1].numbers_end;
        for (; number < numbers_end; number++) {
            const uint8_t *codes = tile + (size_t)number->slot * BLOCK;
            __m512i threshold = _mm512_set1_epi32((int)number->threshold);
            __m512i strike = _mm512_set1_epi32((int)number->strike);
            for (int j = 0; j < 4; j++) {
                __mmask64 above = _mm512_cmpgt_epi8_mask(_mm512_load_si512(codes + 64 * j), threshold);
                left[j] = _mm512_andnot_si512(_mm512_maskz_mov_epi8(above, strike), left[j]);
            }
        }
        const Category *category = forest->categories + groups[at].categories_end;
        const Category *categories_end = forest->categories + groups[at + 1].categories_end;
        for (; category < categories_end; category++) {
            const uint8_t *places = tile + (size_t)category->slot * BLOCK, *bits = places + BLOCK;
            const __m128i *sets = (const __m128i *)(forest->sets + (size_t)16 * category->set);
            __m512i set = _mm512_broadcast_i32x4(_mm_loadu_si128(sets));
            __m512i strike = _mm512_set1_epi32((int)category->strike);
            for (int j = 0; j < 4; j++) {
                __m512i found = _mm512_shuffle_epi8(set, _mm512_load_si512(places + 64 * j));
                __mmask64 member = _mm512_test_epi8_mask(found, _mm512_load_si512(bits + 64 * j));
                left[j] = _mm512_andnot_si512(_mm512_maskz_mov_epi8(member, strike), left[j]);
            }
        }
        __m512i place = _mm512_set1_epi8((char)(tree->bytes - 1 - at));
        for (int j = 0; j < 4; j++) {
            __mmask64 some = _mm512_test_epi8_mask(left[j], left[j]);
            byte[j] = _mm512_mask_mov_epi8(byte[j], some, place);
            first[j] = _mm512_mask_mov_epi8(first[j], some, left[j]);
        }
    }
    for (int j = 0; j < 4; j++) {
        __m512i low = _mm512_shuffle_epi8(lower, _mm512_and_si512(first[j], half));
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(first[j], 4), half);
        __m512i bit = _mm512_min_epu8(low, _mm512_shuffle_epi8(upper, high));
        _mm512_store_si512(bit_of + 64 * j, bit);
        _mm512_store_si512(byte_of + 64 * j, byte[j]);
    }
    add_leaves(forest, tree, byte_of, bit_of, sums);
}

#endif

typedef void (*Walk)(const Forest *, const Tree *, const uint8_t *, double *);

#ifndef SOURCE_SHA256
#define SOURCE_SHA256 ""
#endif

/* The hash of the source that this library was built of. */
const char *nightscore_source(void) { return SOURCE_SHA256; }

/* The best instruction set of this processor: 0 portable, 1 SSSE3, 2 AVX2, 3 AVX-512. */
int32_t nightscore_best_instructions(void) {
#ifdef HAS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("popcnt"))
        return 3;
    if (__builtin_cpu_supports("avx2")) return 2;
    if (__builtin_cpu_supports("ssse3")) return 1;
#endif
    return 0;
}

static Walk walk_by(int32_t instructions) {
#ifdef HAS_X86
    if (instructions == 3) return walk_avx512;
    if (instructions == 2) return walk_avx2;
    if (instructions == 1) return walk_ssse3;
#endif
    return walk_portable;
}

static Count count_by(int32_t instructions) {
#ifdef HAS_X86
    if (instructions == 3) return count_below_avx512;
#endif
    return count_below;
}

/* Add the leaves of trees [from, to) to `sums`, (rows, outputs) in row order, for rows [start, start + rows). */
int32_t nightscore_add_trees(
    const Forest *forest, const double *const *columns, int64_t start, int64_t rows, int32_t from, int32_t to,
    int32_t instructions, double *sums) {
    uint8_t tile[MAX_SLOTS * BLOCK] __attribute__((aligned(64)));
    double block[BLOCK];
    if (forest->n_slots > MAX_SLOTS || instructions > nightscore_best_instructions()) return 1;
    Walk walk = walk_by(instructions);
    int outputs = forest->n_outputs;
    memset(tile, 0, (size_t)forest->n_slots * BLOCK);
    for (int64_t at = 0; at < rows; at += BLOCK) {
        int height = rows - at < BLOCK ? (int)(rows - at) : BLOCK;
        code_block(forest, columns, start + at, height, count_by(instructions), tile);
        for (int output = 0; output < outputs; output++) {
            double *target = sums + at * outputs + output;
            for (int row = 0; row < BLOCK; row++) block[row] = row < height ? target[(int64_t)row * outputs] : 0.0;
            for (int tree = from; tree < to; tree++)
                if (tree % outputs == output) walk(forest, forest->trees + tree, tile, block);
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
