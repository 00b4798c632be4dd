/* A pretend engine, much faster than any gateway in front of it: one thread, epoll, a timer wheel of 1 ms.
 *
 * It speaks just enough of the OpenAI API (`POST .../chat/completions`, `GET .../models`) and gives the answers of
 * answers.h. A streamed answer is sent as engines send it: every event is an HTTP chunk and a write of its own; only
 * the role goes with the first chunk of text, and the end with the last. `GET /stats` tells what it has seen, the last
 * cancelled requests with their times included. It listens on loopback alone.
 *
 * usage: mock PORT */
#include "answers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS = 65536, SLOTS = 8192, EVENTS = 1024, REQUEST_MAX = 1 << 20, CANCELS = 256, NONE = -1 };

struct conn {
    char *in, *out;
    size_t in_length, in_size, out_length, out_sent;
    struct work work;
    uint64_t due; /* ms */
    unsigned sent;
    int open, answering, stream, slot, next, previous;
};

struct cancel {
    unsigned nonce, sent;
    uint64_t at; /* us */
};

static struct conn conns[FDS];
static int wheel[SLOTS], timed, poller;
static uint64_t tick; /* ms */
static struct cancel cancels[CANCELS];
static uint64_t requests, finished, cancelled_before, cancelled_after, active, peak, bad;

static void wheel_remove(int fd) {
    struct conn *c = &conns[fd];
    if (c->slot == NONE) return;
    if (c->previous == NONE) wheel[c->slot] = c->next;
    else conns[c->previous].next = c->next;
    if (c->next != NONE) conns[c->next].previous = c->previous;
    c->slot = NONE;
    timed--;
}

static void wheel_add(int fd) {
    struct conn *c = &conns[fd];
    uint64_t when = c->due > tick ? c->due : tick + 1;
    if (when - tick >= SLOTS) when = tick + SLOTS - 1; /* looked at again then */
    c->slot = (int)(when % SLOTS);
    c->previous = NONE;
    c->next = wheel[c->slot];
    if (c->next != NONE) conns[c->next].previous = fd;
    wheel[c->slot] = fd;
    timed++;
}

static void watch(int fd, int operation, int writable) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poller, operation, fd, &event);
}

static void answer_ended(struct conn *c) {
    c->answering = 0;
    active--;
    finished++;
}

static void hang_up(int fd) {
    struct conn *c = &conns[fd];
    if (c->answering) {
        cancels[(cancelled_before + cancelled_after) % CANCELS] = (struct cancel){c->work.nonce, c->sent, now_us()};
        if (c->sent) cancelled_after++;
        else cancelled_before++;
        active--;
    }
    wheel_remove(fd);
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    c->slot = NONE;
    close(fd);
}

/* Sends, and keeps what the socket does not take. */
static void put(int fd, const char *data, size_t length) {
    struct conn *c = &conns[fd];
    ssize_t sent = 0;
    if (c->out_length == 0) {
        sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0) sent = 0; /* a broken connection shows as EPOLLHUP */
        if ((size_t)sent == length) return;
        watch(fd, EPOLL_CTL_MOD, 1);
    }
    size_t rest = length - (size_t)sent;
    c->out = realloc(c->out, c->out_length + rest);
    if (!c->out) abort();
    memcpy(c->out + c->out_length, data + sent, rest);
    c->out_length += rest;
}

/* One event as one HTTP chunk. */
static char *frame(char *p, const char *event, size_t length) {
    p += sprintf(p, "%zx\r\n", length + 2);
    memcpy(p, event, length);
    memcpy(p + length, "\n\n\r\n", 4);
    return p + length + 4;
}

static void send_chunk(int fd) {
    struct conn *c = &conns[fd];
    char bytes[FRAME_MAX * 6], event[FRAME_MAX], *p = bytes;
    if (c->sent == 0) {
        static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n";
        memcpy(p, head, sizeof head - 1);
        p = frame(p + sizeof head - 1, ROLE, sizeof ROLE - 1);
    }
    size_t length = sizeof BEFORE_TEXT - 1;
    memcpy(event, BEFORE_TEXT, length);
    length += text_write(event + length, &c->work, c->sent, now_us());
    memcpy(event + length, AFTER_TEXT, sizeof AFTER_TEXT - 1);
    p = frame(p, event, length + sizeof AFTER_TEXT - 1);
    if (++c->sent == c->work.chunks) {
        p = frame(p, FINISH, sizeof FINISH - 1);
        p = frame(p, event, (size_t)sprintf(event, USAGE, c->work.chunks, c->work.chunks + 20));
        p = frame(p, DONE, sizeof DONE - 1);
        memcpy(p, "0\r\n\r\n", 5);
        p += 5;
        answer_ended(c);
    }
    put(fd, bytes, (size_t)(p - bytes));
}

/* Sends what is due, then waits for the next instant, or for a socket that is full. */
static void stream_on(int fd) {
    struct conn *c = &conns[fd];
    do send_chunk(fd);
    while (c->answering && c->work.interval == 0 && c->out_length == 0);
    if (c->answering && c->out_length == 0) {
        c->due += c->work.interval;
        wheel_add(fd);
    }
}

static void json(int fd, const char *status, const char *body, size_t length) {
    char *bytes = malloc(length + 256);
    if (!bytes) abort();
    int head = sprintf(bytes, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status, length);
    memcpy(bytes + head, body, length);
    put(fd, bytes, (size_t)head + length);
    free(bytes);
}

static void send_whole(int fd) {
    struct conn *c = &conns[fd];
    char *body = malloc((size_t)c->work.chunks * c->work.text + 1024);
    if (!body) abort();
    size_t length = sizeof WHOLE_BEFORE - 1;
    memcpy(body, WHOLE_BEFORE, length);
    for (unsigned i = 0; i < c->work.chunks; i++) length += text_write(body + length, &c->work, i, now_us());
    length += (size_t)sprintf(body + length, WHOLE_AFTER, c->work.chunks, c->work.chunks + 20);
    answer_ended(c);
    json(fd, "200 OK", body, length);
    free(body);
}

static void tell_stats(int fd) {
    char body[CANCELS * 64 + 1024];
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    uint64_t all = cancelled_before + cancelled_after, first = all > CANCELS ? all - CANCELS : 0;
    int n = sprintf(body,
                    "{\"requests\":%lu,\"finished\":%lu,\"active\":%lu,\"peak\":%lu,\"bad\":%lu,\"cancelled_before\":%lu,"
                    "\"cancelled_after\":%lu,\"cpu_seconds\":%.6f,\"cancels\":[",
                    requests, finished, active, peak, bad, cancelled_before, cancelled_after, cpu);
    for (uint64_t i = first; i < all; i++) {
        struct cancel *one = &cancels[i % CANCELS];
        n += sprintf(body + n, "%s{\"nonce\":%u,\"sent\":%u,\"at_us\":%lu}", i > first ? "," : "", one->nonce, one->sent, one->at);
    }
    n += sprintf(body + n, "]}");
    json(fd, "200 OK", body, (size_t)n);
}

static int asks_for_stream(const char *body, size_t length) {
    const char *p = memmem(body, length, "\"stream\"", 8);
    if (!p) return 0;
    p += 8;
    while (*p == ' ' || *p == ':') p++;
    return *p == 't';
}

static void answer(int fd, const char *body, size_t length) {
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,"
                                 "\"owned_by\":\"bench\",\"max_model_len\":32768}]}";
    struct conn *c = &conns[fd];
    if (memcmp(c->in, "GET ", 4) == 0) {
        if (memcmp(c->in + 4, "/stats", 6) == 0) tell_stats(fd);
        else json(fd, "200 OK", models, sizeof models - 1); /* a list of models, or a probe that wants any 200 */
        return;
    }
    if (!work_read(body, length, &c->work)) c->work = (struct work){1, 0, 0, 64, 0}; /* a probe of some gateway's own */
    requests++;
    if (++active > peak) peak = active;
    c->answering = 1;
    c->sent = 0;
    c->stream = asks_for_stream(body, length);
    if (c->work.first) {
        c->due = now_us() / 1000 + c->work.first;
        wheel_add(fd);
    } else if (c->stream) {
        c->due = now_us() / 1000;
        stream_on(fd);
    } else {
        send_whole(fd);
    }
}

/* Where the body of the request in `in` ends: 0 if not all has come, NONE if it will never do. */
static ssize_t request_end(const struct conn *c, const char *body) {
    char *sized = strcasestr(c->in, "\r\ncontent-length:");
    size_t head = (size_t)(body - c->in), have = c->in_length - head;
    if (sized && sized < body) {
        size_t length = strtoul(sized + 17, NULL, 10);
        return length > REQUEST_MAX ? NONE : have < length ? 0 : (ssize_t)(head + length);
    }
    char *chunked = strcasestr(c->in, "\r\ntransfer-encoding:");
    if (!chunked || chunked > body) return (ssize_t)head;
    char *last = have ? memmem(body - 2, have + 2, "\r\n0\r\n\r\n", 7) : NULL;
    return last ? last + 7 - c->in : 0;
}

static void read_requests(int fd) {
    struct conn *c = &conns[fd];
    if (c->in_size - c->in_length < 4096) {
        c->in_size = c->in_size ? c->in_size * 2 : 4096 * 2;
        c->in = c->in_size > REQUEST_MAX * 2 ? NULL : realloc(c->in, c->in_size);
        if (!c->in) abort();
    }
    ssize_t got = recv(fd, c->in + c->in_length, c->in_size - c->in_length - 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        hang_up(fd);
        return;
    }
    if (got > 0) c->in_length += (size_t)got;
    while (c->in_length && !c->answering) {
        c->in[c->in_length] = 0;
        char *body = strstr(c->in, "\r\n\r\n");
        ssize_t end = body ? request_end(c, body + 4) : 0;
        if (end == 0) return;
        if (end == NONE) {
            bad++;
            hang_up(fd);
            return;
        }
        answer(fd, body + 4, (size_t)(c->in + end - body - 4));
        c->in_length -= (size_t)end;
        memmove(c->in, c->in + end, c->in_length);
    }
}

static void write_more(int fd) {
    struct conn *c = &conns[fd];
    ssize_t sent = send(fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
    if (sent > 0) c->out_sent += (size_t)sent;
    if (c->out_sent < c->out_length) return;
    c->out_sent = c->out_length = 0;
    watch(fd, EPOLL_CTL_MOD, 0);
    if (c->answering && c->stream && c->sent) {
        c->due = now_us() / 1000;
        stream_on(fd);
    }
}

static void accept_all(int listener) {
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        if (fd >= FDS) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conns[fd] = (struct conn){.open = 1, .slot = NONE};
        watch(fd, EPOLL_CTL_ADD, 0);
    }
}

static void turn_wheel(void) {
    for (uint64_t now = now_us() / 1000; tick < now;) {
        tick++;
        for (int fd = wheel[tick % SLOTS], next; fd != NONE; fd = next) {
            next = conns[fd].next;
            wheel_remove(fd);
            if (conns[fd].due > tick) wheel_add(fd);
            else if (conns[fd].stream) stream_on(fd);
            else send_whole(fd);
        }
    }
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[EVENTS];
    if (argc != 2) return fprintf(stderr, "usage: mock PORT\n"), 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    signal(SIGPIPE, SIG_IGN);
    filler_make();
    for (int i = 0; i < SLOTS; i++) wheel[i] = NONE;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return perror("mock"), 1;
    poller = epoll_create1(EPOLL_CLOEXEC);
    watch(listener, EPOLL_CTL_ADD, 0);
    tick = now_us() / 1000;
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, timed ? 1 : 1000);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(fd);
            else if (events[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) hang_up(fd);
            else {
                if (events[i].events & EPOLLOUT && conns[fd].out_length) write_more(fd);
                if (events[i].events & EPOLLIN && conns[fd].open) read_requests(fd);
            }
        }
        turn_wheel();
    }
}
