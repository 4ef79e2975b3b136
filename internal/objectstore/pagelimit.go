package objectstore

import (
	"fmt"
	"io"
	"net/http"
)

// maxPage is the size limit of a page of a list, in bytes. A page has 1000 objects, whose names have up to 1024 characters:
// encoded, these are 3 MiB, beside some hundred bytes for each object.
const maxPage = 8 << 20

// limitedPages are the requests to a store whose pages of lists are limited, which the client reads into memory as a whole.
type limitedPages struct {
	http.RoundTripper
	host string // name of the store, for messages
}

// RoundTrip sends a request.
func (l limitedPages) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(r)
	if q := r.URL.Query(); err == nil && (q.Has("list-type") || q.Has("uploads") && r.Method == http.MethodGet) {
		res.Body = &limitedPage{res.Body, maxPage, fmt.Sprintf("the object store %s sends a list below %q of which a page has more than %d bytes", l.host, q.Get("prefix"), maxPage)}
	}
	return res, err
}

// limitedPage is the body of an answer that fails after left bytes.
type limitedPage struct {
	io.ReadCloser
	left    int64
	problem string
}

// Read reads up to one byte more than left.
func (l *limitedPage) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, newError(l.problem, listHint, nil)
	}
	return n, err
}
