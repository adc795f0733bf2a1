// Package origin reads where a request came from and with what: the peer's address, the
// client program, the command of an exec. All of it but the peer is the client's own word.
package origin

import "strings"

// maxNames bounds the client and version, which come from the client.
const maxNames = 128

// SourceIP returns the last hop of sourceIPs: all others are headers of the request.
func SourceIP(ips []string) string {
	if len(ips) == 0 {
		return ""
	}
	return ips[len(ips)-1]
}

// Client splits a user agent such as
//
//	kubectl/v1.34.1 (darwin/arm64) kubernetes/93248f9
//
// into the program and its version; a program without a slash has none.
func Client(userAgent string) (client, version string) {
	first := userAgent
	if end := strings.IndexFunc(first, func(r rune) bool { return r <= ' ' || r == 0x7f }); end >= 0 {
		first = first[:end]
	}
	client, version, _ = strings.Cut(first, "/")
	return clip(client), clip(version)
}

func clip(s string) string {
	if len(s) <= maxNames {
		return s
	}
	return strings.ToValidUTF8(s[:maxNames], "")
}

// HasCommand reports whether requests for the resource carry command= parameters: exec
// into a pod, and the kubelet's own exec behind the node proxy.
func HasCommand(resource, subresource string) bool {
	return resource == "pods" && subresource == "exec" || resource == "nodes" && subresource == "proxy"
}

// Command appends the decoded command= parameters of requestURI to dst, in order. What is
// badly encoded is taken as it stands: evidence is not dropped for a stray percent sign.
func Command(dst []string, requestURI string) []string {
	_, query, ok := strings.Cut(requestURI, "?")
	for ok && query != "" {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		if key, value, found := strings.Cut(parameter, "="); found && decode(key) == "command" {
			dst = append(dst, decode(value))
		}
	}
	return dst
}

// decode is url.QueryUnescape without its error. The result is valid UTF-8.
func decode(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && i+2 < len(s) && unhex(s[i+1]) < 16 && unhex(s[i+2]) < 16:
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return strings.ToValidUTF8(string(out), "\ufffd")
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
