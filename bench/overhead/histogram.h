/* Counts of microseconds in steps of 1.6 %: 64 to each doubling. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum { GROUPS = 40, STEPS = 64 };

struct histogram {
    uint64_t counts[GROUPS * STEPS], count, max;
};

static void record(struct histogram *h, uint64_t us) {
    int exponent = us < STEPS ? 0 : 63 - __builtin_clzll(us);
    size_t at = us < STEPS ? us : (size_t)(exponent - 5) * STEPS + ((us >> (exponent - 6)) & (STEPS - 1));
    h->counts[at < GROUPS * STEPS ? at : GROUPS * STEPS - 1]++;
    h->count++;
    if (us > h->max) h->max = us;
}

static uint64_t quantile(const struct histogram *h, double q) {
    uint64_t wanted = (uint64_t)((double)h->count * q), passed = 0;
    for (size_t i = 0; i < GROUPS * STEPS; i++) {
        passed += h->counts[i];
        if (passed > wanted) return i < STEPS ? i : (uint64_t)(STEPS + i % STEPS) << (i / STEPS - 1);
    }
    return h->max;
}

static void print_histogram(const char *name, const struct histogram *h) {
    printf(",\"%s\":{\"count\":%lu,\"p50\":%lu,\"p90\":%lu,\"p99\":%lu,\"max\":%lu}", name, h->count, quantile(h, 0.5),
           quantile(h, 0.9), quantile(h, 0.99), h->max);
}

#endif
