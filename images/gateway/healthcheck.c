/* Exits 0 when the gateway answers GET /health on its own socket, with whatever verdict about the
 * engines: the gateway is healthy when it can say that they are not. It is too while clients take
 * all of its connections: nginx accepts another one then and closes it, and were that a failure,
 * any client could have the gateway restarted. An image without a shell and
 * without curl needs a program for this; linked statically, it needs nothing else either. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int is_closed(void)
{
	return errno == EPIPE || errno == ECONNRESET;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/run/listen/sock";
	const char request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	const struct timeval patience = {.tv_sec = 4};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char answer[64] = "";
	size_t have = 0;
	ssize_t count = 0;

	if (strlen(path) >= sizeof address.sun_path) {
		fprintf(stderr, "%s: longer than a socket's path may be\n", path);
		return 1;
	}
	strcpy(address.sun_path, path);
	signal(SIGPIPE, SIG_IGN);
	const int gateway = socket(AF_UNIX, SOCK_STREAM, 0);
	if (gateway < 0)
		return fail("socket");
	setsockopt(gateway, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(gateway, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(gateway, (struct sockaddr *)&address, sizeof address) != 0)
		return fail(path);
	if (write(gateway, request, sizeof request - 1) != (ssize_t)(sizeof request - 1))
		return is_closed() ? 0 : fail("write");
	while (have < sizeof answer - 1 &&
	       (count = read(gateway, answer + have, sizeof answer - 1 - have)) > 0)
		have += (size_t)count;
	if (count < 0)
		return is_closed() && have == 0 ? 0 : fail("read");
	if (have == 0)
		return 0;
	if (strncmp(answer, "HTTP/1.1 200", 12) != 0 && strncmp(answer, "HTTP/1.1 503", 12) != 0) {
		fprintf(stderr, "unexpected answer: %s\n", answer);
		return 1;
	}
	return 0;
}
