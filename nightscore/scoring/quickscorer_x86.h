/* The walk and the coding of quickscorer.c by the vectors of x86: 64 rows at once by SSSE3, 128 by AVX2, 256 by AVX-512.
 *
 * Every function is compiled for its own instructions, whatever the compiler's flags are, and only called where the
 * processor has them. Added here: another instruction set of x86. Not here: anything that decides a result alone.
 */

#define SSSE3 __attribute__((target("ssse3")))
#define AVX2 __attribute__((target("avx2,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,popcnt")))

/* The place of the lowest bit of a byte: that of the lower half's lowest, or else of the upper half's. */
#define LOWER_BIT 8, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0
#define UPPER_BIT 8, 4, 5, 4, 6, 4, 5, 4, 7, 4, 5, 4, 6, 4, 5, 4

SSSE3 static void walk_ssse3(const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    walk_16(forest, tree, tile, sums);
}

AVX2 INLINE uint32_t count_16_avx2(const __m256d *thresholds, __m256d value) {
    __m256i below[4];
    for (int j = 0; j < 4; j++) below[j] = _mm256_castpd_si256(_mm256_cmp_pd(thresholds[j], value, _CMP_LT_OQ));
    __m256i low = _mm256_packs_epi32(below[0], below[1]), high = _mm256_packs_epi32(below[2], below[3]);
    return (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(low, high))) / 2;
}

AVX2 INLINE void count_below_avx2(
    const double *thresholds, int count, const double *values, int rows, uint8_t *codes) {
    __m256d pivots[4], own[4];
    for (int j = 0; j < 4; j++) {
        const double *from = thresholds + (count == 256 ? 64 * j : 0);
        int step = count == 256 ? 16 : 0;
        pivots[j] = _mm256_setr_pd(from[15], from[15 + step], from[15 + 2 * step], from[15 + 3 * step]);
    }
    for (int row = 0; row < rows; row++) {
        __m256d value = _mm256_set1_pd(values[row]);
        uint32_t before = count == 256 ? 16 * count_16_avx2(pivots, value) : 0;
        for (int j = 0; j < 4; j++) own[j] = _mm256_loadu_pd(thresholds + before + 4 * j);
        codes[row] = (uint8_t)(before + count_16_avx2(own, value));
    }
}

AVX2 static void code_avx2(const Forest *forest, const double *const *columns, int64_t start, int rows, uint8_t *tile) {
    code_block(forest, columns, start, rows, count_below_avx2, tile);
}

AVX2 INLINE void strike_avx2(const Forest *forest, const Group *group, const uint8_t *tile, __m256i *left) {
    for (int j = 0; j < 4; j++) left[j] = _mm256_set1_epi8(-1);
    const Number *number = forest->numbers + group[0].numbers_end, *end = forest->numbers + group[1].numbers_end;
    for (; number < end; number++) {
        const __m256i *codes = (const __m256i *)(tile + (size_t)number->slot * BLOCK);
        __m256i threshold = _mm256_set1_epi32((int)number->threshold);
        __m256i strike = _mm256_set1_epi32((int)number->strike);
        for (int j = 0; j < 4; j++) {
            __m256i above = _mm256_cmpgt_epi8(_mm256_load_si256(codes + j), threshold);
            left[j] = _mm256_andnot_si256(_mm256_and_si256(above, strike), left[j]);
        }
    }
    const Category *category = forest->categories + group[0].categories_end;
    for (; category < forest->categories + group[1].categories_end; category++) {
        const __m256i *places = (const __m256i *)(tile + (size_t)category->slot * BLOCK), *bits = places + BLOCK / 32;
        const __m128i *sets = (const __m128i *)(forest->sets + (size_t)16 * category->set);
        __m256i set = _mm256_broadcastsi128_si256(_mm_loadu_si128(sets));
        __m256i strike = _mm256_set1_epi32((int)category->strike);
        for (int j = 0; j < 4; j++) {
            __m256i bit = _mm256_load_si256(bits + j);
            __m256i found = _mm256_and_si256(_mm256_shuffle_epi8(set, _mm256_load_si256(places + j)), bit);
            left[j] = _mm256_andnot_si256(_mm256_and_si256(_mm256_cmpeq_epi8(found, bit), strike), left[j]);
        }
    }
}

AVX2 static void walk_avx2(const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK], bit_of[BLOCK];
    const Group *groups = forest->groups + tree->first_group;
    const __m256i lower = _mm256_setr_epi8(LOWER_BIT, LOWER_BIT), upper = _mm256_setr_epi8(UPPER_BIT, UPPER_BIT);
    const __m256i half = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
    for (int part = 0; part < BLOCK; part += 128) {
        __m256i left[4], first[4], byte[4];
        for (int j = 0; j < 4; j++) first[j] = byte[j] = none;
        for (int at = 0; at < tree->bytes; at++) {
            strike_avx2(forest, groups + at, tile + part, left);
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
            _mm256_storeu_si256((__m256i *)(bit_of + part) + j, bit);
            _mm256_storeu_si256((__m256i *)(byte_of + part) + j, byte[j]);
        }
    }
    add_leaves(forest, tree, byte_of, bit_of, sums);
}

AVX512 INLINE uint32_t count_16_avx512(__m512d low, __m512d high, __m512d value) {
    uint32_t below = _mm512_cmp_pd_mask(low, value, _CMP_LT_OQ);
    return (uint32_t)__builtin_popcount(below | (uint32_t)_mm512_cmp_pd_mask(high, value, _CMP_LT_OQ) << 8);
}

AVX512 INLINE void count_below_avx512(
    const double *thresholds, int count, const double *values, int rows, uint8_t *codes) {
    __m512i every_16th = _mm512_setr_epi64(15, 31, 47, 63, 79, 95, 111, 127);
    __m512d low = _mm512_set1_pd(INFINITY), high = low;
    if (count == 256) {
        low = _mm512_i64gather_pd(every_16th, thresholds, 8);
        high = _mm512_i64gather_pd(every_16th, thresholds + 128, 8);
    }
    for (int row = 0; row < rows; row++) {
        __m512d value = _mm512_set1_pd(values[row]);
        uint32_t before = 16 * count_16_avx512(low, high, value);
        const double *own = thresholds + before;
        codes[row] = (uint8_t)(before + count_16_avx512(_mm512_loadu_pd(own), _mm512_loadu_pd(own + 8), value));
    }
}

AVX512 static void code_avx512(
    const Forest *forest, const double *const *columns, int64_t start, int rows, uint8_t *tile) {
    code_block(forest, columns, start, rows, count_below_avx512, tile);
}

AVX512 INLINE void strike_avx512(const Forest *forest, const Group *group, const uint8_t *tile, __m512i *left) {
    for (int j = 0; j < 4; j++) left[j] = _mm512_set1_epi8(-1);
    const Number *number = forest->numbers + group[0].numbers_end, *end = forest->numbers + group[1].numbers_end;
    for (; number < end; number++) {
        const uint8_t *codes = tile + (size_t)number->slot * BLOCK;
        __m512i threshold = _mm512_set1_epi32((int)number->threshold);
        __m512i strike = _mm512_set1_epi32((int)number->strike);
        for (int j = 0; j < 4; j++) {
            __mmask64 above = _mm512_cmpgt_epi8_mask(_mm512_load_si512(codes + 64 * j), threshold);
            left[j] = _mm512_andnot_si512(_mm512_maskz_mov_epi8(above, strike), left[j]);
        }
    }
    const Category *category = forest->categories + group[0].categories_end;
    for (; category < forest->categories + group[1].categories_end; category++) {
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
}

AVX512 static void walk_avx512(const Forest *forest, const Tree *tree, const uint8_t *tile, double *sums) {
    uint8_t byte_of[BLOCK], bit_of[BLOCK];
    const __m512i lower = _mm512_broadcast_i32x4(_mm_setr_epi8(LOWER_BIT));
    const __m512i upper = _mm512_broadcast_i32x4(_mm_setr_epi8(UPPER_BIT));
    const __m512i half = _mm512_set1_epi8(15);
    __m512i left[4], first[4], byte[4];
    for (int j = 0; j < 4; j++) first[j] = byte[j] = _mm512_setzero_si512();
    for (int at = 0; at < tree->bytes; at++) {
        strike_avx512(forest, forest->groups + tree->first_group + at, tile, left);
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
        _mm512_storeu_si512(bit_of + 64 * j, _mm512_min_epu8(low, _mm512_shuffle_epi8(upper, high)));
        _mm512_storeu_si512(byte_of + 64 * j, byte[j]);
    }
    add_leaves(forest, tree, byte_of, bit_of, sums);
}
