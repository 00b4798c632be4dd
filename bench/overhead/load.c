/* A load generator, much faster than any gateway that it measures: one thread, epoll. It checks every answer against
 * answers.h: with exact=1 each byte of the body, else (for gateways that write their own frames) each text, their number
 * and order, one finish, the end mark and the framing. It talks to loopback alone, for a bounded time.
 *
 * usage: load port=N [name=value ...]; the options are in `struct options`. Prints one JSON object.
 *
 * rate=0 is a closed loop: `connections` of them, started evenly over `ramp` ms, each asking again as soon as it is
 * answered. rate=R is an open loop: R requests a second, each on an idle connection or a new one. No new request after
 * `ramp` + `duration` ms; then those that run may end within `grace` ms. Latencies and steady counts leave out the first
 * `ramp` + `settle` ms. SIGTERM ends it at once, with its report. */
#include "check.h"
#include "histogram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 1024, BUFFER = 8192, READ = 1 << 16, CONNECTIONS = 16384, ERRORS_MAX = 200, HEADERS = 1024 };

static struct options {
    unsigned port, connections, rate, duration, ramp, settle, grace, stream, exact, chunks, interval, first, text, nonce;
    char path[128], headers[HEADERS];
} o = {.connections = 32, .duration = 2000, .grace = 3000, .chunks = 1, .text = 64, .nonce = 1, .path = "/v1/chat/completions"};

enum state { OFF, CONNECTING, IDLE, HEAD_OF, BODY_OF };
enum framing { SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };

struct conn {
    struct reading reading; /* the first, see text_seen */
    int fd, reused, closing;
    enum state state;
    enum framing framing;
    size_t left, used;
    uint64_t started;
    char buffer[BUFFER + 1];
};

static struct conn *conns;
static volatile sig_atomic_t told_to_end;
static int idle[CONNECTIONS], idle_count, poller;
static uint64_t begun, steady_from, stop_at, now;
static uint64_t requests, chunks, errors, steady_requests, steady_chunks, in_flight, reconnects, launched, peak;
static char first_error[512];
static struct histogram first_text, whole, transit, lag;

static void start(struct conn *c);

static void on_term(int number) { told_to_end = number; }

static int steady(uint64_t since) { return since >= steady_from && now <= stop_at; }

static void disconnect(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = OFF;
}

/* The connection has nothing to do: ask again, or wait. */
static void rest(struct conn *c) {
    if (o.rate) {
        if (c->state == IDLE || c->state == OFF) idle[idle_count++] = (int)(c - conns);
    } else if (now < stop_at && errors < ERRORS_MAX) {
        start(c);
    }
}

static void count_error(const char *why, unsigned seen, const char *sample, size_t length) {
    if (errors++) return;
    int n = snprintf(first_error, 200, "%s (after %u chunks): ", why, seen);
    for (size_t i = 0; i < length && n < 480; i++) {
        unsigned char byte = (unsigned char)sample[i];
        first_error[n++] = byte < 32 || byte > 126 ? ' ' : byte == '"' || byte == '\\' ? '\'' : (char)byte;
    }
    first_error[n] = 0;
}

static void fail(struct conn *c, const char *why, const char *sample, size_t length) {
    count_error(why, c->reading.seen, sample, length);
    in_flight--;
    disconnect(c);
    rest(c);
}

static void answered(struct conn *c) {
    if (o.stream && !stream_is_whole(&c->reading)) {
        fail(c, "the stream ended early", "", 0);
        return;
    }
    requests++;
    if (steady(c->started)) record(&whole, now - c->started);
    if (steady(now)) steady_requests++;
    in_flight--;
    c->state = IDLE;
    c->reused = 1;
    if (c->closing) disconnect(c);
    rest(c);
}

static void text_seen(struct reading *r, uint64_t stamp) {
    const struct conn *c = (struct conn *)r;
    if (r->seen == 0 && steady(c->started)) record(&first_text, now - c->started);
    if (steady(now)) {
        record(&transit, now > stamp ? now - stamp : 0);
        steady_chunks += o.stream;
    }
    chunks += o.stream;
    r->seen++;
}

/* Takes some of the body. Returns 0 when the request has failed. */
static int payload(struct conn *c, const char *p, size_t length) {
    const char *newline;
    while (o.stream && (newline = memchr(p, '\n', length))) {
        size_t taken = (size_t)(newline - p);
        const char *line = p;
        size_t line_length = taken;
        if (c->used) {
            if (c->used + taken > BUFFER) return fail(c, "a line is too long", c->buffer, 80), 0;
            memcpy(c->buffer + c->used, p, taken);
            line = c->buffer;
            line_length += c->used;
            c->used = 0;
        }
        if (line_length && line[line_length - 1] == '\r') line_length--;
        if (!line_fits(&c->reading, line, line_length))
            return fail(c, "not the line that was expected", line, line_length), 0;
        p += taken + 1;
        length -= taken + 1;
    }
    if (c->used + length > BUFFER) return fail(c, "the answer is too long", c->buffer, 80), 0;
    memcpy(c->buffer + c->used, p, length);
    c->used += length;
    return 1;
}

static int body_ended(struct conn *c) {
    if (!o.stream && !whole_fits(&c->reading, c->buffer, c->used)) return fail(c, "not the answer that was expected", c->buffer, c->used), 0;
    answered(c);
    return 0;
}

/* Undoes the body's framing. Returns when all is eaten or the answer is over. */
static int body(struct conn *c, const char *p, size_t length) {
    while (length) {
        size_t take = length < c->left ? length : c->left;
        switch (c->framing) {
        case UNTIL_CLOSE: return payload(c, p, length);
        case SIZED:
        case CHUNK_DATA:
            if (!payload(c, p, take)) return 0;
            c->left -= take;
            if (c->left == 0) {
                if (c->framing == SIZED) return body_ended(c);
                c->framing = CHUNK_END;
            }
            break;
        case CHUNK_SIZE:
            take = 1;
            if (*p >= '0' && *p <= '9') c->left = c->left * 16 + (size_t)(*p - '0');
            else if ((*p | 32) >= 'a' && (*p | 32) <= 'f') c->left = c->left * 16 + (size_t)((*p | 32) - 'a' + 10);
            else if (*p == '\n') c->framing = c->left ? CHUNK_DATA : TRAILER;
            else if (*p != '\r') return fail(c, "bad chunk size", p, length < 40 ? length : 40), 0;
            if (c->framing == TRAILER) c->left = 1; /* bytes in this trailer line, and the one that ends it */
            break;
        case CHUNK_END:
            take = 1;
            if (*p == '\n') c->framing = CHUNK_SIZE;
            break;
        case TRAILER:
            take = 1;
            if (*p == '\n') {
                if (c->left == 1) return body_ended(c);
                c->left = 1;
            } else if (*p != '\r') {
                c->left++;
            }
        }
        p += take;
        length -= take;
    }
    return 1;
}

static void head(struct conn *c, const char *p, size_t length) {
    if (c->used + length > BUFFER && c->used + 4096 > BUFFER) {
        fail(c, "the head is too long", c->buffer, 80);
        return;
    }
    size_t had = c->used, taken = length < BUFFER - c->used ? length : BUFFER - c->used;
    memcpy(c->buffer + c->used, p, taken);
    c->used += taken;
    c->buffer[c->used] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n"), *sized, *coded, *close_word;
    if (!end) return;
    end[2] = 0;
    if (memcmp(c->buffer, "HTTP/1.1 200", 12)) {
        end[2] = ' ';
        fail(c, "status", c->buffer, c->used);
        return;
    }
    sized = strcasestr(c->buffer, "\r\ncontent-length:");
    coded = strcasestr(c->buffer, "\r\ntransfer-encoding: chunked");
    close_word = strcasestr(c->buffer, "\r\nconnection: close");
    c->closing = close_word != NULL;
    c->framing = coded ? CHUNK_SIZE : sized ? SIZED : UNTIL_CLOSE;
    c->left = coded || !sized ? 0 : strtoul(sized + 17, NULL, 10);
    c->state = BODY_OF;
    size_t eaten = (size_t)(end + 4 - c->buffer) - had;
    c->used = 0;
    body(c, p + eaten, length - eaten);
}

static void ask(struct conn *c) {
    char request[2048 + HEADERS], words[1024];
    int length = snprintf(words, sizeof words,
                          "{\"model\":\"bench\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant. "
                          "Answer briefly.\"},{\"role\":\"user\",\"content\":\"bench:%u,%u,%u,%u,%u;\"}],\"temperature\":0.8,"
                          "\"max_tokens\":1024,\"stream\":%s}",
                          c->reading.work.chunks, c->reading.work.interval, c->reading.work.first, c->reading.work.text, c->reading.work.nonce,
                          o.stream ? "true,\"stream_options\":{\"include_usage\":true}" : "false");
    int n = snprintf(request, sizeof request,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAuthorization: Bearer sk-bench\r\nContent-Type: application/json\r\n"
                     "Accept: */*\r\nUser-Agent: bench\r\n%sContent-Length: %d\r\n\r\n%s",
                     o.path, o.port, o.headers, length, words);
    c->state = HEAD_OF;
    c->used = 0;
    c->closing = 0;
    if (send(c->fd, request, (size_t)n, MSG_NOSIGNAL) != n) fail(c, "cannot send", strerror(errno), strlen(strerror(errno)));
}

static void connect_to(struct conn *c) {
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(c - conns)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->state = CONNECTING;
    c->reused = 0;
    if (c->fd < 0) {
        fail(c, "no socket", strerror(errno), strlen(strerror(errno)));
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail(c, "cannot connect", strerror(errno), strlen(strerror(errno)));
}

static void start(struct conn *c) {
    launched++;
    if (++in_flight > peak) peak = in_flight;
    c->reading = (struct reading){
        .work = {o.chunks, o.interval, o.first, o.text, (unsigned)((o.nonce + launched) & 0xffffff)},
        .stream = (int)o.stream,
        .exact = (int)o.exact,
    };
    c->started = now;
    if (c->state == IDLE) ask(c);
    else connect_to(c);
}

static void closed_by_peer(struct conn *c) {
    if (c->state == IDLE) {
        disconnect(c); /* it stays in the idle list, and connects anew */
    } else if (c->state == HEAD_OF && c->used == 0 && c->reused) {
        reconnects++; /* it was closed while the request was on its way */
        disconnect(c);
        connect_to(c);
    } else if (c->state == BODY_OF && c->framing == UNTIL_CLOSE) {
        c->closing = 1;
        body_ended(c);
    } else if (c->state != OFF) {
        fail(c, "the connection was closed", c->buffer, c->used);
    }
}

static void on_event(struct conn *c, uint32_t events) {
    static char bytes[READ];
    if (c->state == CONNECTING) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - conns)};
        if (events & (EPOLLERR | EPOLLHUP)) {
            fail(c, "cannot connect", "", 0);
            return;
        }
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
        ask(c);
        return;
    }
    if (c->state == OFF) return;
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    now = now_us();
    if (got <= 0) closed_by_peer(c);
    else if (c->state == HEAD_OF) head(c, bytes, (size_t)got);
    else if (c->state == BODY_OF) body(c, bytes, (size_t)got);
    else disconnect(c); /* bytes that nobody asked for */
}

static void launch(uint64_t due, double interval) {
    uint64_t most = o.rate ? (uint64_t)o.rate * o.duration / 1000 : o.connections;
    static uint64_t started;
    for (; started < due && started < most; started++) {
        double planned = (double)begun + interval * (double)started;
        if (o.rate) record(&lag, now > (uint64_t)planned ? now - (uint64_t)planned : 0);
        if (!o.rate) start(&conns[started]);
        else if (idle_count) start(&conns[idle[--idle_count]]);
        else count_error("more open requests than connections", 0, "", 0);
    }
}

static void report(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\":%lu,\"chunks\":%lu,\"errors\":%lu,\"unfinished\":%lu,\"reconnects\":%lu,\"peak\":%lu,\"seconds\":%.6f,"
           "\"steady_seconds\":%.6f,\"steady_requests\":%lu,\"steady_chunks\":%lu,\"cpu_seconds\":%.6f,\"first_error\":\"%s\"",
           requests, chunks, errors, in_flight, reconnects, peak, (double)(now - begun) / 1e6,
           (double)(stop_at - steady_from) / 1e6, steady_requests, steady_chunks, cpu, first_error);
    print_histogram("first_us", &first_text);
    print_histogram("whole_us", &whole);
    print_histogram("transit_us", &transit);
    print_histogram("lag_us", &lag);
    printf("}\n");
}

static int option(const char *argument) {
    static const struct {
        const char *name;
        unsigned *value;
    } numbers[] = {
        {"port", &o.port},       {"connections", &o.connections}, {"rate", &o.rate},         {"duration", &o.duration},
        {"ramp", &o.ramp},       {"settle", &o.settle},           {"grace", &o.grace},       {"stream", &o.stream},
        {"exact", &o.exact},     {"chunks", &o.chunks},           {"interval", &o.interval}, {"first", &o.first},
        {"text", &o.text},       {"nonce", &o.nonce},
    };
    const char *value = strchr(argument, '=');
    if (!value) return 0;
    size_t length = (size_t)(value++ - argument);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strlen(numbers[i].name) == length && !memcmp(argument, numbers[i].name, length))
            return *numbers[i].value = (unsigned)strtoul(value, NULL, 10), 1;
    if (length == 4 && !memcmp(argument, "path", 4)) return snprintf(o.path, sizeof o.path, "%s", value) < (int)sizeof o.path;
    if (length != 6 || memcmp(argument, "header", 6) || strlen(o.headers) + strlen(value) + 3 > HEADERS) return 0;
    strcat(strcat(o.headers, value), "\r\n");
    return 1;
}

static void run(void) {
    double interval = o.rate ? 1e6 / o.rate : o.ramp ? 1000.0 * o.ramp / o.connections : 0; /* us between two starts */
    long nanoseconds = interval < 0.001 ? 1 : (long)(interval * 1000);
    struct itimerspec ticking = {{nanoseconds / 1000000000, nanoseconds % 1000000000}, {0, 1}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), all_started = 0;
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    now = begun = now_us();
    stop_at = begun + 1000ull * (o.ramp + o.duration);
    steady_from = begun + 1000ull * (o.ramp + o.settle);
    timerfd_settime(timer, 0, &ticking, NULL);
    while (!told_to_end && now < stop_at + 1000ull * o.grace && (now < stop_at || in_flight) && (errors < ERRORS_MAX || in_flight)) {
        int n = epoll_wait(poller, events, EVENTS, 50);
        now = now_us();
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 != UINT32_MAX) {
                on_event(&conns[events[i].data.u32], events[i].events);
                continue;
            }
            uint64_t expired;
            if (all_started || read(timer, &expired, sizeof expired) < 0) continue;
            launch(interval > 0 ? (uint64_t)((double)(now - begun) / interval) + 1 : o.connections, interval);
            if (!o.rate && launched >= o.connections) {
                all_started = 1;
                epoll_ctl(poller, EPOLL_CTL_DEL, timer, NULL);
            }
        }
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!option(argv[i])) return fprintf(stderr, "load: cannot use %s\n", argv[i]), 2;
    if (!o.port || !o.connections || o.connections > CONNECTIONS || o.text < TEXT_MIN || o.text > TEXT_MAX || !o.chunks)
        return fprintf(stderr, "usage: load port=N [name=value ...]\n"), 2;
    signal(SIGTERM, on_term);
    filler_make();
    conns = calloc(o.connections, sizeof *conns);
    if (!conns) return perror("load"), 1;
    for (unsigned i = o.connections; i--;) {
        conns[i].fd = -1;
        if (o.rate) idle[idle_count++] = (int)i;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    run();
    report();
    return 0;
}
