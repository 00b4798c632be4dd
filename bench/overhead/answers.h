/* The answers that the mock gives and the load generator expects, byte for byte.
 *
 * A request names its own work anywhere in its body, as `bench:CHUNKS,INTERVAL,FIRST,TEXT,NONCE;`: content chunks,
 * milliseconds between two of them, milliseconds before the first, characters of text in each, and a number that is the
 * request's own. It travels in the user's message, which every gateway hands on. A chunk's text is
 *
 *     nonce (6 hex) ' ' sequence (5 digits) ' ' microseconds when it was sent (16 hex) ' ' filler
 *
 * so that a chunk that is lost, doubled, out of order or another stream's is seen, and its transit time is known. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_MIN = 32, TEXT_MAX = 2048, STAMP_AT = 13, STAMP_LENGTH = 16, FILLER_AT = 30, FRAME_MAX = TEXT_MAX + 512 };

struct work {
    unsigned chunks, interval, first, text, nonce;
};

#define HEAD                                                                                             \
    "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"bench\",\"choices\":["
#define CHOICE "data: " HEAD "{\"index\":0,\"delta\":"
#define OPEN ",\"logprobs\":null,\"finish_reason\":null}]}"
#define BEFORE_TEXT CHOICE "{\"content\":\""
#define AFTER_TEXT "\"}" OPEN
#define ROLE CHOICE "{\"role\":\"assistant\",\"content\":\"\"}" OPEN
#define FINISH CHOICE "{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}"
#define USAGE "data: " HEAD "],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%u,\"total_tokens\":%u}}"
#define DONE "data: [DONE]"
#define WHOLE_BEFORE                                                                                      \
    "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,"     \
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""
#define WHOLE_AFTER                                                                                       \
    "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%u,"       \
    "\"total_tokens\":%u}}"

static inline uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* One answer's filler is a window into this, so that it is one memcpy and one memcmp. */
static char FILLER[TEXT_MAX + 64];

static inline void filler_make(void) {
    static const char letters[] = "the quick brown fox jumps over the lazy dog and then sleeps. ";
    for (size_t i = 0; i < sizeof FILLER; i++) FILLER[i] = letters[i % (sizeof letters - 1)];
}

static inline char *hex_write(char *out, uint64_t value, int digits) {
    for (int i = digits - 1; i >= 0; i--, value >>= 4) out[i] = "0123456789abcdef"[value & 15];
    return out + digits;
}

static inline char *decimal_write(char *out, unsigned value, int digits) {
    for (int i = digits - 1; i >= 0; i--, value /= 10) out[i] = (char)('0' + value % 10);
    return out + digits;
}

/* Writes the text of chunk `sequence`; returns its length, which is work->text. */
static inline size_t text_write(char *out, const struct work *work, unsigned sequence, uint64_t stamp) {
    char *p = hex_write(out, work->nonce & 0xffffff, 6);
    *p++ = ' ';
    p = decimal_write(p, sequence, 5);
    *p++ = ' ';
    p = hex_write(p, stamp, STAMP_LENGTH);
    *p++ = ' ';
    memcpy(p, FILLER + (work->nonce + sequence) % 61, work->text - FILLER_AT);
    return work->text;
}

/* Compares text with what chunk `sequence` must say. Returns when it was sent (us), or 0 if it is not that chunk. */
static inline uint64_t text_check(const char *text, size_t length, const struct work *work, unsigned sequence) {
    char expected[TEXT_MAX];
    uint64_t stamp = 0;
    if (length != work->text) return 0;
    for (int i = STAMP_AT; i < STAMP_AT + STAMP_LENGTH; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9') stamp = stamp << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f') stamp = stamp << 4 | (uint64_t)(c - 'a' + 10);
        else return 0;
    }
    text_write(expected, work, sequence, stamp);
    return memcmp(text, expected, length) == 0 ? stamp : 0;
}

/* Reads a request's work. Returns 0 where there is none, or none within the bounds. */
static inline int work_read(const char *body, size_t length, struct work *work) {
    const char *at = memmem(body, length, "bench:", 6);
    if (!at || memchr(at, ';', (size_t)(body + length - at)) == NULL) return 0;
    if (sscanf(at, "bench:%u,%u,%u,%u,%u;", &work->chunks, &work->interval, &work->first, &work->text, &work->nonce) != 5)
        return 0;
    return work->chunks >= 1 && work->chunks <= 99999 && work->text >= TEXT_MIN && work->text <= TEXT_MAX &&
           work->interval <= 60000 && work->first <= 60000;
}

#endif
