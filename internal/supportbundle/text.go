package supportbundle

import "bytes"

// compressed are the first bytes of formats in which no secret can be found without unpacking.
var compressed = []struct{ format, begin string }{
	{"gzip", "\x1f\x8b"}, {"compress", "\x1f\x9d"}, {"bzip2", "BZh"}, {"xz", "\xfd7zXZ\x00"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"lz4", "\x04\x22\x4d\x18"},
	{"zip", "PK\x03\x04"}, {"7z", "7z\xbc\xaf\x27\x1c"},
}

// unsearchableReason returns why secrets in content cannot be found; "" if they can: it is text in UTF-8, or in another
// encoding that has the characters of ASCII in one byte each.
func unsearchableReason(content []byte) string {
	const so = ": secrets in it cannot be found"
	for _, c := range compressed {
		if bytes.HasPrefix(content, []byte(c.begin)) {
			return "it is compressed (" + c.format + ")" + so
		}
	}
	switch {
	case bytes.HasPrefix(content, []byte("\xff\xfe")), bytes.HasPrefix(content, []byte("\xfe\xff")):
		return "it is text in UTF-16" + so
	case bytes.IndexByte(content, 0) >= 0: // also in UTF-16 without a byte order mark, and in archives whose beginning was cut off
		return "it is not text" + so
	}
	return ""
}
