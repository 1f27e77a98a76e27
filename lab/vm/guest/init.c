/*
 * The guest's init: marks userspace, loads modules, mounts the image, starts the main command and
 * serves the host's requests until the host says stop or the main command ends.
 *
 * It is one static program, because the image that it starts is not ours: nothing of it may be needed.
 * The wire protocol is documented in lab/vm/guest_agent.py, which is its other end; change both.
 *
 * Under software emulation every instruction counts: the first thing done is the mark, nothing polls
 * in a loop, nothing is written to the console unless something failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARKER_PORT 0xe9 /* isa-debugcon: one OUT instruction is one byte at the host, with no driver */
#define PORT_OUT 1       /* numbers of the virtio-serial ports, as in domain_xml.py */
#define PORT_ERR 2
#define PORT_AGENT 3
#define DEVICE_WAIT_MS 20000
#define NINEP_OPTIONS "trans=virtio,version=9p2000.L,msize=262144" /* the default of 8 KiB costs a round trip per two pages */
#define CHUNK 16384
#define MAX_FRAME (256u << 20)
#define MAX_JOBS 32
#define HEADER 9
#define IDLE_MS 50
#define INPUT_WINDOW (64u << 10) /* what the host may send to a program's input ahead of our acknowledgements */
#define MAX_FILE (1u << 20)      /* the longest file that the host is told whole */
#define MAX_GROUPS 1024

struct buffer {
	char data[4 * CHUNK];
	size_t length, offset;
};

struct job {
	int used, exited, status;
	uint32_t id;
	pid_t pid;
	int in, out, err;
	char *frame; /* owns what stdin points into */
	const char *stdin_data;
	size_t stdin_left;
	int input_open, terminal;        /* more may come after what the request brought; it has a terminal */
	char *typed;                     /* what came, up to INPUT_WINDOW, and is not written yet */
	size_t typed_length;
	uint32_t window, unacknowledged; /* output: how much may be under way (0: any amount), and how much is */
	uint64_t started_ns, ended_ns;
};

struct frame {
	unsigned char kind;
	uint32_t id;
	char *payload;
	size_t length;
};

static struct job jobs[MAX_JOBS]; /* jobs[0] is the main command */
static struct buffer agent_queue, main_out, main_err;
static int agent = -1, port_out = -1, port_err = -1, signals = -1;
static int stopping, age_told;
static uint64_t kill_at_ns, userspace_ns;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the mark ------------------------------------------------------------------------------- */

static void mark_userspace(void)
{
	if (ioperm(MARKER_PORT, 1, 1) == 0)
		outb('U', MARKER_PORT);
	userspace_ns = clock_ns(CLOCK_MONOTONIC);
}

/*
 * The kernel's log runs on a clock that counts timer ticks until the TSC is trusted, and ticks that come while
 * interrupts are off are lost: under emulation 300 ms. When the kernel changes over, it keeps the difference, and
 * says so: "sched_clock: Marking stable (a, b)->(c, d)", where d is what it adds to the TSC's time to go on without a
 * jump. Source: kernel/sched/clock.c.
 */
static long long lost_ns(void)
{
	static char log[1 << 17];
	int length = klogctl(3, log, sizeof log - 1); /* SYSLOG_ACTION_READ_ALL */
	const char *line;
	long long added_ns = 0;

	log[length < 0 ? 0 : length] = 0;
	line = strstr(log, "sched_clock: Marking stable (");
	if (line != NULL && sscanf(line, "%*[^>]>(%*d, %lld", &added_ns) == 1)
		return -added_ns;
	return 0;
}

/* Tell the host how old the kernel was at the mark, once nothing that is measured waits for it. */
static void tell_kernel_age(void)
{
	int log = open("/dev/kmsg", O_RDWR | O_CLOEXEC | O_NONBLOCK), i;
	unsigned long long record_us = 0;
	uint64_t since_ns, age_ns;
	char record[512];
	ssize_t got;

	age_told = 1;
	if (log < 0 || lseek(log, 0, SEEK_END) < 0)
		return;
	since_ns = clock_ns(CLOCK_MONOTONIC) - userspace_ns;
	/* without its newline a record could be continued, and is not shown yet */
	if (write(log, "<7>lab: age\n", 12) != 12 || (got = read(log, record, sizeof record - 1)) <= 0)
		return;
	close(log);
	record[got] = 0;
	if (sscanf(record, "%*u,%*u,%llu", &record_us) != 1)
		return;
	age_ns = record_us * 1000u - since_ns + (uint64_t)lost_ns();
	for (i = 0; i < 8; i++)
		outb((unsigned char)(age_ns >> (8 * i)), MARKER_PORT);
}

/* ---- failing -------------------------------------------------------------------------------- */

static void power_off(void)
{
	sync();
	reboot(RB_AUTOBOOT); /* reboot=t, a triple fault: the VMM ends, whatever firmware there is */
	for (;;)
		pause();
}

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "lab-init: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(arguments);
	fflush(stderr);
	power_off();
}

/* ---- devices -------------------------------------------------------------------------------- */

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, options) != 0)
		fail("mount %s on %s", type, target);
}

static void move_mount_point(const char *from, const char *to)
{
	mkdir(to, 0755);
	if (mount(from, to, NULL, MS_MOVE, NULL) != 0)
		fail("move %s to %s", from, to);
}

static void load_modules(void)
{
	char path[PATH_MAX], name[256];
	FILE *order = fopen("/modules/order", "re");
	int file;

	if (order == NULL)
		return;
	while (fscanf(order, "%255s", name) == 1) {
		snprintf(path, sizeof path, "/modules/%s", name);
		file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0)
			fail("load %s", path);
		close(file);
	}
	fclose(order);
}

/* Find /dev/vport<device>p<number>; the device's number depends on what else there is. */
static int find_port(int number, char *path, size_t size)
{
	DIR *directory = opendir("/dev");
	struct dirent *entry;
	int device, port, found = 0;

	while (directory != NULL && !found && (entry = readdir(directory)) != NULL) {
		found = sscanf(entry->d_name, "vport%dp%d", &device, &port) == 2 && port == number;
		if (found)
			snprintf(path, size, "/dev/vport%dp%d", device, port);
	}
	if (directory != NULL)
		closedir(directory);
	return found;
}

/* Ports appear some time after the driver's probe, one control message each: wait for the file. */
static int open_port(int number)
{
	char path[64], events[4096];
	int watch = inotify_init1(IN_CLOEXEC), port;
	struct pollfd waiting = {.fd = watch, .events = POLLIN};

	inotify_add_watch(watch, "/dev", IN_CREATE);
	while (!find_port(number, path, sizeof path)) {
		errno = ETIMEDOUT;
		if (poll(&waiting, 1, DEVICE_WAIT_MS) <= 0)
			fail("wait for virtio-serial port %d", number);
		if (read(watch, events, sizeof events) < 0)
			fail("read events of /dev");
	}
	close(watch);
	port = open(path, O_RDWR | O_CLOEXEC);
	if (port < 0)
		fail("open %s", path);
	return port;
}

static void set_nonblocking(int file, int on)
{
	int flags = fcntl(file, F_GETFL);
	fcntl(file, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

/* ---- frames --------------------------------------------------------------------------------- */

static void put_u32(unsigned char *at, uint32_t value)
{
	memcpy(at, &value, 4); /* x86 is little-endian, and so is the wire */
}

static uint32_t get_u32(const char *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return value;
}

static size_t space(const struct buffer *queue)
{
	return sizeof queue->data - queue->length;
}

static void append(struct buffer *queue, const void *data, size_t length)
{
	memcpy(queue->data + queue->length, data, length);
	queue->length += length;
}

static void queue_header(unsigned char kind, uint32_t id, size_t length)
{
	unsigned char header[HEADER];

	put_u32(header, (uint32_t)length);
	header[4] = kind;
	put_u32(header + 5, id);
	append(&agent_queue, header, HEADER);
}

/* Write what the host will take now; what it does not take stays. A host that is gone takes all. */
static void flush(struct buffer *queue, int port)
{
	ssize_t done;

	while (queue->offset < queue->length) {
		done = write(port, queue->data + queue->offset, queue->length - queue->offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN)
			break;
		if (done < 0)
			queue->offset = queue->length;
		else
			queue->offset += (size_t)done;
	}
	memmove(queue->data, queue->data + queue->offset, queue->length - queue->offset);
	queue->length -= queue->offset;
	queue->offset = 0;
}

static void send_frame(unsigned char kind, uint32_t id, const void *payload, size_t length)
{
	if (space(&agent_queue) < HEADER + length) {
		set_nonblocking(agent, 0); /* rare: replies are small, and the host always reads */
		flush(&agent_queue, agent);
		set_nonblocking(agent, 1);
	}
	queue_header(kind, id, length);
	append(&agent_queue, payload, length);
}

static void drain_everything(void)
{
	set_nonblocking(agent, 0); /* a blocking write returns when the host has taken the bytes */
	set_nonblocking(port_out, 0);
	set_nonblocking(port_err, 0);
	flush(&main_out, port_out);
	flush(&main_err, port_err);
	flush(&agent_queue, agent);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

struct command {
	char **settings, **argv, **env;
	char *cwd, *rest;
	size_t rest_length;
};

static char *take_string(char **at, const char *end)
{
	char *text = *at, *zero = memchr(text, 0, (size_t)(end - text));

	errno = EPROTO;
	if (zero == NULL)
		fail("parse a request");
	*at = zero + 1;
	return text;
}

static char **take_strings(uint32_t count, char **at, const char *end)
{
	char **list = calloc(count + 1u, sizeof *list);
	uint32_t i;

	if (list == NULL)
		fail("parse a request");
	for (i = 0; i < count; i++)
		list[i] = take_string(at, end);
	return list;
}

static void parse_command(const struct frame *frame, struct command *command)
{
	char *at = frame->payload + 12, *end = frame->payload + frame->length;

	errno = EPROTO;
	if (frame->length < 13)
		fail("parse a request");
	command->settings = take_strings(get_u32(frame->payload), &at, end);
	command->argv = take_strings(get_u32(frame->payload + 4), &at, end);
	command->env = take_strings(get_u32(frame->payload + 8), &at, end);
	command->cwd = take_string(&at, end);
	command->rest = at;
	command->rest_length = (size_t)(end - at);
}

static void free_command(struct command *command)
{
	free(command->settings);
	free(command->argv);
	free(command->env);
}

static const char *value_of(const char *setting, const char *key)
{
	size_t length = strlen(key);
	return strncmp(setting, key, length) == 0 && setting[length] == '=' ? setting + length + 1 : NULL;
}

/* How a program is run, of the settings that its request brought. */
struct manner {
	uid_t uid;
	gid_t gid, groups[MAX_GROUPS];
	size_t group_count;
	int has_user, input_open, terminal;
	struct winsize size;
	uint32_t window;
};

/* user=UID:GID:GROUP,GROUP,... */
static void parse_user(const char *value, struct manner *manner)
{
	char *at;

	manner->has_user = 1;
	manner->uid = (uid_t)strtoul(value, &at, 10);
	manner->gid = *at == ':' ? (gid_t)strtoul(at + 1, &at, 10) : 0;
	while ((*at == ':' || *at == ',') && at[1] != 0 && manner->group_count < MAX_GROUPS)
		manner->groups[manner->group_count++] = (gid_t)strtoul(at + 1, &at, 10);
}

static void parse_manner(char **settings, struct manner *manner)
{
	const char *value;

	memset(manner, 0, sizeof *manner);
	for (; *settings != NULL; settings++)
		if ((value = value_of(*settings, "user")) != NULL)
			parse_user(value, manner);
		else if ((value = value_of(*settings, "terminal")) != NULL)
			manner->terminal = sscanf(value, "%hu:%hu", &manner->size.ws_row, &manner->size.ws_col) == 2;
		else if (value_of(*settings, "input") != NULL)
			manner->input_open = 1;
		else if ((value = value_of(*settings, "window")) != NULL)
			manner->window = (uint32_t)strtoul(value, NULL, 10);
}

static void become_user(const struct manner *manner)
{
	if (!manner->has_user)
		return;
	if (setgroups(manner->group_count, manner->groups) != 0 || setgid(manner->gid) != 0 || setuid(manner->uid) != 0) {
		dprintf(2, "cannot become user %u: %s\n", manner->uid, strerror(errno));
		_exit(126);
	}
}

static void become(const struct command *command, const struct manner *manner, int in, int out, int err)
{
	sigset_t none;

	setsid();
	if (manner->terminal)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	environ = command->env;
	become_user(manner);
	if (chdir(command->cwd) != 0) {
		dprintf(2, "cannot change to directory %s: %s\n", command->cwd, strerror(errno));
		_exit(126);
	}
	execvp(command->argv[0], command->argv);
	dprintf(2, "cannot execute %s: %s\n", command->argv[0], strerror(errno));
	_exit(errno == ENOENT || errno == ENOTDIR ? 127 : 126);
}

/* Both ends of a program's streams; with a terminal its errors come with its output. */
struct streams {
	int in, out, err;                /* the program's */
	int to_in, from_out, from_err;   /* ours */
};

static void make_pipes(struct streams *streams, const struct manner *manner)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		fail("make pipes");
	if (manner->has_user && (fchown(in[0], manner->uid, -1) != 0 || fchown(out[1], manner->uid, -1) != 0 ||
				 fchown(err[1], manner->uid, -1) != 0))
		fail("give pipes to user %u", manner->uid); /* else it could not open /dev/stdout */
	*streams = (struct streams){in[0], out[1], err[1], in[1], out[0], err[0]};
}

static void make_terminal(struct streams *streams, const struct manner *manner)
{
	int ours = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), zero = 0, theirs, number;
	char path[64];

	if (ours < 0 || ioctl(ours, TIOCSPTLCK, &zero) != 0 || ioctl(ours, TIOCGPTN, &number) != 0)
		fail("make a terminal");
	snprintf(path, sizeof path, "/dev/pts/%d", number);
	theirs = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (theirs < 0 || (manner->has_user && fchown(theirs, manner->uid, -1) != 0))
		fail("open %s", path);
	ioctl(ours, TIOCSWINSZ, &manner->size);
	*streams = (struct streams){theirs, dup(theirs), dup(theirs), dup(ours), ours, -1};
}

static void start_job(struct job *job, struct frame *frame, const struct command *command)
{
	struct manner manner;
	struct streams streams;

	parse_manner(command->settings, &manner);
	manner.terminal ? make_terminal(&streams, &manner) : make_pipes(&streams, &manner);
	memset(job, 0, sizeof *job);
	job->started_ns = clock_ns(CLOCK_MONOTONIC);
	job->pid = fork();
	if (job->pid == 0)
		become(command, &manner, streams.in, streams.out, streams.err);
	if (job->pid < 0)
		fail("fork");
	close(streams.in);
	close(streams.out);
	close(streams.err);
	set_nonblocking(streams.to_in, 1);
	set_nonblocking(streams.from_out, 1);
	if (streams.from_err >= 0)
		set_nonblocking(streams.from_err, 1);
	job->used = 1;
	job->id = frame->id;
	job->in = streams.to_in;
	job->out = streams.from_out;
	job->err = streams.from_err;
	job->frame = frame->payload;
	job->stdin_data = command->rest;
	job->stdin_left = command->rest_length;
	job->terminal = manner.terminal;
	job->input_open = manner.input_open || manner.terminal;
	job->window = manner.window;
	if (job->input_open && (job->typed = malloc(INPUT_WINDOW)) == NULL)
		fail("make room for input");
	frame->payload = NULL;
}

static void close_file(int *file)
{
	if (*file >= 0)
		close(*file);
	*file = -1;
}

/* Tell the host that so much of a program's input has been taken, so that it may send as much again. */
static void acknowledge(const struct job *job, size_t length)
{
	unsigned char count[4];

	put_u32(count, (uint32_t)length);
	send_frame('A', job->id, count, sizeof count);
}

static void feed_typed(struct job *job)
{
	ssize_t done = write(job->in, job->typed, job->typed_length);

	if (done < 0 && errno == EAGAIN)
		return;
	if (done < 0)
		done = (ssize_t)job->typed_length; /* nobody reads it any more */
	acknowledge(job, (size_t)done);
	job->typed_length -= (size_t)done;
	memmove(job->typed, job->typed + done, job->typed_length);
}

static void feed_stdin(struct job *job)
{
	ssize_t done = 0;

	while (job->in >= 0 && job->stdin_left > 0) {
		done = write(job->in, job->stdin_data, job->stdin_left);
		if (done < 0)
			break;
		job->stdin_data += done;
		job->stdin_left -= (size_t)done;
	}
	if (job->stdin_left > 0 && done < 0 && errno == EPIPE)
		job->stdin_left = 0;
	if (job->in >= 0 && job->stdin_left == 0 && job->typed_length > 0)
		feed_typed(job);
	if (job->stdin_left == 0 && job->typed_length == 0 && !job->input_open) {
		close_file(&job->in);
		free(job->frame);
		job->frame = NULL;
	}
}

/* How much of a program's output may be sent now. */
static size_t output_room(const struct job *job)
{
	if (job->window == 0)
		return CHUNK;
	if (job->unacknowledged >= job->window)
		return 0;
	return job->window - job->unacknowledged < CHUNK ? job->window - job->unacknowledged : CHUNK;
}

/* Read once from a pipe into a queue; close it at its end, or when its program is gone and it is empty. */
static void pump(struct job *job, int *pipe_end, struct buffer *queue, unsigned char kind)
{
	static char chunk[CHUNK];
	size_t overhead = kind ? HEADER : 0;
	size_t room = output_room(job);
	ssize_t got;

	if (*pipe_end < 0 || room == 0 || space(queue) < overhead + CHUNK)
		return;
	got = read(*pipe_end, chunk, room);
	if (got > 0) {
		if (job->window)
			job->unacknowledged += (uint32_t)got;
		if (kind)
			queue_header(kind, job->id, (size_t)got);
		append(queue, chunk, (size_t)got);
	} else if (got == 0 || errno == EIO || (errno == EAGAIN && job->exited)) { /* EIO: a terminal that nobody has open */
		close_file(pipe_end);
	}
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void report_end(struct job *job)
{
	char payload[12];
	uint64_t elapsed_ns = job->ended_ns - job->started_ns;

	put_u32((unsigned char *)payload, (uint32_t)exit_code(job->status));
	memcpy(payload + 4, &elapsed_ns, 8);
	send_frame('D', job->id, payload, sizeof payload);
	close_file(&job->in);
	free(job->frame);
	free(job->typed);
	memset(job, 0, sizeof *job);
}

static void serve_job(struct job *job)
{
	int is_main = job == &jobs[0];

	feed_stdin(job);
	pump(job, &job->out, is_main ? &main_out : &agent_queue, is_main ? 0 : 'O');
	pump(job, &job->err, is_main ? &main_err : &agent_queue, is_main ? 0 : 'E');
	if (!job->exited || job->out >= 0 || job->err >= 0)
		return;
	report_end(job);
	if (is_main) {
		if (!age_told)
			tell_kernel_age();
		kill(-1, SIGKILL); /* as in a container: with the main command everything ends */
		drain_everything();
		power_off();
	}
}

static void reap(void)
{
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < MAX_JOBS; i++)
			if (jobs[i].used && jobs[i].pid == pid) {
				jobs[i].ended_ns = clock_ns(CLOCK_MONOTONIC);
				jobs[i].exited = 1;
				jobs[i].status = status;
			}
}

/* ---- setting up, as the first request says --------------------------------------------------- */

static int disk_has_serial(const char *disk, const char *serial)
{
	char path[PATH_MAX], found[64] = "";
	FILE *file;

	snprintf(path, sizeof path, "/sys/block/%s/serial", disk);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%63s", found) != 1)
		found[0] = 0;
	fclose(file);
	return strcmp(found, serial) == 0;
}

/* Disks are told apart by serial: their order on the bus differs between machine types. */
static void find_disk(const char *serial, char *path, size_t size)
{
	DIR *directory = opendir("/sys/block");
	struct dirent *entry;

	path[0] = 0;
	while (directory != NULL && path[0] == 0 && (entry = readdir(directory)) != NULL)
		if (disk_has_serial(entry->d_name, serial))
			snprintf(path, size, "/dev/%s", entry->d_name);
	if (directory != NULL)
		closedir(directory);
	errno = ENODEV;
	if (path[0] == 0)
		fail("find the disk with serial %s", serial);
}

/* Make the directories above a path, which may be there. */
static void make_parents(const char *path)
{
	char part[PATH_MAX];
	size_t i;

	for (i = 1; path[i] != 0 && i < sizeof part; i++)
		if (path[i] == '/') {
			memcpy(part, path, i);
			part[i] = 0;
			mkdir(part, 0755);
		}
}

/* What stands behind disk= and share=: NAME:ro|rw:PATH:TYPE, the root first. A disk is named by its serial. */
static void mount_source(const char *value, int is_disk)
{
	char name[40], mode[8], path[PATH_MAX], type[16], source[PATH_MAX], target[PATH_MAX + 16];
	unsigned long flags;

	errno = EPROTO;
	if (sscanf(value, "%39[^:]:%7[^:]:%4095[^:]:%15s", name, mode, path, type) != 4)
		fail("parse %s", value);
	if (is_disk)
		find_disk(name, source, sizeof source);
	else
		snprintf(source, sizeof source, "%s", name);
	snprintf(target, sizeof target, "/root%s", strcmp(path, "/") == 0 ? "" : path);
	make_parents(target);
	flags = strcmp(mode, "ro") == 0 ? MS_RDONLY : 0;
	mount_at(source, target, type, flags, strcmp(type, "9p") == 0 ? NINEP_OPTIONS : "");
}

/* cover=memory: the root cannot be written to, so what is written lies in memory above it */
static void cover_root(void)
{
	move_mount_point("/root", "/below");
	mount_at("cover", "/cover", "tmpfs", 0, "mode=0755");
	mkdir("/cover/upper", 0755);
	mkdir("/cover/work", 0755);
	mount_at("overlay", "/root", "overlay", 0, "lowerdir=/below,upperdir=/cover/upper,workdir=/cover/work");
}

static void interface_up(int control, const char *name)
{
	struct ifreq request;

	memset(&request, 0, sizeof request);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
		fail("find network interface %s", name);
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(control, SIOCSIFFLAGS, &request) != 0)
		fail("bring up %s", name);
}

static struct sockaddr_in internet_address(const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET};

	errno = EPROTO;
	if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
		fail("parse address %s", text);
	return address;
}

static void set_address(int control, unsigned long operation, const char *text)
{
	struct ifreq request;
	struct sockaddr_in address = internet_address(text);

	memset(&request, 0, sizeof request);
	strcpy(request.ifr_name, "eth0");
	memcpy(&request.ifr_addr, &address, sizeof address);
	if (ioctl(control, operation, &request) != 0)
		fail("set address %s on eth0", text);
}

static void add_default_route(int control, const char *gateway)
{
	struct rtentry route;
	struct sockaddr_in via = internet_address(gateway), any = internet_address("0.0.0.0");

	memset(&route, 0, sizeof route);
	memcpy(&route.rt_gateway, &via, sizeof via);
	memcpy(&route.rt_dst, &any, sizeof any);
	memcpy(&route.rt_genmask, &any, sizeof any);
	route.rt_flags = RTF_UP | RTF_GATEWAY;
	if (ioctl(control, SIOCADDRT, &route) != 0)
		fail("add a default route by %s", gateway);
}

/* network=ADDRESS:NETMASK:GATEWAY */
static void configure_network(const char *value)
{
	char address[16], netmask[16], gateway[16];
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	errno = EPROTO;
	if (sscanf(value, "%15[^:]:%15[^:]:%15s", address, netmask, gateway) != 3)
		fail("parse network=%s", value);
	set_address(control, SIOCSIFADDR, address);
	set_address(control, SIOCSIFNETMASK, netmask);
	interface_up(control, "eth0");
	add_default_route(control, gateway);
	close(control);
}

static void bring_up_loopback(void)
{
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	interface_up(control, "lo");
	close(control);
}

/* write=PATH:CONTENT, in place of what the image has there, be it a link */
static void write_file(const char *value)
{
	const char *content = strchr(value, ':');
	char path[PATH_MAX];
	int file;

	errno = EPROTO;
	if (content == NULL)
		fail("parse write=%s", value);
	snprintf(path, sizeof path, "/root%.*s", (int)(content - value), value);
	make_parents(path);
	unlink(path);
	file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (file < 0 || dprintf(file, "%s", content + 1) < 0)
		fail("write %s", path);
	close(file);
}

static void apply_setting(const char *setting)
{
	const char *value;

	if ((value = value_of(setting, "disk")) != NULL)
		mount_source(value, 1);
	else if ((value = value_of(setting, "share")) != NULL)
		mount_source(value, 0);
	else if (value_of(setting, "cover") != NULL)
		cover_root();
	else if ((value = value_of(setting, "network")) != NULL)
		configure_network(value);
	else if ((value = value_of(setting, "write")) != NULL)
		write_file(value);
	else if ((value = value_of(setting, "hostname")) != NULL && sethostname(value, strlen(value)) != 0)
		fail("set the host name");
}

static void remove_initramfs(const char *name)
{
	char path[PATH_MAX];
	DIR *directory = opendir(name);
	struct dirent *entry;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
		unlink(path); /* the initramfs is memory: give it back */
	}
	if (directory != NULL)
		closedir(directory);
	rmdir(name);
}

static void switch_root(void)
{
	remove_initramfs("/modules");
	unlink("/init");
	move_mount_point("/dev", "/root/dev");
	move_mount_point("/proc", "/root/proc");
	move_mount_point("/sys", "/root/sys");
	if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
		fail("switch to the root disk");
	mount_at("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_at("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777");
	mkdir("/tmp", 01777);
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
}

static void set_up(struct frame *frame)
{
	struct command command;
	char **setting;

	parse_command(frame, &command);
	for (setting = command.settings; *setting != NULL; setting++)
		apply_setting(*setting);
	switch_root();
	make_parents(command.cwd);
	mkdir(command.cwd, 0755);
	start_job(&jobs[0], frame, &command);
	free_command(&command);
	send_frame('H', jobs[0].id, "", 0);
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct job *job_by_id(uint32_t id)
{
	int i;

	for (i = 0; i < MAX_JOBS; i++)
		if (jobs[i].used && jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static void execute(struct frame *frame)
{
	struct command command;
	int i = 1;

	while (i < MAX_JOBS && jobs[i].used)
		i++;
	if (i == MAX_JOBS) {
		send_frame('F', frame->id, "too many commands at once", 25);
		return;
	}
	parse_command(frame, &command);
	start_job(&jobs[i], frame, &command);
	free_command(&command);
}

static void send_memory(uint32_t id)
{
	char text[8192];
	int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t got = file < 0 ? 0 : read(file, text, sizeof text);

	close_file(&file);
	send_frame('M', id, text, got < 0 ? 0 : (size_t)got);
}

/* A whole file of the image as it is now; one that is not there is empty. */
static void send_file(const struct frame *frame)
{
	static char content[MAX_FILE];
	int file = open(frame->payload, O_RDONLY | O_CLOEXEC);
	const char *at;
	size_t length = 0;
	ssize_t got = 0;

	while (file >= 0 && length < sizeof content && (got = read(file, content + length, sizeof content - length)) > 0)
		length += (size_t)got;
	close_file(&file);
	set_nonblocking(agent, 0); /* longer than the queue: write it past that */
	flush(&agent_queue, agent);
	queue_header('M', frame->id, length);
	flush(&agent_queue, agent);
	for (at = content; length > 0 && (got = write(agent, at, length)) > 0; length -= (size_t)got)
		at += got;
	set_nonblocking(agent, 1);
}

/* Further input of a program; the host keeps to the window, so there is room. */
static void take_input(const struct frame *frame)
{
	struct job *job = job_by_id(frame->id);

	if (job == NULL || job->typed == NULL || job->in < 0 || job->typed_length + frame->length > INPUT_WINDOW)
		return;
	memcpy(job->typed + job->typed_length, frame->payload, frame->length);
	job->typed_length += frame->length;
}

static void end_input(uint32_t id)
{
	struct job *job = job_by_id(id);

	if (job != NULL && !job->terminal) /* a terminal's input ends with the terminal */
		job->input_open = 0;
}

static void resize(const struct frame *frame)
{
	const struct job *job = job_by_id(frame->id);
	struct winsize size = {0};

	if (job == NULL || !job->terminal || frame->length < 8)
		return;
	size.ws_row = (unsigned short)get_u32(frame->payload);
	size.ws_col = (unsigned short)get_u32(frame->payload + 4);
	ioctl(job->out, TIOCSWINSZ, &size);
}

static void send_signal(const struct frame *frame)
{
	const struct job *job = job_by_id(frame->id);

	if (job != NULL && !job->exited && frame->length >= 4)
		kill(job->pid, (int)get_u32(frame->payload));
}

static void take_acknowledgement(const struct frame *frame)
{
	struct job *job = job_by_id(frame->id);
	uint32_t count = frame->length >= 4 ? get_u32(frame->payload) : 0;

	if (job != NULL)
		job->unacknowledged -= count < job->unacknowledged ? count : job->unacknowledged;
}

static void kill_job(uint32_t id)
{
	const struct job *job = job_by_id(id);

	if (job != NULL && job != &jobs[0] && !job->exited)
		kill(-job->pid, SIGKILL); /* its whole session: children hold the pipes as well */
}

static void stop(const struct frame *frame)
{
	uint32_t grace_ms = frame->length >= 4 ? get_u32(frame->payload) : 0;

	stopping = 1;
	kill_at_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)grace_ms * 1000000u;
	if (jobs[0].used && !jobs[0].exited)
		kill(jobs[0].pid, SIGTERM);
}

static void handle(struct frame *frame)
{
	if (frame->kind == 'S')
		set_up(frame);
	else if (frame->kind == 'X')
		execute(frame);
	else if (frame->kind == 'K')
		kill_job(frame->id);
	else if (frame->kind == 'T')
		take_input(frame);
	else if (frame->kind == 'C')
		end_input(frame->id);
	else if (frame->kind == 'W')
		resize(frame);
	else if (frame->kind == 'G')
		send_signal(frame);
	else if (frame->kind == 'A')
		take_acknowledgement(frame);
	else if (frame->kind == 'R')
		send_file(frame);
	else if (frame->kind == 'M')
		send_memory(frame->id);
	else if (frame->kind == 'Q')
		stop(frame);
	free(frame->payload);
	frame->payload = NULL;
}

/* Read exactly, waiting; the host sends whole frames, so a started one is soon complete. */
static int read_exactly(char *at, size_t length)
{
	struct pollfd waiting = {.fd = agent, .events = POLLIN};
	ssize_t got;

	while (length > 0) {
		got = read(agent, at, length);
		if (got == 0)
			return 0;
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return 0;
		if (got < 0)
			poll(&waiting, 1, -1);
		else {
			at += got;
			length -= (size_t)got;
		}
	}
	return 1;
}

static void receive(void)
{
	char header[HEADER];
	struct frame frame;

	if (!read_exactly(header, HEADER))
		power_off(); /* the host's end is closed: nobody is left whom we serve */
	frame.length = get_u32(header);
	frame.kind = (unsigned char)header[4];
	frame.id = get_u32(header + 5);
	errno = EMSGSIZE;
	if (frame.length > MAX_FRAME || (frame.payload = malloc(frame.length + 1u)) == NULL)
		fail("receive a request of %zu bytes", frame.length);
	if (!read_exactly(frame.payload, frame.length))
		power_off();
	frame.payload[frame.length] = 0;
	handle(&frame);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void watch(struct pollfd *list, nfds_t *count, int file, short events)
{
	if (file < 0)
		return;
	list[*count].fd = file;
	list[*count].events = events;
	list[*count].revents = 0;
	++*count;
}

/* A program that ended may have left its pipes to a child: what is in them is read without waiting for more. */
static int must_drain(void)
{
	int i, room = space(&agent_queue) >= CHUNK + HEADER;

	for (i = 0; i < MAX_JOBS; i++)
		if (jobs[i].used && jobs[i].exited && output_room(&jobs[i]) > 0 &&
		    (i == 0 ? space(&main_out) >= CHUNK && space(&main_err) >= CHUNK : room))
			return 1;
	return 0;
}

static int wait_ms(void)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	if (must_drain())
		return 0;
	if (!stopping)
		return jobs[0].used && !age_told ? IDLE_MS : -1;
	return now_ns >= kill_at_ns ? 0 : (int)((kill_at_ns - now_ns) / 1000000u) + 1;
}

static nfds_t watch_all(struct pollfd *list)
{
	nfds_t count = 0;
	int i, room = space(&agent_queue) >= CHUNK + HEADER;

	watch(list, &count, agent, (short)(POLLIN | (agent_queue.length ? POLLOUT : 0)));
	watch(list, &count, signals, POLLIN);
	if (main_out.length)
		watch(list, &count, port_out, POLLOUT);
	if (main_err.length)
		watch(list, &count, port_err, POLLOUT);
	for (i = 0; i < MAX_JOBS; i++) {
		if (!jobs[i].used)
			continue;
		if (jobs[i].stdin_left || jobs[i].typed_length)
			watch(list, &count, jobs[i].in, POLLOUT);
		if (output_room(&jobs[i]) == 0)
			continue;
		if (i == 0 ? space(&main_out) >= CHUNK : room)
			watch(list, &count, jobs[i].out, POLLIN);
		if (i == 0 ? space(&main_err) >= CHUNK : room)
			watch(list, &count, jobs[i].err, POLLIN);
	}
	return count;
}

static void serve(void)
{
	struct pollfd list[4 + 3 * MAX_JOBS] = {{0}};
	struct signalfd_siginfo signal_info;
	int i, idle = poll(list, watch_all(list), wait_ms()) == 0, answered;

	while (read(signals, &signal_info, sizeof signal_info) > 0)
		;
	reap();
	if (list[0].revents & (POLLIN | POLLHUP))
		receive();
	for (i = 0; i < MAX_JOBS; i++)
		if (jobs[i].used)
			serve_job(&jobs[i]);
	answered = main_out.length > 0;
	flush(&main_out, port_out);
	flush(&main_err, port_err);
	flush(&agent_queue, agent);
	/* the main command has been heard, or waits itself: now it costs nobody anything */
	if (!age_told && jobs[0].used && (answered || idle))
		tell_kernel_age();
	if (stopping && jobs[0].used && !jobs[0].exited && clock_ns(CLOCK_MONOTONIC) >= kill_at_ns)
		kill(-1, SIGKILL);
}

int main(void)
{
	sigset_t child;

	mark_userspace();
	mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mount_at("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_at("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	load_modules();
	bring_up_loopback();
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	port_out = open_port(PORT_OUT);
	port_err = open_port(PORT_ERR);
	agent = open_port(PORT_AGENT);
	send_frame('I', 0, "", 0);
	flush(&agent_queue, agent); /* still blocking: returns when the host's end is connected */
	set_nonblocking(agent, 1);
	set_nonblocking(port_out, 1);
	set_nonblocking(port_err, 1);
	for (;;)
		serve();
}
