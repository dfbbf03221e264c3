/* A job process that looks at the clock.
 *
 *   job LIVELOCK   holds the livelock, says "locked", and reads lines GAP FROM TO: renames FROM to TO
 *                  from its first thread, as a job process publishes, and looks at the clock for 0.4 s
 *                  or until it has stood still for GAP microseconds. Says "WENT_ON HELD_UNTIL RENAMED"
 *                  in microseconds: how long it went on after the rename (0: it stood still within),
 *                  from the rename's beginning until it went on, and when the rename was over, since
 *                  the epoch; or "never".
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define WATCHED 400000

static long long micros(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void publish(const char *from, const char *to, long long gap)
{
	long long begin = micros(CLOCK_MONOTONIC), end, last, now;
	long long renamed;

	if (rename(from, to) != 0) {
		puts("failed");
		return;
	}
	renamed = micros(CLOCK_REALTIME);
	end = last = micros(CLOCK_MONOTONIC);
	if (end - begin >= gap) {
		printf("0 %lld %lld\n", end - begin, renamed);
		return;
	}
	for (; last - end < WATCHED; last = now) {
		now = micros(CLOCK_MONOTONIC);
		if (now - last >= gap) {
			printf("%lld %lld %lld\n", last - end ? last - end : 1, now - begin, renamed);
			return;
		}
	}
	puts("never");
}

int main(int argc, char **argv)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char from[4096], to[4096];
	long long gap;
	int fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("locked");
	while (scanf("%lld %4095s %4095s", &gap, from, to) == 3)
		publish(from, to, gap);
	return 0;
}
