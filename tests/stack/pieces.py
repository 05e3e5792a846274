"""What requests are put together from: right, odd and wrong."""

from siege import WORDS

METHODS = (
    *(b"GET", b"POST", b"HEAD", b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"),
    *(b"CONNECT", b"PROPFIND", b"MKCOL", b"PRI", b"get", b"A_B-C", b"G T", b"G\0T", b""),
    b"A" * 300,
)
VERSIONS = (
    *(b"HTTP/1.1",) * 8,
    *(b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3", b"http/1.1", b"HTTP/1.10"),
    b"",
)
PIECES = (
    *(b"/", b"//", b"/./", b"/../", b"/%2e%2e/", b"/..;/", b"%2f", b"%5c", b"\\", b"/%252e/"),
    *(b"...", b"v1", b"chat", b"completions", b"models", b"health", b"metrics", b"completions/"),
    *(b"V1", b"-/status", b"-/replica-health", b"-/error/400", b"@healthy", b"invocations"),
    *(b"tokenize", b"v1/embeddings", b"pause", b"openapi.json", b"index.html", b"etc/passwd"),
    *(b"nginx.conf", b"%00", b"%0d%0aX:%20a", b"%0a", b"%ff", b"%c0%ae", b"\xff", b"%", b"%zz"),
    *(b";a=b", b"#a", b"*", b"\t", b" ", b"\x7f", b"'", b'"', b"$uri", b"{}", b"~", b"a" * 3000),
    *(b"?a", b"&b=c"),
)
BEFORE = (
    *(b"http://a", b"HTTP://a:80", b"https://engine", b"http://127.0.0.1:9", b"http://[::1]"),
    *(b"http://u:p@a", b"http://", b"ftp://a", b"a:443", b"//a", b"file://", b"http:/"),
)
HOSTS = (
    *(b"a",) * 8,
    *(b"engine", b"probe", b"localhost:1", b"[::1]", b"127.0.0.1", b"a.", b"..", b"a/b", b"a b"),
    *(b"a\0", b"\xff", b"_", b"", b"A" * 300, b"a:b:c", b"$host", b"a?b"),
)
NAMES = (
    *(b"Accept", b"Accept-Encoding", b"Connection", b"Content-Type", b"Cookie", b"Expect", b"From"),
    *(b"Forwarded", b"HTTP2-Settings", b"If-Match", b"If-Modified-Since", b"If-None-Match"),
    *(b"If-Range", b"If-Unmodified-Since", b"Keep-Alive", b"Max-Forwards", b"Origin", b"Range"),
    *(b"Proxy-Authorization", b"Proxy-Connection", b"Referer", b"TE", b"Trailer", b"Upgrade"),
    *(b"User-Agent", b"Via", b"X-Accel-Buffering", b"X-Accel-Redirect", b"X-Forwarded-For"),
    *(b"X-Forwarded-Host", b"X-HTTP-Method-Override", b"X-Original-URL", b"X-Real-IP"),
    *(b"X-Request-ID", b"X-Rewrite-URL", b"x_y"),
)
VALUES = (
    *(b"*", b"close", b"keep-alive", b"upgrade", b"h2c", b"websocket", b"100-continue", b"chunked"),
    *(b"trailers", b"gzip", b"identity", b"bytes=0-1", b"/-/replica-health", b"/metrics", b'"a"'),
    *(b"PUT", b"GET", b"127.0.0.1", b"no", b"Thu, 01 Jan 1970 00:00:00 GMT", b"\xff\xfe"),
    b"a" * 900,
)
# Which parts of a request may be others than usual.
ODD = ("method", "path", "start", "version", "host", "headers")
FRAMES = (
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 40"),
    *(b"Content-Length: 99999999", b"Content-Length: -1", b"Content-Length: 1_0"),
    *(b"Content-Length : 5", b"content-length:5", b"Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: Chunked", b"transfer-encoding:chunked ", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding:", b"Transfer-Encoding : chunked"),
    *(b" Transfer-Encoding: chunked", b"Transfer_Encoding: chunked"),
)
BODIES = (
    *(b"", b"{}", b"[" * 200, b"\0" * 40, b"\xff\xfe", b"a=b&c=d", b'{"stream":true}'),
    f'{{"messages": "{WORDS}"}}'.encode(),
)
PARTS = (
    *(b"0\r\n\r\n", b"0\r\n", b"2\r\n{}\r\n", b"5\r\nGET /\r\n", b"2;a=b\r\n{}\r\n", b"ffff\r\n"),
    *(b"0\n\n", b"\r\n", b"-1\r\n", b"0x2\r\n{}\r\n", b"{}", b"X: a\r\n", b"\0"),
    b"00000000000000000",
)
GREETINGS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"SSH-2.0-a\r\n"),
    *(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", b"EHLO a\r\n", b"*1\r\n$4\r\nPING\r\n", b"\r\n\r\n"),
    *(b"GET /health\r\n", b"POST /v1/chat/completions\r\n", b"GET /smug\r\n", b"\0" * 50),
)
