/* The limit that ganeti-hookd is measured against: nothing but the kernel's work.
 *
 *   limit watch DIR PROGRAM   spawns PROGRAM for each file renamed into DIR
 *   limit death PROGRAM       reads process IDs from standard input, one a line, and
 *                             spawns PROGRAM when such a process ends
 *   limit hold DIR PROGRAM PID   for each file renamed into DIR stops the process, spawns PROGRAM,
 *                             waits for it, and lets the process go on
 *   limit flood PROGRAM       reads numbers from standard input, one a line; runs PROGRAM so often, 16 at
 *                             a time, and says how many nanoseconds that took
 */
#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void spawn(char *program)
{
	char *argv[] = { program, NULL }, *envp[] = { NULL };
	pid_t pid;

	if (posix_spawn(&pid, program, NULL, NULL, argv, envp) == 0)
		waitpid(pid, NULL, 0);
}

static int watch(const char *dir, char *program, pid_t held)
{
	char buffer[64 * 1024] __attribute__((aligned(8)));
	int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, dir, IN_MOVED_TO) < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t got = read(fd, buffer, sizeof buffer);
		for (char *at = buffer; at < buffer + got;) {
			struct inotify_event *event = (void *)at;
			if (held)
				kill(held, SIGSTOP);
			spawn(program);
			if (held)
				kill(held, SIGCONT);
			at += sizeof *event + event->len;
		}
	}
}

static int death(char *program)
{
	char line[32];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		struct pollfd fd = { .fd = syscall(SYS_pidfd_open, atoi(line), 0), .events = POLLIN };
		puts("watching");
		fflush(stdout);
		poll(&fd, 1, -1);
		spawn(program);
		close(fd.fd);
	}
	return 0;
}

static long long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int flood(char *program)
{
	enum { AT_A_TIME = 16 };
	char *argv[] = { program, NULL }, *envp[] = { NULL };
	char line[32];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		long long begin = nanoseconds();
		int left = atoi(line), running = 0;
		pid_t pid;

		while (left > 0 || running > 0) {
			if (left > 0 && running < AT_A_TIME) {
				if (posix_spawn(&pid, program, NULL, NULL, argv, envp) != 0)
					return 1;
				left--;
				running++;
			} else {
				waitpid(-1, NULL, 0);
				running--;
			}
		}
		printf("%lld\n", nanoseconds() - begin);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "watch") == 0)
		return watch(argv[2], argv[3], 0);
	if (argc == 5 && strcmp(argv[1], "hold") == 0)
		return watch(argv[2], argv[3], atoi(argv[4]));
	if (argc == 3 && strcmp(argv[1], "death") == 0)
		return death(argv[2]);
	if (argc == 3 && strcmp(argv[1], "flood") == 0)
		return flood(argv[2]);
	return 2;
}
