package problem

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
)

// ExplainConnection returns why a request over the network failed, in the words of the operating
// system and without the request itself, which Go's errors repeat: "connection refused". The caller
// names what did not answer.
func ExplainConnection(err error) string {
	var request *url.Error
	var network net.Error
	var call *os.SyscallError
	switch text := explain(err); {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case errors.As(err, &call):
		return call.Err.Error()
	case strings.Contains(text, "connection refused"): // gRPC keeps only the text
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.As(err, &request):
		return request.Err.Error()
	default:
		return ExplainTimeout(text)
	}
}
