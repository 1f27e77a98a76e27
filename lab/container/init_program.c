/*
 * Process 1 of a container that asked for one (--init): starts the program, hands every signal on to it, reaps
 * what others leave behind, and ends as the program ends.
 *
 * It is one static program, because the image that it is bound into is not ours. The program gets a process group
 * of its own, and the terminal if there is one, so that what is typed reaches it and not us.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_FOUND 127
#define NOT_EXECUTABLE 126
#define FAILED 125
#define BY_SIGNAL 128

/* A fault of our own must end us, and not wait to be handed on. */
static const int ours[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};

static int start(char **argv, const sigset_t *mask) {
	setpgid(0, 0);
	if (isatty(STDIN_FILENO)) tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTOU, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int code = errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
	fprintf(stderr, "init: exec %s failed: %s\n", argv[0], strerror(errno));
	return code;
}

/* Reap all that has ended; return whether the program is among them, with its exit code. */
static int reap(pid_t program, int *code) {
	int status, ended = 0;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != program) continue;
		ended = 1;
		*code = WIFEXITED(status) ? WEXITSTATUS(status) : BY_SIGNAL + WTERMSIG(status);
	}
	return ended;
}

int main(int argc, char **argv) {
	char **program = argv + 1;
	if (argc > 1 && strcmp(*program, "--") == 0) program++;
	if (*program == NULL) {
		fprintf(stderr, "usage: init [--] PROGRAM [ARGUMENT...]\n");
		return FAILED;
	}
	sigset_t all, before;
	sigfillset(&all);
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) sigdelset(&all, ours[i]);
	signal(SIGTTOU, SIG_IGN); /* tcsetpgrp by one who is not in front would stop us */
	signal(SIGTTIN, SIG_IGN);
	sigprocmask(SIG_SETMASK, &all, &before);

	pid_t pid = fork();
	if (pid < 0) {
		fprintf(stderr, "init: fork: %s\n", strerror(errno));
		return FAILED;
	}
	if (pid == 0) return start(program, &before);

	int code = FAILED;
	for (;;) {
		int number = sigwaitinfo(&all, NULL);
		if (number == SIGCHLD) {
			if (reap(pid, &code)) return code;
		} else if (number > 0) {
			kill(pid, number);
		}
	}
}
