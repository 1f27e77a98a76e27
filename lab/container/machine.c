/* Carries out an assembled program of container/program.py between clone and exec: system calls, and a few operations
 * that are more than one. It knows nothing of containers. The child is a copy of its caller that executes none of the
 * caller's code: it touches few pages, and so few are copied.
 *
 * assembler.py has the layout: a header, instructions, relocations (words of the data that are to point into the data,
 * or to what FIND_HOME has found), data. What happens is told through a pipe, as init.py says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SYSCALL, SKIP_UNLESS, LOAD, FAIL, MARK, EXECUTING, MAKE_DESTINATION, FIND_HOME, EXCHANGE, SEND_DESCRIPTOR, FIND_USER
};
enum { VALUE, DATA, SLOT, BUFFER };
enum { SLOTS = 16, BUFFERS = 2, BUFFER_BYTES = 4096, OPERANDS = 6, MARKS = 8, TEXT_BYTES = 2048 };
enum { FIELDS = 7, HIGHEST_ID = 0x7fffffff, MOST_GROUPS = BUFFER_BYTES / 4 };
enum { EXIT_FAILED = 125, MOST_LINKS = 40, SMALL_BYTES = 1 << 20, STATUS_NUMBER = 195, LAST_NUMBER = 199 };
static const uint64_t HOME = UINT64_MAX, ANY = UINT64_MAX;

struct header { uint32_t instructions, relocations, relocations_offset, data_offset; };
struct instruction {
    uint16_t operation, operands;
    int32_t number;
    int16_t keep, log;
    uint8_t kinds[OPERANDS], padding[6];
    uint64_t tolerated;
    int64_t values[]; /* as many as there are operands */
};
struct span { const char *at; size_t size; };
struct line { struct span fields[FIELDS], last; int count; };
struct frame { char kind; int64_t value; } __attribute__((packed));
struct failure { uint32_t instruction; int32_t error; } __attribute__((packed));
struct exchange { uint32_t size; uint16_t answers, patches; uint32_t subjects_size; };

static int64_t slots[SLOTS];
static char buffers[BUFFERS][BUFFER_BYTES], home[sizeof "HOME=" + BUFFER_BYTES];
static char passwd_text[SMALL_BYTES], group_text[SMALL_BYTES];
static struct frame frames[MARKS];
static int frame_count, status_pipe;
static uint32_t current;

static void die(int error, const char *words, const char *path) {
    struct failure failure = {current, error};
    char message[sizeof(struct frame) + sizeof failure + 2 * TEXT_BYTES];
    size_t words_size = strnlen(words, TEXT_BYTES - 1), path_size = strnlen(path, TEXT_BYTES - 1);
    struct frame frame = {'#', (int64_t)(sizeof failure + words_size + 1 + path_size)};
    char *end = mempcpy(message, &frame, sizeof frame);
    end = mempcpy(end, &failure, sizeof failure);
    end = mempcpy(end, words, words_size);
    *end++ = 0;
    end = mempcpy(end, path, path_size);
    if (write(status_pipe, message, end - message) < 0) _exit(EXIT_FAILED);
    _exit(EXIT_FAILED);
}

static void mark(char kind) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (frame_count < MARKS) frames[frame_count++] = (struct frame){kind, now.tv_sec * 1000000000LL + now.tv_nsec};
}

/* Written together: a wake-up of the reader for each would take the processor from us. */
static void tell_executing(void) {
    mark('X');
    if (write(status_pipe, frames, frame_count * sizeof frames[0]) < 0) die(errno, "", "");
}

/* Make a file or directory and what leads to it, where a link of the image may lead to what it does not have. */
static void make_destination(const char *path, int is_directory) {
    static char pending[2 * PATH_MAX], place[PATH_MAX], target[PATH_MAX];
    struct stat found;
    if (!stat(path, &found)) return;
    if (strlen(path) >= PATH_MAX) die(ENAMETOOLONG, "", "");
    strcpy(pending, path);
    char *rest = pending;
    size_t length = 0;
    for (int links = 0;;) {
        rest += strspn(rest, "/");
        size_t size = strcspn(rest, "/");
        if (!size) return;
        int is_last = !rest[size + strspn(rest + size, "/")];
        if (size == 2 && !memcmp(rest, "..", 2)) {
            while (length && place[--length] != '/') continue;
        } else if (size != 1 || *rest != '.') {
            if (length + size + 2 > sizeof place) die(ENAMETOOLONG, "", "");
            place[length] = '/';
            memcpy(place + length + 1, rest, size);
            place[length + 1 + size] = 0;
            ssize_t linked = readlink(place, target, sizeof target - 1);
            if (linked > 0) {
                size_t remaining = strlen(rest + size);
                if (++links > MOST_LINKS) die(ELOOP, "", "");
                if (linked + remaining + 1 > sizeof pending) die(ENAMETOOLONG, "", "");
                memmove(pending + linked, rest + size, remaining + 1);
                memcpy(pending, target, linked);
                rest = pending;
                if (target[0] == '/') length = 0;
                continue;
            }
            length += size + 1;
            if (!is_last || is_directory) {
                if (mkdir(place, 0755) && errno != EEXIST) die(errno, "", "");
            } else {
                int file = open(place, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
                if (file < 0) die(errno, "", "");
                close(file);
            }
        }
        rest += size;
    }
}

/* Have the text of a file of the root's own in ``text``: none for one that cannot be read, or is not a file. */
static const char *read_small(const char *path, char *text) {
    struct stat found;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t size = file < 0 || fstat(file, &found) || !S_ISREG(found.st_mode) ? 0 : read(file, text, SMALL_BYTES - 1);
    if (file >= 0) close(file);
    text[size > 0 ? size : 0] = 0;
    return text;
}

static struct span span_of(const char *text) { return (struct span){text, strlen(text)}; }

static int is_same(struct span one, struct span other) {
    return one.size == other.size && !memcmp(one.at, other.at, one.size);
}

static struct span without_space(struct span text) {
    for (; text.size && strchr(" \t\r\v\f", *text.at); text.size--) text.at++;
    while (text.size && strchr(" \t\r\v\f", text.at[text.size - 1])) text.size--;
    return text;
}

/* Cut what comes before a character, or all there is, from the beginning of a text. */
static struct span cut(struct span *text, char end) {
    const char *found = memchr(text->at, end, text->size);
    struct span before = {text->at, found ? (size_t)(found - text->at) : text->size};
    size_t taken = before.size + (found != NULL);
    *text = (struct span){text->at + taken, text->size - taken};
    return before;
}

/* Cut the next line from a text into its fields, of which the last one is also what a group lists. */
static struct line next_line(struct span *text) {
    struct span whole = cut(text, '\n'), rest = without_space(whole);
    const char *colon = memrchr(whole.at, ':', whole.size);
    struct line line = {.last = whole};
    if (colon) line.last = (struct span){colon + 1, (size_t)(whole.at + whole.size - colon - 1)};
    line.last = without_space(line.last);
    for (int more = 1; more && line.count < FIELDS; line.count++) {
        more = memchr(rest.at, ':', rest.size) != NULL;
        line.fields[line.count] = cut(&rest, ':');
    }
    return line;
}

static int is_number(struct span text) {
    size_t digits = 0;
    while (digits < text.size && text.at[digits] >= '0' && text.at[digits] <= '9') digits++;
    return digits && digits == text.size;
}

/* An id, or -1 for what is not one. */
static int64_t id_of(struct span text) {
    int64_t id = 0;
    if (!is_number(text)) return -1;
    for (size_t i = 0; i < text.size && id <= HIGHEST_ID; i++) id = id * 10 + text.at[i] - '0';
    return id <= HIGHEST_ID ? id : -1;
}

static int is_wanted(struct span wanted, struct span name, int64_t id) {
    return is_number(wanted) ? id_of(wanted) == id : is_same(wanted, name);
}

static int64_t required_id(struct span text, const char *kind, const char *file) {
    static char words[TEXT_BYTES];
    if (!is_number(text)) {
        snprintf(words, sizeof words, "unable to find %s %.*s: no matching entries in %s file", kind, (int)text.size, text.at,
                 file);
        die(0, words, "");
    }
    if (id_of(text) < 0) die(0, "uids and gids must be in range 0-2147483647", "");
    return id_of(text);
}

static int64_t find_gid(struct span wanted, struct span group) {
    while (group.size) {
        struct line line = next_line(&group);
        int64_t gid = line.count < 3 ? -1 : id_of(line.fields[2]);
        if (gid >= 0 && is_wanted(wanted, line.fields[0], gid)) return gid;
    }
    return required_id(wanted, "group", "group");
}

static int lists(struct span names, struct span login) {
    while (names.size)
        if (is_same(cut(&names, ','), login)) return 1;
    return 0;
}

static int add_gid(uint32_t *gids, int count, uint32_t gid, struct span user) {
    static char words[TEXT_BYTES];
    for (int i = 0; i < count; i++)
        if (gids[i] == gid) return count;
    if (count == MOST_GROUPS) {
        snprintf(words, sizeof words, "user %.*s is in more than %d groups", (int)user.size, user.at, MOST_GROUPS);
        die(0, words, "");
    }
    gids[count] = gid;
    return count + 1;
}

/* Have "USER[:GROUP]" as the root's own files have it: uid and gid in slots, and all its groups, counted, in a buffer.
 * user_database.py says the rules. */
static void find_user(const struct instruction *each, const int64_t *v) {
    struct span group_name = span_of((const char *)v[0]), name = cut(&group_name, ':'), login = {"", 0};
    struct span passwd = span_of(read_small("/etc/passwd", passwd_text));
    const struct span group = span_of(read_small("/etc/group", group_text));
    uint32_t *gids = (uint32_t *)v[2];
    int64_t uid = -1, gid = 0;
    int count = 0;
    if (!name.size) name = span_of("0");
    while (passwd.size && uid < 0) {
        struct line line = next_line(&passwd);
        int64_t id = line.count < 4 ? -1 : id_of(line.fields[2]);
        if (id < 0 || !is_wanted(name, line.fields[0], id)) continue;
        uid = id;
        login = line.fields[0];
        gid = id_of(line.fields[3]) < 0 ? 0 : id_of(line.fields[3]);
    }
    if (uid < 0) uid = required_id(name, "user", "passwd");
    if (group_name.size) gid = find_gid(group_name, group);
    count = add_gid(gids, count, gid, name);
    for (struct span rest = group; rest.size && login.size && !group_name.size;) {
        struct line line = next_line(&rest);
        int64_t id = line.count < 3 ? -1 : id_of(line.fields[2]);
        if (id >= 0 && lists(line.last, login)) count = add_gid(gids, count, id, name);
    }
    for (const char *const *added = (const char *const *)v[1]; *added; added++)
        count = add_gid(gids, count, find_gid(span_of(*added), group), name);
    slots[each->keep] = uid;
    slots[v[3]] = gid;
    slots[v[4]] = count;
}

/* Have the home directory of who this process is in ``home``, as the root's own /etc/passwd has it. */
static void find_home(void) {
    struct span passwd = span_of(read_small("/etc/passwd", passwd_text));
    int64_t user = getuid();
    strcpy(home, "HOME=/");
    while (passwd.size) {
        struct line line = next_line(&passwd);
        if (line.count < 6 || id_of(line.fields[2]) != user) continue;
        if (line.fields[5].size && line.fields[5].size < BUFFER_BYTES)
            *(char *)mempcpy(home + sizeof "HOME=" - 1, line.fields[5].at, line.fields[5].size) = 0;
        return;
    }
}

static const char *nth(const char *texts, uint32_t number) {
    while (number--) texts += strlen(texts) + 1;
    return texts;
}

static const char *extended_words(const struct nlmsghdr *head) {
    if (!(head->nlmsg_flags & NLM_F_ACK_TLVS)) return "";
    const char *at = (const char *)NLMSG_DATA(head) + sizeof(struct nlmsgerr), *end = (const char *)head + head->nlmsg_len;
    while (at + sizeof(struct rtattr) <= end) {
        const struct rtattr *attribute = (const struct rtattr *)at;
        if (attribute->rta_type == NLMSGERR_ATTR_MSG) return RTA_DATA(attribute);
        at += RTA_ALIGN(attribute->rta_len) ? RTA_ALIGN(attribute->rta_len) : sizeof *attribute;
    }
    return "";
}

/* Do one exchange of rtnetlink: send the batch, with the link's index where it belongs, and read all answers. */
static int converse(int netlink, struct exchange *exchange, uint16_t *patches, char *batch, int index) {
    static char answer[65536];
    const char *subjects = batch + exchange->size;
    for (int i = 0; i < exchange->patches; i++) memcpy(batch + patches[i], &index, sizeof index);
    if (send(netlink, batch, exchange->size, 0) < 0) die(errno, "", nth(subjects, 0));
    int error = 0, first = 0;
    const char *words = "";
    for (int waiting = exchange->answers; waiting > 0;) {
        ssize_t size = recv(netlink, answer, sizeof answer, 0);
        if (size <= 0) die(size ? errno : EPROTO, "", nth(subjects, 0));
        for (struct nlmsghdr *head = (void *)answer; NLMSG_OK(head, size); head = NLMSG_NEXT(head, size)) {
            if (head->nlmsg_type == RTM_NEWLINK) {
                index = ((struct ifinfomsg *)NLMSG_DATA(head))->ifi_index;
                waiting--;
            } else if (head->nlmsg_type == NLMSG_ERROR) {
                struct nlmsgerr *told = NLMSG_DATA(head);
                waiting--;
                if (told->error && !error) {
                    error = -told->error;
                    first = head->nlmsg_seq;
                    words = strndupa(extended_words(head), TEXT_BYTES);
                }
            }
        }
    }
    if (error) die(error, words, nth(subjects, first));
    return index;
}

/* Read from a pipe what is to be said to the kernel about the links of this network namespace, and say it. */
static void exchange_all(int pipe_end) {
    static char message[65536];
    size_t size = 0;
    for (ssize_t got; (got = read(pipe_end, message + size, sizeof message - size)); size += got)
        if (got < 0) die(errno, "", "");
    if (!size) die(ECONNRESET, "the host's side of the network could not be made", "veth");
    close(pipe_end);
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), one = 1, index = 0;
    if (netlink < 0) die(errno, "", "");
    setsockopt(netlink, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
    setsockopt(netlink, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
    for (char *at = message; at < message + size;) {
        struct exchange head;
        memcpy(&head, at, sizeof head);
        uint16_t *patches = (uint16_t *)(at + sizeof head);
        char *batch = at + sizeof head + ((head.patches * sizeof *patches + 3) & ~3UL);
        index = converse(netlink, &head, patches, batch, index);
        at = batch + head.size + head.subjects_size;
    }
    close(netlink);
}

/* Send a message of one byte with a descriptor, which cannot travel alone. */
static void send_descriptor(int channel, char *message, int descriptor) {
    char control[CMSG_SPACE(sizeof descriptor)] __attribute__((aligned(16))) = {0};
    struct iovec part = {message, 1};
    struct msghdr head = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
    *rights = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof descriptor)};
    memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
    if (sendmsg(channel, &head, 0) < 0) die(errno, "", "");
}

static int64_t value_of(const struct instruction *each, int operand, char *data) {
    int64_t value = each->values[operand];
    switch (each->kinds[operand]) {
    case DATA: return (int64_t)(data + value);
    case SLOT: return slots[value];
    case BUFFER: return (int64_t)buffers[value];
    default: return value;
    }
}

static void fail_call(const struct instruction *each, int error) {
    static char log[TEXT_BYTES];
    size_t used = 0;
    while (each->log >= 0 && used + 1 < sizeof log) {
        if (used) log[used++] = '\n';
        ssize_t size = read((int)slots[each->log], log + used, sizeof log - used - 1);
        if (size <= 0) { used -= used > 0; break; }
        used += size;
        while (used && log[used - 1] == '\n') used--;
    }
    log[used] = 0;
    die(error, log, "");
}

static void make_call(const struct instruction *each, const int64_t *v) {
    long result = syscall(each->number, v[0], v[1], v[2], v[3], v[4], v[5]);
    if (result < 0) {
        int error = errno;
        if (each->tolerated != ANY && !(error < 64 && each->tolerated >> error & 1)) fail_call(each, error);
        result = -error;
    }
    if (each->keep >= 0) slots[each->keep] = result;
}

static void load(const struct instruction *each, const int64_t *v) {
    uint64_t loaded = 0;
    memcpy(&loaded, buffers[v[0]] + v[1], v[2]);
    slots[each->keep] = loaded;
}

static void relocate(char *program, const struct header *header) {
    uint32_t *relocations = (uint32_t *)(program + header->relocations_offset);
    char *data = program + header->data_offset;
    for (uint32_t i = 0; i < header->relocations; i++) {
        uint64_t *word = (uint64_t *)(data + relocations[i]);
        *word = *word == HOME ? (uint64_t)home : (uint64_t)data + *word;
    }
}

/* Carry a program out; returns only if it does not end in an exec. */
void carry_out(char *program, int status) {
    struct header *header = (struct header *)program;
    struct instruction *each = (struct instruction *)(header + 1);
    char *data = program + header->data_offset;
    int64_t skipped = 0;
    status_pipe = status;
    relocate(program, header);
    for (current = 0; current < header->instructions; current++) {
        int64_t v[OPERANDS] = {0};
        if (skipped-- > 0) { each = (void *)&each->values[each->operands]; continue; }
        for (int i = 0; i < each->operands; i++) v[i] = value_of(each, i, data);
        switch (each->operation) {
        case SYSCALL: make_call(each, v); break;
        case SKIP_UNLESS: skipped = (v[0] & v[1]) != v[2] ? v[3] : 0; break;
        case LOAD: load(each, v); break;
        case FAIL: die(v[0], "", ""); break;
        case MARK: mark(v[0]); break;
        case EXECUTING: tell_executing(); break;
        case MAKE_DESTINATION: make_destination((char *)v[0], v[1]); break;
        case FIND_HOME: find_home(); break;
        case EXCHANGE: exchange_all(v[0]); break;
        case SEND_DESCRIPTOR: send_descriptor(v[0], (char *)v[1], v[2]); break;
        case FIND_USER: find_user(each, v); break;
        }
        each = (void *)&each->values[each->operands];
    }
}

/* Have the streams as 0, 1 and 2 and the status pipe as STATUS_NUMBER, beside what the plan is given; close the rest at
 * once, and not by the exec: a directory of the host among it would be a way out of the container until then. */
static void settle_descriptors(const int *streams, int status) {
    for (int number = 0; number < 3; number++)
        if (dup2(streams[number], number) < 0) die(errno, "", "");
    if (dup3(status, STATUS_NUMBER, O_CLOEXEC) < 0) die(errno, "", "");
    status_pipe = STATUS_NUMBER;
    syscall(SYS_close_range, 3, STATUS_NUMBER - 1, 0);
    syscall(SYS_close_range, LAST_NUMBER + 1, ~0U, 0);
    syscall(SYS_close_range, STATUS_NUMBER, LAST_NUMBER, 4 /* CLOSE_RANGE_CLOEXEC */);
}

/* Clone a child into new namespaces and have it carry a program out; return its pid, or a negative errno. */
int start(char *program, uint64_t flags, int cgroup, int in, int out, int err, int status, int *pidfd) {
    int streams[] = {in, out, err};
    struct clone_args arguments = {
        .flags = flags | CLONE_PIDFD,
        .pidfd = (uint64_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = flags & CLONE_INTO_CGROUP ? (uint64_t)cgroup : 0,
    };
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) return -errno;
    if (!pid) {
        status_pipe = status;
        settle_descriptors(streams, status);
        carry_out(program, STATUS_NUMBER);
        _exit(EXIT_FAILED);
    }
    return (int)pid;
}
