/* Holds what came against what answers.h says must come: a whole answer, or a stream line by line. */
#ifndef CHECK_H
#define CHECK_H

#include "answers.h"

/* One answer as far as it was read. `seen` counts chunks of text. */
struct reading {
    struct work work;
    size_t lines;
    unsigned seen;
    int stream, exact, in_event, ended, finished;
};

/* What the caller does with each chunk that was right; `stamp` is when it was sent (us). It adds 1 to `seen`. */
static void text_seen(struct reading *r, uint64_t stamp);

/* The value of `"key"` in JSON text that has no spaces but perhaps one behind the colon. */
static const char *value_of(const char *json, size_t length, const char *key, size_t key_length) {
    const char *at = memmem(json, length, key, key_length);
    if (!at) return NULL;
    at += key_length;
    if (at < json + length && *at == ' ') at++;
    return at < json + length ? at : NULL;
}
#define VALUE_OF(json, length, key) value_of(json, length, key, sizeof key - 1)

/* Takes the texts in a whole answer or one event. Returns 0 if they aren't what is expected. */
static int texts_fit(struct reading *r, const char *json, size_t length) {
    const char *text = VALUE_OF(json, length, "\"content\":"), *end;
    if (!text || *text != '"' || *++text == '"') return 1; /* absent, null or empty */
    end = memchr(text, '"', (size_t)(json + length - text));
    if (!end) return 0;
    for (; text < end; text += r->work.text) {
        size_t rest = (size_t)(end - text); /* a whole answer has the texts of all chunks in a row, an event has one */
        uint64_t stamp = text_check(text, r->stream || rest < r->work.text ? rest : r->work.text, &r->work, r->seen);
        if (!stamp || r->seen >= r->work.chunks) return 0;
        text_seen(r, stamp);
    }
    return 1;
}

static int same(const char *line, size_t length, const char *expected, size_t expected_length) {
    return length == expected_length && memcmp(line, expected, length) == 0;
}
#define SAME(line, length, expected) same(line, length, expected, sizeof expected - 1)

/* Holds a line against the one that the mock sent. */
static int exact_line(struct reading *r, const char *line, size_t length) {
    const size_t before = sizeof BEFORE_TEXT - 1, after = sizeof AFTER_TEXT - 1;
    size_t at = r->lines++;
    if (at % 2) return length == 0;
    at /= 2;
    if (at == 0) return SAME(line, length, ROLE);
    if (at <= r->work.chunks) {
        uint64_t stamp;
        if (length != before + r->work.text + after || memcmp(line, BEFORE_TEXT, before) ||
            memcmp(line + length - after, AFTER_TEXT, after))
            return 0;
        if (!(stamp = text_check(line + before, r->work.text, &r->work, r->seen))) return 0;
        text_seen(r, stamp);
        return 1;
    }
    if (at == r->work.chunks + 1) return r->finished = SAME(line, length, FINISH);
    if (at == r->work.chunks + 3) return r->ended = SAME(line, length, DONE);
    char expected[FRAME_MAX];
    int n = sprintf(expected, USAGE, r->work.chunks, r->work.chunks + 20);
    return at == r->work.chunks + 2 && same(line, length, expected, (size_t)n);
}

static int fair_line(struct reading *r, const char *line, size_t length) {
    if (length == 0) return r->in_event = 0, 1;
    if (*line == ':') return 1;
    if (length < 6 || memcmp(line, "data: ", 6) || r->in_event || r->ended) return 0;
    r->in_event = 1;
    if (SAME(line, length, DONE)) return r->ended = 1;
    if (memmem(line, length, "\"error\"", 7)) return 0;
    const char *reason = VALUE_OF(line, length, "\"finish_reason\":");
    if (!texts_fit(r, line + 6, length - 6)) return 0;
    if (reason && *reason == '"') r->finished++;
    return 1;
}

static int whole_fits(struct reading *r, const char *body, size_t length) {
    if (!r->exact) return texts_fit(r, body, length) && r->seen == r->work.chunks;
    const size_t before = sizeof WHOLE_BEFORE - 1;
    char after[512];
    size_t n = (size_t)sprintf(after, WHOLE_AFTER, r->work.chunks, r->work.chunks + 20);
    if (length != before + n + (size_t)r->work.chunks * r->work.text || memcmp(body, WHOLE_BEFORE, before) ||
        memcmp(body + length - n, after, n))
        return 0;
    for (unsigned i = 0; i < r->work.chunks; i++) {
        uint64_t stamp = text_check(body + before + (size_t)i * r->work.text, r->work.text, &r->work, i);
        if (!stamp) return 0;
        text_seen(r, stamp);
    }
    return 1;
}

static inline int line_fits(struct reading *r, const char *line, size_t length) {
    return r->exact ? exact_line(r, line, length) : fair_line(r, line, length);
}

static inline int stream_is_whole(const struct reading *r) {
    return r->ended && r->finished == 1 && r->seen == r->work.chunks;
}

#endif
